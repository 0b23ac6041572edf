"""libcurl's transfers, driven by the loop: it watches libcurl's sockets and keeps its time, and no thread waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pycurl

#: Seconds that an idle connection is kept: no longer, as the name may lead elsewhere by then.
KEPT_FOR = 30

#: Bits of a socket's events: the same for selectors, and for what libcurl says and is told.
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Sockets:
    """What libcurl waits for, of all that make transfers on a loop: the loop itself watches one descriptor.

    libcurl says for each request anew which socket it waits for, and a loop takes longer for that than the system.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._selector, self._ready)

    def watch(self, descriptor: int, events: int, ready: Callable[[int, int], None]) -> None:
        """Have ``ready`` called with the descriptor and what it is ready for; 0 events: no longer."""
        if not events:
            with suppress(KeyError):
                self._selector.unregister(descriptor)
            return
        try:
            self._selector.register(descriptor, events, ready)
        except KeyError:
            self._selector.modify(descriptor, events, ready)

    def _ready(self) -> None:
        for key, events in self._selector.select(0):
            key.data(key.fd, events)

    def close(self) -> None:
        """No transfer is under way any more."""
        self._loop.remove_reader(self._selector)
        self._selector.close()


class Transfers:
    """Transfers that share connections, and no others do. It belongs to the loop that it is created in."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._multi: Any = None
        self._under_way: dict[Any, asyncio.Future[int]] = {}
        #: When libcurl wants to be called again (the loop's time), None for never, and what calls it.
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_called = False
        self._used_at = 0.0
        self._idling: asyncio.TimerHandle | None = None

    async def perform(self, curl: Any) -> int:
        """Make a transfer. What it ends with: a code of libcurl, 0 if all went well."""
        if self._multi is None:
            self._open()
        future = self._under_way[curl] = self._loop.create_future()
        self._multi.add_handle(curl)
        try:
            return await future
        finally:
            if self._under_way.pop(curl, None) is not None:  # given up
                self._multi.remove_handle(curl)
            if self._multi is not None:
                self._used()

    def _open(self) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    # -- what libcurl calls; it must not be called from there ---------------------------------------------------

    def _watch(self, wanted: int, descriptor: int, multi: Any, data: Any) -> None:
        """A transfer waits for a socket, or no longer does."""
        self._sockets.watch(descriptor, wanted & (READ | WRITE), self._ready)

    def _set_timer(self, milliseconds: int) -> None:
        if milliseconds < 0:
            self._due = None
        elif milliseconds == 0:
            self._due = None
            if not self._is_called:
                self._is_called = True
                self._loop.call_soon(self._call)
        else:
            self._due = self._loop.time() + milliseconds / 1000
            self._set_alarm(self._due)

    # -- calling libcurl ----------------------------------------------------------------------------------------

    def _set_alarm(self, due: float) -> None:
        """An earlier alarm stays: it looks then when it is to be called again. Most are never needed."""
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._due > self._loop.time():
            self._set_alarm(self._due)
        else:
            self._due = None
            self._ready(pycurl.SOCKET_TIMEOUT, 0)

    def _call(self) -> None:
        self._is_called = False
        self._ready(pycurl.SOCKET_TIMEOUT, 0)

    def _ready(self, descriptor: int, events: int) -> None:
        if self._multi is None:
            return
        self._multi.socket_action(descriptor, events)
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for curl in done:
                self._ended(curl, 0)
            for curl, code, _ in failed:
                self._ended(curl, code)

    def _ended(self, curl: Any, code: int) -> None:
        self._multi.remove_handle(curl)
        future = self._under_way.pop(curl, None)
        if future is not None and not future.done():
            future.set_result(code)

    # -- ending -------------------------------------------------------------------------------------------------

    def _used(self) -> None:
        self._used_at = self._loop.time()
        if self._idling is None:
            self._idling = self._loop.call_later(KEPT_FOR, self._look_for_idle)

    def _look_for_idle(self) -> None:
        self._idling = None
        left = self._used_at + KEPT_FOR - self._loop.time()
        if self._under_way or left > 0:
            self._idling = self._loop.call_later(max(left, 1.0), self._look_for_idle)
        else:
            self.close()

    def close(self) -> None:
        """Close the connections, until the next transfer. What is under way is given up: have its task cancelled."""
        for timer in self._timer, self._idling:
            if timer is not None:
                timer.cancel()
        self._timer = self._idling = self._due = None
        multi, self._multi = self._multi, None
        if multi is not None:
            for curl in self._under_way:
                multi.remove_handle(curl)
            multi.close()
        self._under_way.clear()
