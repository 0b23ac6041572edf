"""What comes from one pool: messages that its broker hands out, and those in its side-store whose time has come."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from bridges.consuming import Consumer, Delivery
from gateway.core.pools.pool import Pool
from gateway.core.subscriptions.copies import Copies
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
        self._consumers: dict[str | None, Consumer] = {}
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
            consumer = await self._works.run(bridge.consume, lambda delivery: self._hand_over(vhost, delivery))
            if vhost in self._consumers:  # somebody has been quicker
                await self._works.run(consumer.close)
            else:
                self._consumers[vhost] = consumer
        self._outlets[outlet.key] = outlet
        if self.pool.bridge.has_backlog:
            self._by_queue[vhost, subscription.copy] = outlet
        outlet.go_on()
        self.look_at(outlet)

    def leave(self, outlet: Outlet) -> None:
        """Serve an outlet no more; nothing of it is under way."""
        self._outlets.pop(outlet.key, None)
        place = outlet.subscription.vhost, outlet.subscription.copy
        self._by_queue.pop(place, None)
        self._remove(place)

    def _remove(self, place: tuple[str | None, str]) -> bool:
        if self._added.pop(place, None) is None:
            return False
        self._consumers[place[0]].remove(place[1])
        return True

    def adjust(self, outlet: Outlet) -> bool:
        """Consume what an outlet wants; True if what it had of the broker has just gone back there."""
        place = outlet.subscription.vhost, outlet.subscription.copy
        if place not in self._by_queue:
            return False
        if outlet.consumes:
            if self._added.get(place) != outlet.most:
                self._added[place] = outlet.most
                self._consumers[place[0]].add(place[1], outlet.most)
            return False
        return outlet.is_idle and self._remove(place)  # else what is under way would be delivered again

    def _hand_over(self, vhost: str | None, delivery: Delivery) -> None:
        """Called by a thread of the consumer."""
        try:
            self._loop.call_soon_threadsafe(self._arrived, vhost, delivery)
        except RuntimeError:  # the loop has ended: so will the consumer, and it gives back what it has
            LOG.debug("a message of queue %s arrived too late", delivery.queue)

    def _arrived(self, vhost: str | None, delivery: Delivery) -> None:
        outlet = self._by_queue.get((vhost, delivery.queue))
        if outlet is not None and (vhost, delivery.queue) in self._added:  # else it has gone back already
            outlet.admission.arrived(delivery, self._consumers[vhost])

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
        closing: list[Any] = [self._works.run(consumer.close) for consumer in self._consumers.values()]
        await asyncio.gather(*closing, return_exceptions=True)
        self._consumers.clear()
        self._added.clear()
