"""What brokers hand out of the delivery queues of connections: a consumer for each broker and virtual host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from bridges.consuming import Delivery
from gateway.core.pools.pool import Pool
from gateway.core.subscriptions.copies import Copies
from gateway.core.subscriptions.record import Subscription
from gateway.notify.hands import Hands

LOG = logging.getLogger(__name__)

#: Messages of one delivery queue that the broker hands out at a time.
MOST = 20

#: Gets what has arrived for a subscription, and what settles it.
Arrived = Callable[[Hands, Delivery], None]

#: A pool, and the virtual host of its broker, None for the gateway's own.
Place = tuple[Pool, str | None]


class Consumers:
    """Belongs to the loop. ``threads``: for what blocks."""

    def __init__(self, threads: Executor):
        self._threads = threads
        #: Each with those who are served, by the names of their delivery queues.
        self._opened: dict[Place, tuple[Hands, dict[str, Arrived]]] = {}

    async def join(self, pool: Pool, subscription: Subscription, arrived: Arrived) -> None:
        """Have ``arrived`` called with what the broker hands out for a subscription. Raises what connecting raises."""
        place = pool, subscription.vhost
        if place not in self._opened:
            served: dict[str, Arrived] = {}
            hands = Hands(lambda hands, deliveries: _share_out(served, hands, deliveries))
            await self._run(hands.open, Copies.bridge_of(pool, subscription).consume)
            if place in self._opened:  # somebody has been quicker
                await self._run(hands.close())
            else:
                self._opened[place] = hands, served
        hands, served = self._opened[place]
        served[subscription.copy] = arrived
        hands.add(subscription.copy, MOST)

    async def leave(self, pool: Pool, subscription: Subscription) -> None:
        """Undo ``join``: what is not settled goes back to the broker."""
        place = pool, subscription.vhost
        hands, served = self._opened.get(place, (None, {}))
        if hands is None or served.pop(subscription.copy, None) is None:
            return
        hands.remove(subscription.copy)
        if not served:
            del self._opened[place]
            await self._run(hands.close())

    async def _run(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)


def _share_out(served: dict[str, Arrived], hands: Hands, deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        arrived = served.get(delivery.queue)
        if arrived is not None:  # else it has gone back already
            arrived(hands, delivery)
