"""Lines: threads that want messages of the same FIFO queue at the same time are served together, by one of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

    ``asked``: when it asked for the claim (monotonic seconds); after ``patience`` seconds from now it stops waiting.
    ``burials``: what it has to do when it has served others.
    """

    __slots__ = (
        "burials", "called", "come_again", "error", "got", "is_served", "leads", "limit", "sort_out", "until", "_asked",
        "_claim",
    )

    def __init__(self, claim: Claim, limit: int, sort_out: SortOut, asked: float, patience: float):
        self.limit = limit
        self.sort_out = sort_out
        self.until = time.monotonic() + patience
        self.burials: list[tuple[Burial, list[Message]]] = []
        self.got: list[Message] = []
        self.error: BaseException | None = None
        self.come_again = self.is_served = self.leads = False
        #: Released when it is served, unless it leads, or when it is to lead.
        self.called = threading.Lock()
        self.called.acquire()
        self._claim = claim
        self._asked = asked

    def claim(self) -> Claim:
        """The claim, as if it had been asked for now: waiting takes nothing off its time."""
        waited = int((time.monotonic() - self._asked) * 1000)
        claim = self._claim
        return replace(claim, expires=claim.expires + waited, keep_until=claim.keep_until + waited)

    def serve(self, got: Sequence[Message] = (), error: BaseException | None = None, come_again: bool = False) -> None:
        """Say what it gets. It goes on at once, unless it leads."""
        self.got, self.error, self.come_again, self.is_served = list(got), error, come_again, True
        if not self.leads:
            self.called.release()


class Late:
    """Up to ``most`` callers of a line, as they are when they are asked for."""

    def __init__(self, line: Line, most: int):
        self.callers: list[Caller] = []
        self._line = line
        self._most = most

    def take(self) -> list[Caller]:
        """Those who wait now."""
        self.callers += self._line.next(self._most - len(self.callers))
        return self.callers


class Line:
    """Those who wait for messages of one queue. It exists while one of them leads."""

    __slots__ = ("rests_until", "tenure", "_mutex", "_waiting")

    def __init__(self, mutex: threading.Lock):
        #: What one leader passes on to the next, and when the next may ask for it (monotonic seconds).
        self.tenure: Tenure | None = None
        self.rests_until = 0.0
        self._waiting: deque[Caller] = deque()
        self._mutex = mutex

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, caller: Caller) -> None:
        """Let a caller wait. The mutex is held."""
        self._waiting.append(caller)

    def next(self, most: int) -> list[Caller]:
        """Those who have waited longest, to be served now."""
        with self._mutex:
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    @contextmanager
    def late(self, callers: Sequence[Caller]) -> Iterator[Late]:
        """Those that have come while others were served, for what is left over: who gets nothing waits on, in front."""
        late = Late(self, TOGETHER - len(callers))
        try:
            yield late
        finally:
            with self._mutex:
                self._waiting.extendleft(caller for caller in reversed(late.callers) if not caller.is_served)

    def leave(self, caller: Caller) -> bool:
        """Wait no longer; False for a caller that is being served, or that leads. The mutex is held."""
        if caller.leads or caller not in self._waiting:
            return False
        self._waiting.remove(caller)
        return True

    def promote(self) -> None:
        """Let the first of those who wait lead; it stays in the line until it begins. The mutex is held."""
        self._waiting[0].leads = True
        self._waiting[0].called.release()


class Lines:
    """The lines of all queues. ``serve`` serves those in a line until a time (monotonic seconds), some at least.

    It leaves the line a tenure to be passed on, or none. What it raises is raised for those it was serving.
    """

    def __init__(self, serve: Callable[[QueueInfo, Line, Caller, float], None]):
        self._serve = serve
        self._lines: dict[str, Line] = {}
        self._mutex = threading.Lock()

    def join(self, info: QueueInfo, caller: Caller) -> None:
        """Be served, and perhaps serve others. Raises Busy if nobody has begun with it in time."""
        with self._mutex:
            line = self._lines.get(info.key)
            if line is None:
                line = self._lines[info.key] = Line(self._mutex)
                caller.leads = True
            line.add(caller)
        if not caller.leads:
            self._wait(line, caller)
        if caller.leads:
            self._lead(info, line, caller)

    def _wait(self, line: Line, caller: Caller) -> None:
        if caller.called.acquire(timeout=max(0.0, caller.until - time.monotonic())):
            return
        with self._mutex:
            if line.leave(caller):
                raise Busy("other requests have kept this queue busy for too long")
        caller.called.acquire()  # it is being served, which ends by itself, or it leads

    def _lead(self, info: QueueInfo, line: Line, leader: Caller) -> None:
        """Serve those who wait, then let one of those who have come since do the same."""
        try:
            time.sleep(max(0.0, line.rests_until - time.monotonic()))
            self._serve(info, line, leader, max(leader.until, time.monotonic() + AT_LEAST))
        finally:
            self._hand_over(line, info.key)

    def _hand_over(self, line: Line, key: str) -> None:
        with self._mutex:
            tenure = line.tenure
            if len(line) and tenure is not None and not tenure.is_over and tenure.lasts < TENURE:
                line.promote()
                return
        line.tenure = None  # this thread still leads
        was_long = tenure is not None and tenure.lasts >= TENURE
        try:
            if tenure is not None:
                tenure.end()
        finally:
            with self._mutex:
                if len(line):
                    line.rests_until = time.monotonic() + REST if was_long else 0.0
                    line.promote()
                else:
                    del self._lines[key]
