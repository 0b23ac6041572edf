"""How much waits for a subscription, and what becomes of too much: the oldest messages die, with reason ``overflow``.

A receiver that is down must not fill the disk of the broker, which all queues share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.core.poison import Poison
from gateway.core.pools.pool import Pool
from gateway.core.queues.info import QueueInfo
from gateway.core.subscriptions.copies import Copies
from gateway.core.subscriptions.record import Subscription
from gateway.notify.clock import elapsed
from gateway.notify.dead_letters import DeadLetters
from gateway.notify.item import Item
from gateway.notify.retries import Retries

OVERFLOW = "overflow"

#: Messages put away at once, and seconds that one look may take for it.
BATCH = 100
BUDGET = 2.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages that wait, dead letters in the subscription's own list, and messages put away by this look."""

    pending: int
    dead: int
    overflown: int = 0


class Pending:
    """Looks at one subscription after the other. ``most``: messages that may wait for one of them."""

    def __init__(self, dead_letters: DeadLetters, most: int):
        self._dead_letters = dead_letters
        self._most = most

    def look(self, pool: Pool, info: QueueInfo, subscription: Subscription, retries: Retries) -> Counts:
        """Count what waits, and put away what is too much. Blocks; raises StoreError, BridgeError.

        ``info``: the source.
        """
        bridge = Copies.bridge_of(pool, subscription) if pool.bridge.has_backlog and subscription.bound else None
        overflown, until = 0, elapsed() + BUDGET
        while True:
            landed, dead = pool.store.landed.stats(subscription.key), pool.store.landed.stats(subscription.dead_key)
            waiting = landed.free + landed.claimed + landed.delayed
            pending = waiting + (bridge.depth(subscription.copy) if bridge is not None else 0)
            too_many = min(BATCH, pending - self._most)
            if too_many <= 0 or elapsed() > until:
                return Counts(pending, dead.free, overflown)
            put_away = sum(1 for _ in self._put_away(pool, info, bridge, subscription, retries, too_many))
            if not put_away:  # what is too much is in the hands of others now
                return Counts(pending, dead.free, overflown)
            overflown += put_away

    def _put_away(
        self, pool: Pool, info: QueueInfo, bridge: Any, subscription: Subscription, retries: Retries, count: int
    ) -> Iterator[None]:
        """The oldest are in the side-store: those that have failed before, or all of them without a broker."""
        items = retries.take(count)
        for item in items:
            item.body = item.message.body
            self._dead_letters.bury(pool.store, subscription, item, OVERFLOW, item.attempt - 1)
            retries.delete(item)
            yield
        if bridge is None or len(items) == count:
            return
        batch = bridge.fetch(subscription.copy, count - len(items))
        try:
            for envelope in batch.envelopes:
                try:
                    message = pool.reader.message(info, envelope, pool.store.now())
                except Poison:  # the source's own copy is put aside for the operator
                    yield
                    continue
                item = Item(message, message.expires, properties=message.properties, body=message.body)
                self._dead_letters.bury(pool.store, subscription, item, OVERFLOW, 0)
                yield
        except BaseException:
            bridge.requeue(batch)
            raise
        bridge.settle(batch)
