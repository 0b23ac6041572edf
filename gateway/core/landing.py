"""Landing: messages leave the broker and are recorded in the side-store, each once and in order.

In FIFO queues all messages land free, under the queue's lease; gateway.core.fifo tells why.

In others two parties land. A *claimer* lands what it claims in the same write; any number of them work at once. A
*lister* lands messages free, and needs positions that only grow, so it holds the queue's lease meanwhile. So that no
claimer is handed a message that comes after one that a lister is just landing (rule 4), the two keep out of each
other's way: inside a process by a lock, between processes by the lease, which a claimer sees in the query it makes
anyway.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from bridges.base import Batch
from gateway.core.batches import Batches, GivenBack, Lander
from gateway.core.demand import Demand
from gateway.core.fifo.tenure import Tenure
from gateway.core.lease import LandingLease
from gateway.core.locks import SharedLocks
from gateway.core.queues.info import QueueInfo
from storage.base import SideStore
from storage.errors import LeaseLost
from storage.model import Message

#: Seconds within which a claimer begins to fetch after it began to look for a lease, and for which a lister that has
#: just got the lease waits for such claimers in other processes.
SETTLING = 0.02

#: Seconds that one request spends at most on landing messages before it answers with what it has.
LANDING_BUDGET = 4.0

#: How many messages a lister lands in one go.
LANDING_BATCH = 100


class Landing:
    """Lands messages free, for those who list; for those who claim see taking.py."""

    def __init__(self, store: SideStore, locks: SharedLocks, batches: Batches):
        self._store = store
        self._locks = locks
        self._batches = batches
        self._owner = uuid4().hex

    def _lease(self, info: QueueInfo, deadline: float) -> LandingLease:
        return LandingLease(self._store, info.key, self._owner, deadline, info.settings.fifo)

    def tenure(self, info: QueueInfo, deadline: float) -> Tenure:
        """The right to land and claim messages of a FIFO queue. Raises Busy at the deadline, and QueueGone."""
        return Tenure(self._locks.get(info.key), self._lease(info, deadline), deadline)

    def is_landing(self, info: QueueInfo) -> bool:
        """Is another thread landing free messages, some of which may be neither in the broker nor in the side-store?"""
        return self._locks.is_owned(info.key)

    def await_others(self, info: QueueInfo) -> None:
        """Wait for the threads that are landing free messages. Raises Busy."""
        with self._locks.get(info.key).shared(LANDING_BUDGET):
            pass

    def land_free(self, info: QueueInfo, demand: Demand, *, to_the_end: bool = True) -> bool:
        """Land messages free, under the lease, as long as there is a demand for more.

        False when the time was up before that.

        ``to_the_end``: only a fetch that gets nothing says for certain that nothing is left. Without it one that gets
        less than it asked for is enough: a claimer whose fetch is slow may have what comes in between two fetches.
        """
        deadline = time.monotonic() + LANDING_BUDGET
        with self._locks.get(info.key).exclusive(LANDING_BUDGET):
            lease = self._lease(info, deadline)
            lease.take()
            with lease.released():
                more = demand.look()
                if more and not info.settings.fifo:
                    time.sleep(SETTLING)
                while more and time.monotonic() <= deadline:
                    asked = min(more, LANDING_BATCH)
                    taken = lease.taken
                    try:
                        fetched, landed = self.land_next(info, lease, asked)
                    except LeaseLost:
                        lease.take()
                        more = demand.look()
                        continue
                    if not fetched:
                        # What waits in a FIFO queue and can't be had is behind what another gateway has in its hands.
                        return not info.settings.fifo or info.bridge.is_drained(info.broker)
                    # If the lease was lost meanwhile others have landed some, which come before these.
                    more = demand.take(landed) if landed and lease.taken == taken else demand.look()
                    if fetched < asked and not to_the_end:
                        return True
                return not more

    def land_next(
        self, info: QueueInfo, lease: LandingLease, asked: int, lander: Lander | None = None
    ) -> tuple[int, list[Message]]:
        """Land up to ``asked`` messages: how many came out of the broker, and those that have landed now.

        They land free, under the lease, unless another ``lander`` says how.

        Raises LeaseLost when it is lost before the landing, or in a FIFO queue at any time; the messages have gone back
        then.
        """
        batch = info.fetch(asked)
        if not batch.envelopes:
            return 0, []
        if lease.is_due and not self._renewed(info, lease, batch):
            raise LeaseLost(info.key)
        return len(batch.envelopes), self._batches.land(info, batch, lander or lease)

    def land_in_turn(self, info: QueueInfo, batch: Batch, deadline: float) -> None:
        """Land free what a claimer has fetched: to give it back would take a while, and others would overtake it."""
        lease = self._lease(info, deadline)
        with GivenBack(info, batch):
            lease.take()
        with lease.released():
            self._batches.land(info, batch, lease)

    def _renewed(self, info: QueueInfo, lease: LandingLease, batch: Batch) -> bool:
        """Let the lease last for the landing of a batch too; if the lease is lost the batch is given back."""
        renewed = False
        try:
            renewed = lease.renew()
        finally:
            if not renewed:
                info.bridge.requeue(batch)
        return renewed

    @contextmanager
    def interrupted(self, info: QueueInfo) -> Iterator[None]:
        """While this lasts nobody lands free messages. Raises Busy when others don't end in time, and QueueGone."""
        with self._locks.get(info.key).exclusive(LANDING_BUDGET):
            lease = self._lease(info, time.monotonic() + LANDING_BUDGET)
            lease.take()
            with lease.released():
                yield
