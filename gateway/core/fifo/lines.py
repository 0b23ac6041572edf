"""Lines: threads that want messages of the same FIFO queue at the same time are served together, by one of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.core.burial import Burial, SortOut
from gateway.core.errors import Busy
from gateway.core.fifo.tenure import Tenure
from gateway.core.queues.info import QueueInfo
from storage.model import Claim, Message

#: Threads that are served together, and no more.
TOGETHER = 16

#: Seconds that a thread has left to serve others and itself, even if it has waited for its turn until its time was up.
AT_LEAST = 1.0

#: Seconds for which a process keeps the lease while its threads have calls to make. Then others may have it.
TENURE = 0.05

#: Seconds after which the same process asks for it again, if it has threads that wait: others ask more often.
REST = 0.015


class Caller:
    """A thread that waits for messages. What it gets is ``got``; or ``error`` is raised, or it is to ``come_again``.

    ``until``: monotonic seconds at which it stops waiting. ``burials``: what it has to do when it has served others.
    """

    __slots__ = (
        "burials", "called", "come_again", "error", "got", "is_served", "leads", "limit", "sort_out", "until", "_asked",
        "_claim",
    )

    def __init__(self, claim: Claim, limit: int, sort_out: SortOut, patience: float):
        self.limit = limit
        self.sort_out = sort_out
        self.burials: list[tuple[Burial, list[Message]]] = []
        self.until = time.monotonic() + patience
        self.got: list[Message] = []
        self.error: BaseException | None = None
        self.come_again = False
        self.is_served = False
        self.leads = False
        self.called = threading.Lock()
        self._claim = claim
        self._asked = time.monotonic()

    def claim(self) -> Claim:
        """The claim, as if it had been asked for now: waiting takes nothing off its time."""
        waited = int((time.monotonic() - self._asked) * 1000)
        claim = self._claim
        return replace(claim, expires=claim.expires + waited, keep_until=claim.keep_until + waited)

    def serve(self, got: Sequence[Message] = (), error: BaseException | None = None, come_again: bool = False) -> None:
        """Say what it gets."""
        self.got, self.error, self.come_again, self.is_served = list(got), error, come_again, True


class Line:
    """Those who wait for messages of one queue. It exists while one of them leads."""

    __slots__ = ("rests_until", "tenure", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Caller] = deque()
        #: What one leader passes on to the next, and when the next may ask for it (monotonic seconds).
        self.tenure: Tenure | None = None
        self.rests_until = 0.0


class Lines:
    """The lines of all queues. ``serve`` serves callers of one queue under the line's tenure, and raises nothing."""

    def __init__(self, serve: Callable[[QueueInfo, Line, Sequence[Caller], float], None]):
        self._serve = serve
        self._lines: dict[str, Line] = {}
        self._mutex = threading.Lock()

    def join(self, info: QueueInfo, caller: Caller) -> None:
        """Be served, and perhaps serve others. Raises Busy if nobody has begun with it in time."""
        caller.is_served = caller.leads = False
        caller.burials = []
        caller.called.acquire(blocking=False)
        with self._mutex:
            line = self._lines.get(info.key)
            if line is None:
                line = self._lines[info.key] = Line()
                caller.leads = True
            line.waiting.append(caller)
        if not caller.leads:
            self._wait(line, caller)
        if caller.leads:
            self._lead(info, line)

    def _wait(self, line: Line, caller: Caller) -> None:
        if caller.called.acquire(timeout=max(0.0, caller.until - time.monotonic())):
            return
        with self._mutex:
            if caller in line.waiting and not caller.leads:
                line.waiting.remove(caller)
                raise Busy("other requests have kept this queue busy for too long")
        caller.called.acquire()  # it is being served, which ends by itself, or it leads

    def _lead(self, info: QueueInfo, line: Line) -> None:
        """Serve those who wait, then let one of those who have come since do the same."""
        with self._mutex:
            callers = [line.waiting.popleft() for _ in range(min(TOGETHER, len(line.waiting)))]
        try:
            until = max(callers[0].until, time.monotonic() + AT_LEAST)
            time.sleep(max(0.0, line.rests_until - time.monotonic()))
            self._serve(info, line, callers, until)
        finally:
            for caller in callers:
                if not caller.is_served:
                    caller.serve(error=Busy("another request broke off what it did for this one too; try again"))
            for caller in callers[1:]:
                caller.called.release()
            self._hand_over(line, info.key)

    def _hand_over(self, line: Line, key: str) -> None:
        with self._mutex:
            if line.waiting and line.tenure is not None and not line.tenure.is_over and line.tenure.lasts < TENURE:
                _promote(line)
                return
        tenure, line.tenure = line.tenure, None  # this thread still leads
        try:
            if tenure is not None:
                tenure.end()
        finally:
            with self._mutex:
                if line.waiting:
                    line.rests_until = time.monotonic() + REST if tenure is not None else 0.0
                    _promote(line)
                else:
                    del self._lines[key]


def _promote(line: Line) -> None:
    """Let the first of those who wait lead; it stays in the line till it begins."""
    line.waiting[0].leads = True
    line.waiting[0].called.release()
