"""A lock for many or for one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from gateway.core.errors import Busy


class _Waiter:
    """Somebody in the line; ``granted`` is set by the thread that lets it in, under the lock's mutex."""

    __slots__ = ("alone", "granted")

    def __init__(self, alone: bool):
        self.alone = alone
        self.granted = threading.Event()


class SharedLock:
    """Held by any number of sharers or by one owner; first come, first served, so that nobody starves."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._line: deque[_Waiter] = deque()
        self._sharers = 0
        self._owned = False

    @property
    def owned(self) -> bool:
        """Does somebody hold it alone?"""
        return self._owned

    @contextmanager
    def shared(self, timeout: float) -> Iterator[None]:
        """Hold together with other sharers. Raises Busy after ``timeout`` seconds."""
        self._acquire(_Waiter(alone=False), timeout)
        try:
            yield
        finally:
            with self._mutex:
                self._sharers -= 1
                self._admit()

    @contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Hold alone. Raises Busy after ``timeout`` seconds."""
        self._acquire(_Waiter(alone=True), timeout)
        try:
            yield
        finally:
            with self._mutex:
                self._owned = False
                self._admit()

    def _acquire(self, waiter: _Waiter, timeout: float) -> None:
        with self._mutex:
            self._line.append(waiter)
            self._admit()
        if waiter.granted.wait(timeout):
            return
        with self._mutex:
            if waiter.granted.is_set():  # in the very last moment
                return
            self._line.remove(waiter)
            self._admit()  # the next in the line may fit in with those inside
        raise Busy("other requests have kept this queue busy for too long")

    def _admit(self) -> None:
        """Let in those at the head of the line that fit together with those inside."""
        while self._line and not self._owned:
            if self._line[0].alone:
                if self._sharers:
                    return
                self._owned = True
            else:
                self._sharers += 1
            self._line.popleft().granted.set()


class SharedLocks:
    """A SharedLock for each key, as long as somebody uses it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, SharedLock] = WeakValueDictionary()
        self._mutex = threading.Lock()

    def get(self, key: str) -> SharedLock:
        """The lock for a key."""
        with self._mutex:
            lock = self._locks.get(key)
            if lock is None:
                lock = self._locks[key] = SharedLock()
            return lock

    def is_owned(self, key: str) -> bool:
        """Does somebody hold the lock for a key alone?"""
        lock = self._locks.get(key)
        return lock is not None and lock.owned
