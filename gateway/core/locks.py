"""A lock for many or for one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.core.errors import Busy


class SharedLock:
    """Held by any number of sharers or by one owner; a waiting owner goes before later sharers."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._sharers = 0
        self._owned = False
        self._waiting = 0

    @contextmanager
    def shared(self, timeout: float) -> Iterator[None]:
        """Hold together with other sharers. Raises Busy after ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._owned and not self._waiting, timeout):
                raise Busy("other requests have kept this queue busy for too long")
            self._sharers += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharers -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Hold alone. Raises Busy after ``timeout`` seconds."""
        with self._changed:
            self._waiting += 1
            try:
                if not self._changed.wait_for(lambda: not self._owned and not self._sharers, timeout):
                    raise Busy("other requests have kept this queue busy for too long")
                self._owned = True
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._owned = False
                self._changed.notify_all()
