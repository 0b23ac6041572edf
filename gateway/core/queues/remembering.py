"""What a process remembers of queues, so that not each request asks the side-store.

Rule: memory may delay the effect of a change of metadata, and nothing else. So a queue that does not exist is never
remembered, nor what was read before a change that this process knows of; and a call that finds nothing to do under a
remembered queue asks the side-store (Directory.on).
"""

from __future__ import annotations

import threading
import time
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache

#: Seconds for which a queue's metadata is used without asking the side-store. Another gateway's change acts later by
#: up to this much.
KNOWN_FOR = 1.0

#: Queues that a process knows at the same time.
KNOWN_AT_MOST = 20_000


class Read(Protocol):
    """Something that was read from the side-store; ``read_at``: monotonic seconds when the reading began."""

    @property
    def read_at(self) -> float: ...


T = TypeVar("T", bound=Read)


class Remembered(Generic[T]):
    """Things read at most KNOWN_FOR seconds ago, by key."""

    def __init__(self) -> None:
        self._things: LRUCache[str, T] = LRUCache(KNOWN_AT_MOST)
        self._lock = threading.Lock()
        self._changes = 0

    def get(self, key: str) -> T | None:
        """The thing, if it was read recently."""
        with self._lock:
            thing = self._things.get(key)
        return thing if thing is not None and time.monotonic() - thing.read_at < KNOWN_FOR else None

    def changes(self) -> int:
        """A number to give to `put`; ask for it before reading."""
        return self._changes

    def put(self, key: str, thing: T | None, changes: int) -> None:
        """Remember what was read, unless something has changed in between: it may be older than the change."""
        with self._lock:
            if changes != self._changes:
                return
            if thing is None:
                self._things.pop(key, None)
            else:
                self._things[key] = thing

    def forget(self, key: str) -> None:
        """The thing has changed."""
        with self._lock:
            self._changes += 1
            self._things.pop(key, None)
