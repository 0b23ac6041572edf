"""How many requests and bytes one project may use in a second."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.core.errors import TooFast
from gateway.observe.metrics import OVER_QUOTA

#: Projects whose rate a process remembers. With noauth, clients invent their names; beyond this number the project
#: that has asked for nothing for the longest time is forgotten, and starts again with a full bucket.
PROJECTS_AT_MOST = 20_000

_SECOND = 1_000_000_000


class RateLimit:
    """At most ``rate`` units a second for each project, of which one second's worth may come at once.

    A token bucket: a project that has any of it left may take more than that, and waits the longer afterwards, so
    that a body larger than ``rate`` bytes gets through. ``unit``, like "requests", names the limit; ``clock`` gives
    nanoseconds.
    """

    def __init__(self, rate: int, unit: str, clock: Callable[[], int] = time.monotonic_ns):
        self._rate = rate
        self._unit = unit
        self._clock = clock
        #: When each project's bucket is full again.
        self._full_at: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        self._refused = OVER_QUOTA.labels(unit)

    def take(self, project: str, amount: int = 1) -> None:
        """Count ``amount`` units. Raises TooFast, and counts nothing then."""
        now = self._clock()
        with self._lock:
            full_at = max(now, self._full_at.get(project, 0))
            wait = full_at - now - _SECOND
            if wait < 0:
                full_at -= -amount * _SECOND // self._rate  # rounded up
            self._full_at[project] = full_at
            self._full_at.move_to_end(project)
            if len(self._full_at) > PROJECTS_AT_MOST:
                self._full_at.popitem(last=False)
        if wait >= 0:
            self._refused.inc()
            seconds = max(1, -(-wait // _SECOND))
            raise TooFast(
                f"This project may use {self._rate} {self._unit} per second; try again in {seconds} s", seconds
            )
