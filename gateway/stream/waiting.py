"""Requests that wait for messages: they are suspended, and resumed when there may be some or their time is over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from gateway.core.arrivals import Interest
from gateway.core.core import Core
from gateway.core.errors import TooFast
from gateway.environ import DRAINING, RESUMED, SUSPEND
from gateway.observe.metrics import OVER_QUOTA, WAITING_REQUESTS
from gateway.stream.loop import StreamLoop
from gateway.stream.watched import Watch
from gateway.stream.watches import Watches

#: Seconds for which a look at a queue says enough for a request whose time is over; else it looks once more itself.
FRESH = 0.5

#: Seconds that those who wait get to be answered at the end.
ENDING = 5.0

#: States of a request: a thread looks for it, it is suspended, it has been answered or its client has gone.
LOOKING, SUSPENDED, LEFT = range(3)


class WaitingRequest:
    """See gateway.web.waiting.Place. What begins with an underscore happens in the loop's thread, but ``_gone``."""

    def __init__(
        self, waiting: Waiting, interest: Interest, environ: dict[str, Any], seconds: int, takes: bool,
        again: Callable[[], Any],
    ):
        self.error: Exception | None = None
        self.project = interest.key[0]
        self._waiting = waiting
        self._interest = interest
        #: What had been told before the first look.
        self._told = interest.told
        self._environ = environ
        self._deadline = time.monotonic() + seconds
        self._takes = takes
        self._again = again
        self._looked_at = 0.0
        self._is_over = self._was_suspended = self._is_news = False
        self._state = LOOKING
        self._suspension: Any = None
        self._watch: Watch | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- what the threads that look call ------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """See Place."""
        return self._is_over or self._waiting.is_draining

    def suspend(self) -> bool:
        """See Place. False, too, if its time is over, if it was not suspended, or if the server can't do that."""
        environ, waiting = self._environ, self._waiting
        suspend = environ.get(SUSPEND)
        if suspend is None or DRAINING in environ or waiting.is_draining or time.monotonic() >= self._deadline:
            return False
        if not self._was_suspended:
            waiting.add(self)
            self._was_suspended = True
        suspension = suspend(environ, self._gone)
        if suspension is None:
            return False
        self._suspension = suspension
        self._looked_at = time.monotonic()
        waiting.streams.call(self._settle)
        return True

    def leave(self, found: bool = False, more: bool = False) -> None:
        """See Place."""
        if self._was_suspended:
            self._waiting.streams.call(self._leave, found, more)
        else:
            self._waiting.arrivals.leave(self._interest)

    # -- what happens while it is suspended ---------------------------------------------------------------------

    def _gone(self) -> None:
        """The client has gone: called by the server's main thread."""
        self._waiting.streams.call(self._leave)

    def _settle(self) -> None:
        """It has been suspended after a look that found nothing."""
        if self._state == LEFT:  # the client was quicker
            return
        self._state = SUSPENDED
        if self._waiting.is_draining:
            self.end()
        elif self._watch is None:
            project, queue = self._interest.key
            self._watch = self._waiting.watches.watch(project, queue, self._woken, consumes=self._takes)
            self._timer = asyncio.get_running_loop().call_later(
                max(0.0, self._deadline - time.monotonic()), self._time_over
            )
            if self._interest.told != self._told:  # after the look, perhaps
                self._resume()
        elif self._is_news:
            self._resume()
        elif time.monotonic() >= self._deadline:
            self._time_over()
        else:
            self._watch.looked(False)

    def _woken(self) -> None:
        if self._state == SUSPENDED:
            self.error = self._watch.error if self._watch is not None else None
            self._resume()
        else:
            self._is_news = True  # it may have looked before

    def _time_over(self) -> None:
        # The timer, of which there is one, may be a little early: nothing may wait for the rest of the time.
        self._deadline = min(self._deadline, time.monotonic())
        if self._state == SUSPENDED:
            since = time.monotonic() - FRESH
            self._is_over = self._looked_at > since or (self._watch is not None and self._watch.is_empty(since))
            self._resume()

    def end(self) -> None:
        """Have it answered now, without another look."""
        self._is_over = True
        if self._state == SUSPENDED:
            self._resume()

    def _resume(self) -> None:
        self._state, self._is_news = LOOKING, False
        self._environ[RESUMED] = self._again
        if not self._suspension.resume(self._waiting.application):
            self._environ.pop(RESUMED, None)  # the client has gone, which is told as well

    def _leave(self, found: bool = False, more: bool = False) -> None:
        if self._state == LEFT:
            return
        self._state = LEFT
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            if found:
                self._watch.looked(True, more)
            self._watch.close()
        self._waiting.arrivals.leave(self._interest)
        self._waiting.remove(self)


class Waiting:
    """See gateway.web.waiting.Places. One for a Gateway. ``most``: requests of one project that wait, 0 for any number.

    ``application`` is what requests are resumed with; set before the first one waits.
    """

    application: Callable[..., Iterable[bytes]]

    def __init__(self, core: Core, streams: StreamLoop, most: int):
        self.streams = streams
        self.arrivals = core.arrivals
        self.watches = Watches(core, streams)
        #: Is everybody to be answered now?
        self.is_draining = False
        self._most = most
        self._lock = threading.Condition()
        self._requests: set[WaitingRequest] = set()
        self._by_project: Counter[str] = Counter()

    def enter(
        self, project: str, queue: str, environ: dict[str, Any], seconds: int, takes: bool, again: Callable[[], Any]
    ) -> WaitingRequest:
        """See Places; any thread may call."""
        return WaitingRequest(self, self.arrivals.listen(project, queue), environ, seconds, takes, again)

    def add(self, request: WaitingRequest) -> None:
        """A request begins to wait. Raises TooFast; any thread may call."""
        with self._lock:
            number = self._by_project[request.project]
            if not self._most or number < self._most:
                self._by_project[request.project] = number + 1
                self._requests.add(request)
                WAITING_REQUESTS.inc()
                return
        OVER_QUOTA.labels("waiting").inc()
        raise TooFast(f"This project may have {self._most} requests waiting at a time, and has them; try again in 1 s")

    def remove(self, request: WaitingRequest) -> None:
        """A request waits no longer."""
        with self._lock:
            self._requests.discard(request)
            self._by_project[request.project] -= 1
            if not self._by_project[request.project]:
                del self._by_project[request.project]
            WAITING_REQUESTS.dec()
            self._lock.notify_all()

    def drain(self) -> None:
        """Answer all who wait, and let nobody wait any more. Any thread may call; it does not block."""
        self.is_draining = True
        with self._lock:
            if self._requests:
                self.streams.call(self._end_all)

    def _end_all(self) -> None:
        with self._lock:
            requests = list(self._requests)
        for request in requests:
            request.end()

    def close(self) -> None:
        """Drain, and wait a while until all have been answered: they need the core."""
        self.drain()
        with self._lock:
            self._lock.wait_for(lambda: not self._requests, ENDING)
        if self.watches.has_begun:
            self.streams.call(self.watches.close)
