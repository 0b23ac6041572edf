"""What one project may use: requests and bytes in a second, and queues."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.core.errors import QuotaExceeded, TooFast
from gateway.core.queue_lock import locked
from gateway.observe.metrics import OVER_QUOTA
from storage.base import SideStore

#: Projects whose rate a process remembers. With noauth clients invent their names; beyond this the one that has asked
#: for nothing for the longest time is forgotten, and begins anew.
PROJECTS_AT_MOST = 20_000

_SECOND = 1_000_000_000


class RateLimit:
    """At most ``rate`` units a second for each project, of which one second's worth may come at once.

    A token bucket: whoever has any of it left may take more than that, and waits the longer afterwards, so that a body
    larger than ``rate`` bytes gets through. ``unit``, like "requests", names the limit; ``clock`` gives nanoseconds.
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


class QueueQuota:
    """At most ``most`` queues for each project, counted in the side-store, whatever number of gateways make them."""

    def __init__(self, most: int, store: SideStore):
        self._most = most
        self._store = store
        self._refused = OVER_QUOTA.labels("queues")

    @contextmanager
    def room(self, project: str, q: str) -> Iterator[None]:
        """Hold the right to make queue ``q``, alone in the project; one that exists needs none.

        Raises QuotaExceeded, and Busy after a while.
        """
        if self._store.catalogue.get_queue(q) is not None:
            yield
            return
        self._check(project, q)
        # The lock has a name that no queue can have.
        with locked(self._store, f"{project}/", "other queues of this project are being made; try again"):
            self._check(project, q)
            yield

    def _check(self, project: str, q: str) -> None:
        # Counted first: if somebody else has just made this very queue it is there now.
        if self._store.catalogue.count_queues(project) >= self._most and self._store.catalogue.get_queue(q) is None:
            self._refused.inc()
            raise QuotaExceeded(f"This project may have {self._most} queues, and has them; delete one to make another")
