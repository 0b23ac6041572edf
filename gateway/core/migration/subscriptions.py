"""The subscriptions of a queue that moves: what waits for them goes along.

Posts feed the delivery queues of the pool that they go to, so these are there before. When a subscription *follows*,
those who deliver let go of it first: attempts under way end, and what the broker has handed out goes back. What has
landed goes to the new pool, and from then on it is served there, from the side-store. What is left in the delivery
queue of the old broker lands, in order, as the queue's own backlog does; what the new broker has comes after that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Protocol
from uuid import uuid4

from gateway.core.migration.landed_mover import LandedMover
from gateway.core.pools.pool import Pool
from gateway.core.queues.info import QueueInfo, Reads
from gateway.core.subscriptions.copies import Copies
from gateway.core.subscriptions.holders import Holders
from gateway.core.subscriptions.live import HEEDED_AFTER
from gateway.core.subscriptions.record import LANDING, LETTING_GO, Subscription
from gateway.core.subscriptions.records import SubscriptionRecords
from gateway.core.subscriptions.slots import slot_lock, slot_of
from storage.base import SideStore
from storage.model import TAG_BITS, split_name

#: Seconds between two looks whether those who deliver have let go.
LOOKS = 0.2

#: Milliseconds from now on till no position is given in the old side-store that comes before those in the new one.
AHEAD = 5000

#: Seconds for which a part is held in which nobody delivers: just to see that.
SEEN_FREE = 2.0

#: Does what is in it while nobody changes the queue; raises Moved if the move has gone on without us.
Changing = Callable[[], AbstractContextManager[object]]


class Work(Protocol):
    """The process that does the work of the move."""

    def hold(self) -> None:
        """Keep the right to do the work. Raises Moved when it is lost or the process closes."""

    def wait(self, seconds: float) -> None:
        """Wait, unless the process closes."""


class MovingSubscriptions:
    """Those of the queue ``q``. Each step can be repeated, by another process too.

    Nobody subscribes to a queue that moves, and what is kept for a subscription is not removed; so those that there are
    when the move begins are there when it ends, perhaps as ones that have expired.
    """

    def __init__(self, work: Work, store: SideStore, copies: Copies, q: str):
        self._work = work
        self._store = store
        self._copies = copies
        self._project, self._name = split_name(q)
        self._owner = uuid4().hex

    def _all(self) -> list[Subscription]:
        return list(self._copies.records.of_source(self._project, self._name))

    def _in(self, pool: Pool) -> list[Subscription]:
        return [each for each in self._all() if each.pool == pool.name]

    def _fed(self, target: Pool) -> list[Subscription]:
        """Those that get what is posted, as if all of them were in the new pool."""
        return [replace(each, pool=target.name) for each in self._copies.of(self._project, self._name)]

    # -- before posts go there ----------------------------------------------------------------------------------

    def open(self, source: Pool, target: Pool) -> list[str]:
        """Let what waits for subscriptions land in the new side-store; the keys to bind to the queue's own there."""
        self._open(source, target, AHEAD)
        return self._copies.keys(self._fed(target))

    def _open(self, source: Pool, target: Pool, ahead: int = 0) -> None:
        last = (source.store.now() + ahead) * 1000 << TAG_BITS
        for each in self._all():
            if not each.target:
                target.store.landed.open_queue(each.key, last)
                target.store.landed.open_queue(each.dead_key, last)

    def close(self, target: Pool) -> None:
        """Undo ``open``: the queue stays where it is."""
        for each in self._all():
            if not each.target:
                _remove_keys(target, each)

    def bind(self, info: QueueInfo, target: Pool) -> None:
        """Make the delivery queues on the new broker, and have what is posted there copied into them."""
        if info.notifies:
            reads = Reads.of(info.settings, target.bridge.has_backlog)
            there = replace(info, pool=target, bridge=target.bridge, reads=reads)
            self._copies.prepare(there, self._fed(target))

    def delete(self, pool: Pool) -> None:
        """Delete the delivery queues on a broker: the queue is not there, or not any more."""
        for each in self._all():
            if not each.target:
                pool.bridge.delete(each.copy)

    # -- going along --------------------------------------------------------------------------------------------

    def follow(self, source: Pool, target: Pool, changing: Changing) -> None:
        """Take all of them to the new pool, where they are served from the side-store.

        Nothing that is posted from now on is copied in the old side-store. Raises what ``changing`` and ``hold`` raise.
        """
        here = self._in(source)
        if not here:
            return
        for each in here:
            if not each.moving and not each.target:  # else nobody delivers anything
                self._change(each, changing, moving=LETTING_GO)
        self._await_let_go(source)
        mover = None if source.lands_with(target) else self._close_landed(source, target)
        for each in self._in(source):
            if mover is not None:
                for key in each.key, each.dead_key:
                    for _ in mover.move(key):
                        pass
                _remove_keys(source, each)
            self._change(each, changing, pool=target.name, moving=LANDING)

    def _change(self, each: Subscription, changing: Changing, **fields: Any) -> None:
        with changing():
            _put(self._copies.records, each, **fields)

    def _await_let_go(self, source: Pool) -> None:
        """Wait until nobody has anything of them: each process says so of its own, and dead ones need not be asked."""
        since = time.monotonic()
        while held := [each for each in self._in(source) if each.moving == LETTING_GO]:
            self._work.hold()
            if time.monotonic() - since > HEEDED_AFTER:
                by_slots = [each for each in held if not each.holder]
                for slot in sorted({slot_of(each.id) for each in by_slots}):
                    if self._is_free(slot):
                        for each in by_slots:
                            if slot_of(each.id) == slot:
                                self._copies.records.let_go(each)
                for each in Holders(self._store.catalogue, self._store.now).without(held):
                    self._copies.records.let_go(each)
            self._work.wait(LOOKS)
        if source.bridge.has_backlog:
            self._await_returns(source)

    def _is_free(self, slot: int) -> bool:
        """Does nobody deliver to the subscriptions in this part? Whoever begins now knows what has been asked for."""
        if self._store.catalogue.lock(slot_lock(slot), self._owner, SEEN_FREE) is None:
            return False
        self._store.catalogue.unlock(slot_lock(slot), self._owner)
        return True

    def _await_returns(self, source: Pool) -> None:
        """Wait for what goes back to the broker, if that tells; what comes back later lands later."""
        deadline = time.monotonic() + source.bridge.timeout
        for each in self._in(source):
            while not each.target and source.bridge.in_hand(each.copy) and time.monotonic() < deadline:
                self._work.hold()
                self._work.wait(LOOKS)

    def _close_landed(self, source: Pool, target: Pool) -> LandedMover:
        """Have nothing more land in the old side-store. Nobody uses what is there, so it moves without turns."""
        self._open(source, target)
        mover = LandedMover(
            source.store.landed, target.store.landed, self._work.hold, lambda key: nullcontext()
        )
        mover.close([key for each in self._in(source) for key in (each.key, each.dead_key)])
        return mover

    # -- what is left -------------------------------------------------------------------------------------------

    def left(self, info: QueueInfo, source: Pool, target: Pool) -> list[QueueInfo]:
        """The delivery queues on the old broker, as queues whose backlog lands where the subscriptions are served."""
        if not source.bridge.has_backlog:
            return []
        old: Any = source.bridge
        fed = {each.id for each in self._fed(target) if not each.target}
        info = replace(info, settings=replace(info.settings, fifo=False))  # delivery queues are in no order
        return [
            replace(info, bridge=old, broker=each.copy, key=each.key) for each in self._in(target) if each.id in fed
        ]

    def are_moving(self) -> bool:
        """Is any of them on its way?"""
        return any(each.moving for each in self._all())

    def arrive(self, key: str = "") -> None:
        """Nothing is left on the old broker that was there when posts went elsewhere: what the new one has is next.

        That holds for all of them, or for the one with this key.
        """
        for each in self._all():
            if each.moving and key in ("", each.key):
                _put(self._copies.records, each, moving="")

    def join(self) -> None:
        """Lead into the queue, now that it is in the new pool, those that feed it. They have gone there before it."""
        for each in self._copies.fan_outs.into(self._project, self._name):
            self._copies.fan_outs.join(each)

    def call(self, target: Pool) -> None:
        """Have queues that feed this one, and do not exist, created where it goes."""
        for each in self._copies.fan_outs.into(self._project, self._name):
            if each.pool != target.name:
                _put(self._copies.records, each, pool=target.name)


def stay(records: SubscriptionRecords, project: str, name: str, pool: str) -> None:
    """Have a queue's subscriptions served in its old pool again, which has the side-store of the new one.

    The caller has the queue's lock.
    """
    for each in records.of_source(project, name):
        if each.moving or each.pool != pool:
            _put(records, each, pool=pool, moving="")


def _put(records: SubscriptionRecords, each: Subscription, **fields: Any) -> None:
    records.change(each.project, each.source, each.id, lambda found: replace(found, **fields))


def _remove_keys(pool: Pool, subscription: Subscription) -> None:
    pool.store.landed.remove_queue(subscription.key)
    pool.store.landed.remove_queue(subscription.dead_key)
