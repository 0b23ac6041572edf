"""Keeps a pool that does not answer from holding the threads that the queues of other pools need.

Each call to a broker or a side-store that hangs holds a thread until its timeout. While some calls to a pool are slow
a pool may hold a part of the threads, and others are refused; once a call has hung until its end only one at a time
tries whether the pool is back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: Seconds without an answer after which calls that wait for one count as slow. A healthy broker or side-store has
#: answered long before, and one that has much to do answers others meanwhile.
SLOW = 0.5

#: Seconds after which a pool that did not answer is tried again.
PAUSE = 1.0


class Guard:
    """Counts the calls to one broker or side-store. ``at_once``: threads that it may hold while calls are slow.

    ``error``: raised with a text instead of a call that is not made.
    """

    def __init__(self, pool: str, at_once: int, error: type[Exception]):
        self._pool = pool
        self._at_once = at_once
        self._error = error
        self._lock = threading.Lock()
        self._running: dict[int, float] = {}
        self._answered_at = 0.0
        self._failed_at: float | None = None
        self._trying: int | None = None
        #: A guard watches only while there are other pools whose queues could suffer.
        self.is_on = False

    @property
    def is_shut(self) -> bool:
        """Has the last call hung until its end, so that the next ones are refused?"""
        return self._failed_at is not None

    def run(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The result of a call. Raises ``error`` if it must not be made now, and whatever it raises."""
        caller = threading.get_ident()
        self._enter(caller)
        try:
            result = call(*args, **kwargs)
        except BaseException as error:
            self._leave(caller, isinstance(error, self._error))
            raise
        self._leave(caller, False)
        return result

    def _enter(self, caller: int) -> None:
        now = time.monotonic()
        with self._lock:
            if self._failed_at is not None:
                if self._trying is not None or now - self._failed_at < PAUSE:
                    raise self._error(f"pool {self._pool} did not answer in time; it is tried again every second")
                self._trying = caller
            elif len(self._running) >= self._at_once and self._is_silent(now):
                raise self._error(f"pool {self._pool} answers slowly, and enough requests wait for it")
            self._running[caller] = now

    def _is_silent(self, now: float) -> bool:
        return now - max(self._answered_at, min(self._running.values())) > SLOW

    def _leave(self, caller: int, failed: bool) -> None:
        now = time.monotonic()
        with self._lock:
            began = self._running.pop(caller, now)
            if not failed:
                self._failed_at = None
                self._answered_at = now
            elif self._failed_at is not None or now - began > SLOW:
                self._failed_at = now
            if self._trying == caller:
                self._trying = None
