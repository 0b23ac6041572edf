"""The thread with an event loop that all of a process share who wait; it starts when the first one comes."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gateway.loops import new_loop

LOG = logging.getLogger(__name__)

#: Threads for what blocks: calls of the core for feeds and WebSockets. Those that land messages mostly sleep.
HANDS = 16

#: Seconds that the thread is waited for at the end.
ENDING = 5.0

#: Makes the protocol of a connection.
MakeProtocol = Callable[[], Any]


class StreamLoop:
    """Everything but ``call``, ``start``, ``take`` and ``close`` happens in the loop's own thread."""

    def __init__(self) -> None:
        self.hands = ThreadPoolExecutor(HANDS, thread_name_prefix="stream-hand")
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Have the loop call a function soon; any thread may ask. Nothing happens once the loop is closed."""
        self._asked(function, *args)

    def _asked(self, function: Callable[..., Any], *args: Any) -> bool:
        """See call; False if the loop is closed."""
        with self._lock:
            loop = self._started()
            if loop is not None:
                loop.call_soon_threadsafe(function, *args)
            return loop is not None

    def take(self, make_protocol: MakeProtocol, sock: socket.socket, ahead: bytes, closed: Callable[[], None]) -> None:
        """Let a protocol have a connection, of which ``ahead`` has been read already; any thread may ask.

        ``closed`` is called if the connection could not be taken, or else has to be called by the protocol when it is
        lost.
        """
        if not self._asked(self._take, make_protocol, sock, ahead, closed):
            sock.close()
            closed()

    def start(self, work: Any) -> None:
        """Run a coroutine as a task of its own, in the loop's thread. Its failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def close(self) -> None:
        """End the loop, and its thread."""
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(ENDING)
        self.hands.shutdown(wait=False, cancel_futures=True)

    def _started(self) -> asyncio.AbstractEventLoop | None:
        if self._loop is None and not self._is_closed:
            self._loop = new_loop()
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name="stream", daemon=True)
            self._thread.start()
        return None if self._is_closed else self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            for task in self._tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        finally:
            loop.close()

    def _take(
        self, make_protocol: MakeProtocol, sock: socket.socket, ahead: bytes, closed: Callable[[], None]
    ) -> None:
        self.start(self._connect(make_protocol, sock, ahead, closed))

    async def _connect(
        self, make_protocol: MakeProtocol, sock: socket.socket, ahead: bytes, closed: Callable[[], None]
    ) -> None:
        try:
            _, protocol = await asyncio.get_running_loop().connect_accepted_socket(make_protocol, sock)
        except OSError:  # the client has gone
            sock.close()
            closed()
            return
        if ahead:
            protocol.data_received(ahead)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("a waiting connection has failed", exc_info=error)
