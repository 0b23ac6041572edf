"""Times of many connections, with one timer for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

#: Seconds between two turns of the wheel.
STEP = 0.5


class Timed(Protocol):
    """Something that has a time to be called at."""

    #: The turn at which it is called, see Wheel.set; 0 for none.
    turn: int

    def due(self, now: float) -> None:
        """The time has come. ``now``: monotonic seconds."""


class Wheel:
    """Calls ``due`` of those whose time has come, and ``each_turn`` at every turn. All of it is the loop's thread's.

    It stands still while nobody is in it.
    """

    def __init__(self, each_turn: Callable[[float], None]):
        self._each_turn = each_turn
        self._turns: dict[int, set[Timed]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0

    def set(self, timed: Timed, at: float) -> None:
        """Have it called at ``at`` (monotonic seconds), within STEP, and not when it was set to before."""
        self.remove(timed)
        if self._timer is None:
            self._last = int(time.monotonic() / STEP)
            self._timer = asyncio.get_running_loop().call_later(STEP, self._turn)
        timed.turn = max(self._last + 1, int(at / STEP) + 1)
        self._turns.setdefault(timed.turn, set()).add(timed)

    def remove(self, timed: Timed) -> None:
        """Don't call it any more."""
        if timed.turn:
            together = self._turns.get(timed.turn)
            if together is not None:
                together.discard(timed)
                if not together:
                    del self._turns[timed.turn]
            timed.turn = 0

    def _turn(self) -> None:
        now = time.monotonic()
        current = int(now / STEP)
        self._timer = asyncio.get_running_loop().call_later(STEP, self._turn)
        while self._last < current:
            self._last += 1
            for timed in self._turns.pop(self._last, ()):
                timed.turn = 0
                timed.due(now)
        self._each_turn(now)
        if not self._turns:
            self._timer.cancel()
            self._timer = None
