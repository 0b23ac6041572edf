"""A lock for many or for one."""

from __future__ import annotations

import threading
from collections import deque
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

    def shared(self, timeout: float) -> Hold:
        """Hold together with other sharers. Raises Busy after ``timeout`` seconds."""
        return Hold(self, False, timeout)

    def exclusive(self, timeout: float) -> Hold:
        """Hold alone. Raises Busy after ``timeout`` seconds."""
        return Hold(self, True, timeout)

    def acquire(self, alone: bool, timeout: float) -> None:
        """See shared and exclusive, which release it, too."""
        with self._mutex:
            if not self._line and not self._owned and not (alone and self._sharers):
                self._owned = alone
                self._sharers += not alone
                return
            waiter = _Waiter(alone)
            self._line.append(waiter)
        if waiter.granted.wait(timeout):
            return
        with self._mutex:
            if waiter.granted.is_set():  # in the very last moment
                return
            self._line.remove(waiter)
            self._admit()  # the next in the line may fit in with those inside
        raise Busy("other requests have kept this queue busy for too long")

    def release(self, alone: bool) -> None:
        """Let go of it."""
        with self._mutex:
            self._owned = False  # it is not when somebody shares it
            self._sharers -= not alone
            if self._line:
                self._admit()

    def _admit(self) -> None:
        """Let in those at the head of the line that fit together with those inside."""
        while self._line and not self._owned:
            alone = self._line[0].alone
            if alone and self._sharers:
                return
            self._owned = alone
            self._sharers += not alone
            self._line.popleft().granted.set()


class Hold:
    """A lock as it is held in a ``with`` statement."""

    __slots__ = ("_alone", "_lock", "_timeout")

    def __init__(self, lock: SharedLock, alone: bool, timeout: float):
        self._lock = lock
        self._alone = alone
        self._timeout = timeout

    def __enter__(self) -> None:
        self._lock.acquire(self._alone, self._timeout)

    def __exit__(self, *_: object) -> None:
        self._lock.release(self._alone)


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
