"""The two brokers of a queue that moves from one to the other, as one bridge.

The old broker's messages come first. A message that the new one hands out may be younger than one that came into the
old one while we looked: what was answered 201 there before the younger one was posted is seen by a second look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from bridges.base import Batch, Bridge, Envelope


class MovingBatch(Batch):
    """A batch of one of the two bridges."""

    __slots__ = ("batch", "bridge")

    def __init__(self, bridge: Any, batch: Batch):
        super().__init__(batch.envelopes)
        self.bridge = bridge
        self.batch = batch


class MovingBridge(Bridge):
    """Both together. ``is_switched`` says whether posts go to the new one. The two belong to their pools.

    ``is_emptied``: the old one has been empty, and has at most what comes back.
    """

    has_backlog: ClassVar[bool] = True
    cannot_adopt: ClassVar[str] = "the queue is on its way to another pool; try again when it has arrived"

    def __init__(self, old: Any, new: Any, is_switched: Callable[[], bool], is_emptied: bool = False):
        self._old = old
        self._new = new
        self._both = [bridge for bridge in (old, new) if bridge.has_backlog]
        self._is_switched = is_switched
        self._is_emptied = is_emptied
        self.timeout = max(bridge.timeout for bridge in self._both)

    def create(self, queue: str, in_order: bool = False) -> None:
        """See Bridge."""
        how = {"in_order": True} if in_order else {}
        self._new.create(queue, **how)
        if not self._is_switched():
            self._old.create(queue, **how)

    def add_copy(self, queue: str, copy: str, create: bool = True) -> None:
        """See Bridge."""
        for bridge in self._both:
            if bridge is self._new or not self._is_switched():
                bridge.add_copy(queue, copy, create)

    def remove_copy(self, queue: str, copy: str, keep: bool = False) -> None:
        """See Bridge."""
        for bridge in self._both:
            bridge.remove_copy(queue, copy, keep)

    def delete(self, queue: str) -> None:
        """See Bridge."""
        for bridge in self._both:
            bridge.delete(queue)

    def purge(self, queue: str) -> None:
        """See Bridge."""
        for bridge in self._both:
            bridge.purge(queue)

    def depth(self, queue: str) -> int:
        """See Bridge."""
        return sum(bridge.depth(queue) for bridge in self._both)

    def is_drained(self, queue: str) -> bool:
        """See Bridge."""
        return all(bridge.is_drained(queue) for bridge in self._both)

    def publish(self, queue: str, envelopes: Sequence[Envelope], copied: bool = False) -> None:
        """See Bridge. Posts go another way (publishing.py); this is for what is put beside the queue."""
        self._both[0].publish(queue, envelopes, copied)

    def deposit(self, queue: str, envelopes: Sequence[Envelope]) -> None:
        """See Bridge."""
        self._both[0].deposit(queue, envelopes)

    def fetch(self, queue: str, limit: int, in_order: bool = False) -> Batch:
        """See Bridge."""
        if in_order:
            return self._fetch_in_order(queue, limit)
        if len(self._both) == 1:
            return self._fetched(self._both[0], queue, limit)
        if not self._is_emptied:
            batch = self._fetched(self._old, queue, limit)
            if batch.envelopes:
                return batch
        # A claimer must not fetch long after it has begun, see landing.py: what is probably empty comes later.
        younger = self._fetched(self._new, queue, limit)
        if not younger.envelopes and not self._is_emptied:
            return younger
        try:
            older = self._came_meanwhile(queue, limit)
        except BaseException:
            self._give_back(younger)
            raise
        if older is None:
            return younger
        self._give_back(younger)
        return older

    def _fetch_in_order(self, queue: str, limit: int) -> MovingBatch:
        """As fetch, of a FIFO queue: an empty batch of the old one may mean that another gateway has what is in front.

        So nothing is taken from the new one until the mover has seen for certain that the old one is empty. From then
        on only posts whose confirm was late come into the old one.
        """
        *before, last = self._both
        if before and (not self._is_emptied or self._old.depth(queue)):
            return self._fetched(self._old, queue, limit, in_order=True)
        younger = self._fetched(last, queue, limit, in_order=True)
        if before and younger.envelopes and self._old.depth(queue):
            # It has come since, and perhaps it was answered before what we have here was posted.
            self.requeue(younger)
            return self._fetched(self._old, queue, limit, in_order=True)
        return younger

    def _came_meanwhile(self, queue: str, limit: int) -> MovingBatch | None:
        """What has come into the old one, or has come back there; None if there is nothing."""
        if self._is_emptied and not self._old.depth(queue):
            return None
        batch = self._fetched(self._old, queue, limit)
        return batch if batch.envelopes else None

    def _give_back(self, batch: MovingBatch) -> None:
        if batch.envelopes:
            self.requeue(batch)

    @staticmethod
    def _fetched(bridge: Any, queue: str, limit: int, **how: bool) -> MovingBatch:
        return MovingBatch(bridge, bridge.fetch(queue, limit, **how))

    def settle(self, batch: Batch) -> None:
        """See Bridge."""
        assert isinstance(batch, MovingBatch)  # nosec B101  # for the type checker
        batch.bridge.settle(batch.batch)

    def settle_others(self, batch: Batch, kept: Sequence[Envelope]) -> None:
        """See Bridge."""
        assert isinstance(batch, MovingBatch)  # nosec B101
        batch.bridge.settle_others(batch.batch, kept)

    def requeue(self, batch: Batch) -> None:
        """See Bridge."""
        assert isinstance(batch, MovingBatch)  # nosec B101
        batch.bridge.requeue(batch.batch)

    def ping(self) -> None:
        """See Bridge."""
        for bridge in self._both:
            bridge.ping()

    def close(self) -> None:
        """See Bridge: their pools close them."""
