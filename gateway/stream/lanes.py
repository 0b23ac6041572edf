"""Work for a few threads, in lanes, of which none may have all the threads."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from gateway.stream.loop import StreamLoop

#: Threads that the work of one lane may have at the same time.
AT_ONCE = 8

#: Does the work in a thread; may block, must not raise.
Work = Callable[[], Any]


class Lanes:
    """A lane for each pool: one that does not answer keeps the threads that its own work has, and no others.

    All of it is the loop's thread's.
    """

    def __init__(self, streams: StreamLoop):
        self._streams = streams
        self._waiting: defaultdict[str, deque[tuple[Work, Callable[[Any], None]]]] = defaultdict(deque)
        self._running: defaultdict[str, int] = defaultdict(int)

    def do(self, lane: str, work: Work, done: Callable[[Any], None]) -> None:
        """Have a thread do some work, and then the loop call ``done`` with what came of it."""
        self._waiting[lane].append((work, done))
        self._go_on(lane)

    def _go_on(self, lane: str) -> None:
        waiting = self._waiting[lane]
        while waiting and self._running[lane] < AT_ONCE:
            self._running[lane] += 1
            self._streams.hands.submit(self._run, lane, *waiting.popleft())
        if not waiting and not self._running[lane]:
            del self._waiting[lane], self._running[lane]

    def _run(self, lane: str, work: Work, done: Callable[[Any], None]) -> None:
        result = work()
        self._streams.call(self._done, lane, done, result)

    def _done(self, lane: str, done: Callable[[Any], None], result: Any) -> None:
        self._running[lane] -= 1
        self._go_on(lane)
        done(result)
