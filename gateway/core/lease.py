"""The landing lease of a queue: its holder alone gives messages positions at the queue's end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gateway.core.batches import Lander
from gateway.core.errors import Busy
from storage.base import SideStore
from storage.errors import LeaseLost, StoreError
from storage.landed import LEASE_MARGIN, LEASE_RETRY
from storage.model import Message, number

#: Seconds after which a lister renews its lease before it lands more.
LEASE_USE = 2.0

#: Seconds between two attempts to get the lease of a FIFO queue: for claims of such a queue it is asked for often.
ASK_AGAIN = 2 * LEASE_RETRY


class LandingLease(Lander):
    """A queue's lease, as one call takes, renews and releases it.

    ``key`` is the queue's, ``owner`` the name that this process takes leases under. Until the ``deadline`` (monotonic
    seconds) it is waited for. ``in_order``: what was fetched under a lease that is lost must not land under the next
    one, since others may have landed what comes after it, and have given it away.
    """

    def __init__(self, store: SideStore, key: str, owner: str, deadline: float, in_order: bool = False):
        self._in_order = in_order
        self._store = store
        self._key = key
        self.owner = owner
        self._deadline = deadline
        #: The last position used, and when the lease was asked for or renewed (monotonic seconds).
        self.last = 0
        self._asked = 0.0
        #: How often it was taken: more than once if it was lost in between.
        self.taken = 0

    def take(self) -> None:
        """Wait for the lease. Raises Busy at the deadline, and QueueGone."""
        while True:
            self._asked = time.monotonic()
            last = self._store.landed.acquire_lease(self._key, self.owner, self._seconds, self._in_order)
            if last is not None:
                self.last = last
                self.taken += 1
                return
            if time.monotonic() > self._deadline:
                raise Busy("another gateway has been landing messages of this queue for too long")
            time.sleep(ASK_AGAIN if self._in_order else LEASE_RETRY)

    def take_again(self, lost: LeaseLost) -> None:
        """See Lander."""
        if self._in_order:
            raise lost
        self.take()

    @property
    def is_due(self) -> bool:
        """Must it be renewed before more is landed?"""
        return time.monotonic() - self._asked > LEASE_USE

    def renew(self) -> bool:
        """Let it last for the landing of one more batch; False if it is lost."""
        asked = time.monotonic()
        renewed = self._store.landed.renew_lease(self._key, self.owner, self._seconds)
        self._asked = asked
        return renewed

    def number(self, messages: Sequence[Message]) -> None:
        """See Lander."""
        self.last = number(messages, self.last, self._store.now())

    def land(self, key: str, messages: Sequence[Message]) -> set[str]:
        """See Lander. Raises LeaseLost."""
        return self._store.landed.land(key, messages, owner=self.owner)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Release it afterwards."""
        try:
            yield
        except StoreError:
            # A write whose outcome is unknown may still happen: nobody else lands before the lease is over.
            raise
        except BaseException:
            self.release()
            raise
        self.release()

    def release(self) -> None:
        """Give it back, with the last position used. Raises StoreError."""
        self._store.landed.release_lease(self._key, self.owner, self.last, self._in_order)

    @property
    def _seconds(self) -> float:
        """How long it lasts: a landing that begins within LEASE_USE is over before somebody else has it."""
        return LEASE_USE + self._store.timeout + LEASE_MARGIN
