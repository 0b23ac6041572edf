"""Turns: while landed messages go from one side-store to another, nobody else touches those of the queue.

Processes that use a queue work side by side, each in a place of its own; the mover takes all places for its turn.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from gateway.core.errors import Busy
from storage.base import SideStore
from storage.errors import StoreError
from storage.landed import LEASE_RETRY

LOG = logging.getLogger(__name__)

#: Places: processes that can use the queue at the same time. Others wait for one of them.
PLACES = 6

#: Seconds for which a process keeps its place while its threads have calls to make.
LONGEST = 0.05

#: Seconds after which the place of a process that has died is free. No call of a side-store lasts that long.
LOST_AFTER = 15.0

BUSY = "messages of this queue are moving to another pool; try again"


class Turns:
    """The turns of this process at one queue. ``name``: begins the names of the locks that are the places."""

    def __init__(self, store: SideStore, name: str):
        self._store = store
        self._names = [f"{name}/{number}" for number in range(PLACES)]
        #: The place that we had last: we look there first.
        self._last = self._names[0]
        self._owner = uuid4().hex
        self._changed = threading.Condition()
        #: The place that is ours and since when (monotonic seconds), and how many threads use it.
        self._place: str | None = None
        self._since = 0.0
        self._users = 0
        #: Is a thread taking a place, or giving ours up?
        self._is_changing = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """This process has a place. Raises Busy after a while."""
        self._enter(time.monotonic() + self._store.timeout)
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process has a place, and this one only for the caller. Raises Busy after a while."""
        deadline = time.monotonic() + self._store.timeout
        taken: list[str] = []
        try:
            for name in self._names:  # everybody takes them in this order
                while self._store.catalogue.lock(name, self._owner, LOST_AFTER) is None:
                    _wait(deadline)
                taken.append(name)
            yield
        finally:
            for name in taken:
                self._unlock(name)

    def _enter(self, deadline: float) -> None:
        with self._changed:
            while self._is_changing or self._place is not None:
                if not self._is_changing and time.monotonic() - self._since < LONGEST:
                    self._users += 1
                    return
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise Busy(BUSY)
            self._is_changing = True
        place = None
        try:
            place = self._find_place(deadline)
        finally:
            with self._changed:
                self._is_changing = False
                if place is not None:
                    self._place, self._since, self._users = place, time.monotonic(), 1
                self._changed.notify_all()

    def _find_place(self, deadline: float) -> str:
        while True:
            for name in [self._last, *self._names]:
                if self._store.catalogue.lock(name, self._owner, LOST_AFTER) is not None:
                    self._last = name
                    return name
            _wait(deadline)

    def _leave(self) -> None:
        with self._changed:
            self._users -= 1
            if self._users or self._place is None:
                return
            place, self._place, self._is_changing = self._place, None, True
        try:
            self._unlock(place)
            if time.monotonic() - self._since > LONGEST:
                time.sleep(2 * LEASE_RETRY)  # others have waited
        finally:
            with self._changed:
                self._is_changing = False
                self._changed.notify_all()

    def _unlock(self, name: str) -> None:
        try:
            self._store.catalogue.unlock(name, self._owner)
        except StoreError as error:
            LOG.warning("lock %r stays for up to %d s: %s", name, LOST_AFTER, error)


def _wait(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Busy(BUSY)
    time.sleep(LEASE_RETRY)
