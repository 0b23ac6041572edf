"""How many Idempotency-Keys are remembered for one project."""

from __future__ import annotations

import threading
import time

from cachetools import LRUCache

from gateway.core.errors import QuotaExceeded
from gateway.observe.metrics import OVER_QUOTA
from storage.catalogue import Catalogue

#: Projects that a process knows counts of.
PROJECTS = 10_000

#: Part of the room that was left which a process uses up before it counts again. Others use it up, too.
SHARE = 10

#: Keys that a process records for a project while one of its threads counts.
MEANWHILE = 100

#: Seconds after which a process counts again where there was no room.
AGAIN = 5.0


class KeyQuota:
    """About ``most`` keys for each project: counted when a part of the room that was left is used up.

    Counting takes the side-store a while, so it is not done for each post.
    """

    def __init__(self, most: int, catalogue: Catalogue):
        self._most = most
        self._catalogue = catalogue
        self._refused = OVER_QUOTA.labels("keys")
        self._lock = threading.Lock()
        #: By project: how many more keys this process may record before it counts, and when it has counted.
        self._left: LRUCache[str, tuple[int, float]] = LRUCache(PROJECTS)

    def check(self, scope: str) -> None:
        """Raises QuotaExceeded if the key that has just been recorded is one too many."""
        with self._lock:
            left, counted = self._left.get(scope, (0, float("-inf")))
            if left > 0:
                self._left[scope] = left - 1, counted
                return
            if left < 0 and time.monotonic() - counted < AGAIN:
                raise self._refusal()
            self._left[scope] = MEANWHILE, counted
        free = self._most - self._catalogue.count_reserved(scope, self._most + 1)
        with self._lock:
            self._left[scope] = free // SHARE if free >= 0 else -1, time.monotonic()
        if free < 0:
            raise self._refusal()

    def _refusal(self) -> QuotaExceeded:
        self._refused.inc()
        return QuotaExceeded(
            f"This project may have {self._most} Idempotency-Keys remembered at a time, and has them; post without one,"
            " or try again when some have expired"
        )
