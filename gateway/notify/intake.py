"""What comes from one pool: messages that its broker hands out, and those in its side-store whose time has come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from bridges.consuming import Delivery
from gateway.core.pools.pool import Pool
from gateway.core.subscriptions.copies import Copies
from gateway.notify.hands import Hands
from gateway.notify.outlet import Outlet
from gateway.notify.tasks import PASSING
from gateway.notify.works import Works

LOG = logging.getLogger(__name__)

#: Seconds between two looks for messages whose time has come.
TICK = 0.25

#: Keys that are asked for at once.
KEYS = 1000


class Intake:
    """Serves the outlets whose subscriptions are in a pool. It belongs to the loop."""

    def __init__(self, pool: Pool, works: Works):
        self.pool = pool
        self._works = works
        self._loop = asyncio.get_running_loop()
        self._outlets: dict[str, Outlet] = {}
        #: By virtual host, None for the gateway's own.
        self._consumers: dict[str | None, Hands] = {}
        self._by_queue: dict[tuple[str | None, str], Outlet] = {}
        #: What is consumed now: how many messages at a time, by virtual host and queue.
        self._added: dict[tuple[str | None, str], int] = {}
        self._looks: set[asyncio.Task[None]] = set()
        self._ticking = self._loop.create_task(self._tick())

    @property
    def is_empty(self) -> bool:
        """Is there nobody to serve?"""
        return not self._outlets

    async def join(self, outlet: Outlet) -> None:
        """Serve an outlet. Raises what connecting raises."""
        subscription = outlet.subscription
        vhost = subscription.vhost
        if self.pool.bridge.has_backlog and vhost not in self._consumers:
            bridge = Copies.bridge_of(self.pool, subscription)
            hands = Hands(lambda hands, deliveries: self._arrived(vhost, hands, deliveries))
            await self._works.run(hands.open, bridge.consume)
            if vhost in self._consumers:  # somebody has been quicker
                await self._works.run(hands.close())
            else:
                self._consumers[vhost] = hands
        self._outlets[outlet.key] = outlet
        if self.pool.bridge.has_backlog:
            self._by_queue[outlet.queue] = outlet
        outlet.go_on()
        self.look_at(outlet)

    def leave(self, outlet: Outlet) -> None:
        """Serve an outlet no more; nothing of it is under way."""
        self._outlets.pop(outlet.key, None)
        self._by_queue.pop(outlet.queue, None)
        self._remove(outlet.queue)

    def _remove(self, place: tuple[str | None, str]) -> bool:
        if self._added.pop(place, None) is None:
            return False
        self._consumers[place[0]].remove(place[1])
        return True

    def adjust(self, outlet: Outlet) -> bool:
        """Consume what an outlet wants; True if what it had of the broker has just gone back there."""
        place = outlet.queue
        if place not in self._by_queue:
            return False
        if outlet.consumes:
            if self._added.get(place) != outlet.reserve:
                self._added[place] = outlet.reserve
                self._consumers[place[0]].add(place[1], outlet.reserve)
            return False
        return outlet.is_idle and self._remove(place)  # else what is under way would be delivered again

    def _arrived(self, vhost: str | None, hands: Hands, deliveries: Sequence[Delivery]) -> None:
        outlets: dict[Outlet, None] = {}
        for delivery in deliveries:
            place = vhost, delivery.queue
            outlet = self._by_queue.get(place)
            if outlet is not None and place in self._added:  # else it has gone back already
                outlets[outlet] = None
                try:
                    outlet.admission.arrived(delivery, hands)
                except Exception:  # of one message: the others must not wait for it
                    LOG.exception("a message of queue %s was handed out and not taken", delivery.queue)
        for outlet in outlets:
            outlet.go_on()

    def look_at(self, outlet: Outlet) -> None:
        """Get what is in the side-store for an outlet now."""
        look = self._loop.create_task(outlet.take())
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                await self._look()
            except PASSING as error:
                LOG.warning("pool %s: what waits for subscriptions can't be read: %s", self.pool.name, error)
                await asyncio.sleep(1.0)
            except Exception:
                LOG.exception("pool %s: looking for what waits for subscriptions has failed", self.pool.name)
                await asyncio.sleep(1.0)

    async def _look(self) -> None:
        outlets = list(self._outlets.values())
        for outlet in outlets:
            outlet.go_on()
            if outlet.must_look and outlet.wants:
                self.look_at(outlet)
        keys = [outlet.key for outlet in outlets if outlet.wants]
        for first in range(0, len(keys), KEYS):
            ready: list[str] = await self._works.run(self.pool.store.landed.ready, keys[first:first + KEYS])
            for key in ready:
                if (found := self._outlets.get(key)) is not None and found.wants:
                    self.look_at(found)

    async def close(self) -> None:
        """Give everything back to the broker."""
        self._ticking.cancel()
        if self._looks:
            await asyncio.wait(self._looks)
        closing: list[Any] = [self._works.run(hands.close()) for hands in self._consumers.values()]
        await asyncio.gather(*closing, return_exceptions=True)
        self._consumers.clear()
        self._added.clear()
