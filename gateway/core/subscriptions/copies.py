"""Delivery queues: what is posted to a queue is copied into one for each of its subscriptions, by the same write.

A delivery queue has two parts: a queue on the broker, where the pool has one, and a key of the pool's landed store, for
what waits for a retry, for delayed messages, and for all messages of a pool without a broker. It belongs to the
subscription, so it outlives the queue that it gets its messages from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bridges.bridging import KEY
from bridges.errors import ExchangeMissing
from gateway.core.errors import Busy, Conflict, InvalidInput
from gateway.core.pools.pool import Pool
from gateway.core.pools.registry import Pools
from gateway.core.queues.info import QueueInfo, Reads
from gateway.core.queues.names import broker_name, delivery_name, kind_of
from gateway.core.subscriptions.fan_out import FanOuts
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.records import SubscriptionRecords

LOG = logging.getLogger(__name__)


class Copies:
    """Creates, binds and removes delivery queues. Whoever calls it holds the lock of the queue they belong to."""

    def __init__(self, records: SubscriptionRecords, pools: Pools):
        self.records = records
        self._pools = pools
        #: Subscriptions that lead into other queues: these have no delivery queues.
        self.fan_outs = FanOuts(records, pools)

    # -- for those who create queues ----------------------------------------------------------------------------

    def of(self, project: str, source: str) -> list[Subscription]:
        """The subscriptions whose delivery queues get what is posted, or are to get it when the queue is there."""
        now = self._pools.default.store.now()
        found = self.records.of_source(project, source)
        return [each for each in found if each.bound and not each.has_expired(now)]

    def has_records(self, project: str, source: str) -> bool:
        """Is a subscription recorded, be it one that has ended and is still to be removed?"""
        return next(iter(self.records.of_source(project, source)), None) is not None

    def pool_for(self, subscriptions: Sequence[Subscription], flavor: str | None) -> str | None:
        """The pool that a queue with these subscriptions has to be in; None if there are none.

        Raises Conflict for a queue of a flavor that the pool does not have.
        """
        if not subscriptions:
            return None
        name = subscriptions[0].pool
        if flavor is not None:
            mine = next((record.flavor for record in self._pools.records() if record.name == name), "")
            if mine != flavor:
                raise Conflict(
                    f"Subscriptions of this {kind_of(subscriptions[0].project)} are kept in pool {name}, which is not"
                    f" of flavor {flavor!r}; delete them before you create it there"
                )
        return name

    def check(self, info: QueueInfo, subscriptions: Sequence[Subscription]) -> None:
        """Raises InvalidInput if a queue can't have subscriptions, and Conflict if theirs are kept elsewhere."""
        if not subscriptions:
            return
        for subscription in subscriptions:
            check_source(info, subscription)
        place = place_of(info)
        if any(found.place != place for found in subscriptions):
            raise Conflict(
                f"Subscriptions of this {kind_of(info.project)} are kept on another broker or virtual host; delete them"
                " before you create it there"
            )

    def prepare(self, info: QueueInfo, subscriptions: Sequence[Subscription]) -> None:
        """Make the delivery queues, and bind them on the broker. The queue's document need not exist yet."""
        for subscription in subscriptions:
            if subscription.target:
                self.fan_outs.prepare(info.pool, subscription)
                continue
            landed = info.pool.store.landed
            landed.open_queue(subscription.key)
            landed.open_queue(subscription.dead_key)
            if not info.copies_on_broker:
                continue
            info.bridge.add_copy(info.broker, subscription.copy)
            binding = info.settings.binding
            if binding is not None:
                with suppress(ExchangeMissing):  # it may come later: see Binder
                    info.bridge.bind(subscription.copy, binding)
        if not subscriptions and info.notifies and info.reads is Reads.OWN_QUEUE:
            # Nobody is subscribed any more, and posts still go the way that makes copies.
            none = delivery_name(info.project, info.name, "none")
            info.bridge.add_copy(info.broker, none)
            info.bridge.remove_copy(info.broker, none)

    def keys(self, subscriptions: Sequence[Subscription]) -> list[str]:
        """What the landed store is to copy to, from when it opens the key of their queue.

        A key that nobody opens stands for another queue that is not there: so posts are copied from the start, into
        that queue too when it is created.
        """
        return [self.fan_outs.key(each) or each.key if each.target else each.key for each in subscriptions]

    # -- for those who subscribe --------------------------------------------------------------------------------

    def bind(self, info: QueueInfo, subscription: Subscription) -> Subscription:
        """Copy what is posted to a queue from now on; the subscription with where its delivery queue is."""
        pool, vhost = place_of(info)
        if subscription.place != (pool, vhost):
            self.remove(None, subscription)  # it has been where the last queue of this name was
        placed = replace(subscription, pool=pool, vhost=vhost, bound=True)
        self.prepare(info, [placed])
        if placed.target:
            self.fan_outs.begin(placed)
        else:  # delayed messages, and all messages of a pool without a broker, are copied by the landed store
            info.pool.store.landed.bind(info.key, placed.key)
        return placed

    def unbind(self, info: QueueInfo | None, subscription: Subscription) -> None:
        """Copy nothing any more, and drop what waits. ``info``: the queue, None if there is none."""
        pool = self._pool(subscription)
        if pool is None:
            return
        if subscription.target:
            self.fan_outs.end(pool, subscription)
            return
        self._end(pool, info, subscription)
        pool.store.landed.purge(subscription.key)

    def remove(self, info: QueueInfo | None, subscription: Subscription) -> None:
        """As unbind, and remove all else that is kept for the subscription."""
        if subscription.target:
            self.unbind(info, subscription)
            return
        pool = self._pool(subscription)
        if pool is None:
            return
        self._end(pool, info, subscription)
        pool.store.landed.remove_queue(subscription.key)
        pool.store.landed.remove_queue(subscription.dead_key)

    def _end(self, pool: Pool, info: QueueInfo | None, subscription: Subscription) -> None:
        if info is not None and info.pool is pool:
            pool.store.landed.unbind(info.key, subscription.key)
        if pool.bridge.has_backlog:
            bridge = self.bridge_of(pool, subscription)
            bridge.remove_copy(broker_name(subscription.project, subscription.source), subscription.copy)

    def _pool(self, subscription: Subscription) -> Pool | None:
        """The pool of the delivery queue; None if it was deleted. Raises Busy for one that can't be used now."""
        try:
            return self._pools.get(subscription.pool)
        except Busy:
            if self._pools.exists(subscription.pool):
                raise
            return None

    @staticmethod
    def bridge_of(pool: Pool, subscription: Subscription) -> Any:
        """The bridge that reaches the delivery queue on the broker of its pool."""
        return pool.bridge if subscription.vhost is None else pool.bridge_at(subscription.vhost)


def place_of(info: QueueInfo) -> tuple[str, str | None]:
    """The pool, and the virtual host of its broker, that the delivery queues of a queue are in."""
    bridging = info.settings.bridging
    return info.pool.name, bridging.source.vhost if bridging and bridging.source else None


def check_source(info: QueueInfo, subscription: Subscription) -> None:
    """Raises InvalidInput for a queue that can't have a subscription."""
    bridging = info.settings.bridging
    if bridging is None:
        return
    if subscription.target:
        raise InvalidInput(f"Queue {info.name} is bridged ({KEY}): other queues can't get its messages")
    if bridging.source is None:
        raise InvalidInput(
            f"Queue {info.name} is bridged to a target alone ({KEY}): it has no messages that anybody could be told of"
        )
    if bridging.source.queue is not None:
        raise InvalidInput(
            f"Queue {info.name} is bridged to a queue of others ({KEY}.source.queue), which has one copy of each"
            " message: it can't have subscriptions; use source.exchange"
        )
