"""How fast a subscription is served: slow start, halving under overload, probes after failures, rest and rate limit."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.subscriptions.status import FAILING_FROM
from gateway.notify.clock import elapsed

#: Seconds between probes of a receiver that fails: the first, doubled by each failure up to the last.
FIRST_PROBE, LAST_PROBE = 1.0, 60.0


class Pace:
    """The pace of one subscription. Times are those of ``clock``, in seconds.

    ``window``: deliveries that may be under way at the same time, of ``most`` at most. ``row``: failures since the last
    success. From FAILING_FROM failures on there is one delivery at a time, a probe.
    """

    def __init__(self, most: int, rate: float = 0.0, clock: Callable[[], float] = elapsed):
        """``rate``: deliveries that may begin in a second, 0 for any number."""
        self._clock = clock
        self.most = most
        self.window = 1
        self.in_flight = 0
        self.row = 0
        self.resting_until = 0.0
        self._probe_at = 0.0
        self._probe_delay = FIRST_PROBE
        self._rate = rate
        self._tokens = max(1.0, rate)
        self._filled_at = clock()

    def limit(self, most: int, rate: float) -> None:
        """Set what the subscription's owner has changed."""
        self.most = most
        self.window = min(self.window, most)
        if rate != self._rate:
            self._rate, self._tokens = rate, min(self._tokens, max(1.0, rate))

    @property
    def is_failing(self) -> bool:
        """Are there only probes?"""
        return self.row >= FAILING_FROM

    @property
    def room(self) -> int:
        """How many deliveries may begin besides those under way, rest and rate limit apart."""
        return max(0, (1 if self.is_failing else self.window) - self.in_flight)

    def wait(self) -> float:
        """Seconds until a delivery may begin, as far as time decides it; 0.0: now."""
        now = self._clock()
        wait = self.resting_until - now
        if self.is_failing:
            wait = max(wait, self._probe_at - now)
        if self._rate:
            self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._filled_at) * self._rate)
            self._filled_at = now
            wait = max(wait, (1.0 - self._tokens) / self._rate)
        return max(0.0, wait)

    def begin(self) -> None:
        """A delivery begins."""
        self.in_flight += 1
        if self._rate:
            self._tokens -= 1.0

    def end(self) -> None:
        """A delivery that had begun has ended, whatever came of it."""
        self.in_flight -= 1

    def succeeded(self) -> None:
        """The receiver has taken a message: one success ends a row of failures."""
        self.row = 0
        self._probe_delay = FIRST_PROBE
        self.window = min(self.most, self.window + 1)

    def failed(self, overload: bool) -> None:
        """An attempt has failed. ``overload``: the receiver may have too much to do."""
        self.row += 1
        if overload:
            self.window = max(1, self.window // 2)
        if self.is_failing:
            self.window = 1
            self._probe_at = self._clock() + self._probe_delay
            self._probe_delay = min(LAST_PROBE, 2 * self._probe_delay)

    def rest(self, seconds: float) -> None:
        """The receiver wants to be left alone."""
        self.resting_until = max(self.resting_until, self._clock() + seconds)
        self.window = max(1, self.window // 2)

    def resume(self, row: int, window: int, resting: float) -> None:
        """Go on as another worker has left it. ``resting``: seconds that are left of a rest."""
        self.row = row
        self.window = max(1, min(window, self.most))
        if self.is_failing:
            self.window = 1
        if resting > 0:
            self.resting_until = self._clock() + resting

    def restart(self) -> None:
        """Forget failures and rest: the owner has activated the subscription again."""
        self.row, self.window, self.resting_until = 0, 1, 0.0
        self._probe_delay = FIRST_PROBE
