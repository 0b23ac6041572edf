"""The lock under which a queue is created or deleted: by one request at a time, whatever number of gateways there are.

Creating and deleting touch broker and side-store, one after the other. Without the lock a post that arrives in between
could put its messages where nobody finds them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from uuid import uuid4

from gateway.core.errors import Busy
from gateway.core.queues.names import kind_of
from storage.base import SideStore
from storage.errors import StoreError
from storage.landed import LEASE_RETRY

LOG = logging.getLogger(__name__)

#: Seconds after which the lock is free again if its holder has died.
LOCKED_FOR = 30.0


@dataclass(slots=True)
class Lock:
    """A lock that is held. ``last``: when it was last given up (ms since the epoch), 0 if that is not known.

    ``keep``: seconds for which it stays held when its holder is done.
    """

    last: int
    taken: float
    keep: float = 0.0

    def check(self, needed: float) -> None:
        """Raises Busy unless the lock is held for ``needed`` seconds more."""
        if time.monotonic() - self.taken > LOCKED_FOR - needed:
            raise Busy("this took too long, and another request may have begun; try again")


@contextmanager
def locked(store: SideStore, name: str, why: str) -> Iterator[Lock]:
    """Hold a lock. Raises Busy with ``why`` when others hold it for longer than a store's call may take."""
    owner = uuid4().hex
    deadline = time.monotonic() + store.timeout
    while True:
        taken = time.monotonic()
        last = store.catalogue.lock(name, owner, LOCKED_FOR)
        if last is not None:
            break
        if time.monotonic() > deadline:
            raise Busy(why)
        time.sleep(LEASE_RETRY)
    lock = Lock(last, taken)
    try:
        yield lock
    finally:
        try:
            store.catalogue.unlock(name, owner, lock.keep)
        except StoreError as error:
            LOG.warning("lock %s stays for up to %d s: %s", name, LOCKED_FOR, error)


def locked_queue(store: SideStore, key: str) -> AbstractContextManager[Lock]:
    """Hold the right to create or delete the queue ``key`` (as queue_key returns it). Raises Busy."""
    return locked(store, key, f"this {kind_of(key)} is being created or deleted by another request; try again")
