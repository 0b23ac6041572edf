"""SQLite does not survive a fork: what it remembers of its locks on a file is true for the parent alone."""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakSet

from storage.errors import StoreUnavailable

#: Stores of this process that may have open connections.
_stores: WeakSet[Any] = WeakSet()

_spoilt = False


def watch(store: Any) -> None:
    """Tell the child when this process forks with open connections of a store: ``store._open``, by files."""
    _stores.add(store)


def check() -> None:
    """Raises StoreUnavailable in a process that was forked from one with open connections.

    A new connection there would take it that the file is locked as the parent has locked it, and the parent's end could
    remove the write-ahead log that this process writes to (https://sqlite.org/howtocorrupt.html, 2.6).
    """
    if _spoilt:
        raise StoreUnavailable("the process was forked while it used SQLite; fork before the first request")


def _forked() -> None:
    global _spoilt
    _spoilt = _spoilt or any(store._open for store in _stores)


os.register_at_fork(after_in_child=_forked)
