"""One subscription of a connection: what waits for it goes out, and is settled once the socket has taken it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bridges.consuming import Delivery
from bridges.errors import BridgeError
from gateway.core.errors import CoreError
from gateway.core.poison import Poison
from gateway.core.pools.pool import Pool
from gateway.core.queues.info import QueueInfo
from gateway.core.subscriptions.filters import Filter
from gateway.core.subscriptions.record import Subscription
from gateway.notify.hands import Hands
from gateway.notify.item import Item, read_kept
from gateway.observe.metrics import DELIVERIES
from gateway.stream.websocket.consumers import MOST
from gateway.stream.websocket.notifications import frame
from storage.errors import QueueGone, StoreError
from storage.model import Message

if TYPE_CHECKING:
    from gateway.stream.websocket.connection import Connection
    from gateway.stream.websocket.pushes import Pushes

LOG = logging.getLogger(__name__)

#: What side-stores, brokers and pools fail with for a while, and seconds until it is tried again.
PASSING = (StoreError, BridgeError, CoreError)
AGAIN = 1.0

#: Seconds after which the queue is looked at again before something is sent.
KNOWN_FOR = 5.0

#: Seconds between two looks whether the socket has taken everything: the first, and at most.
FIRST_LOOK, LAST_LOOK = 0.005, 0.5

_counters: dict[str, Any] = {}


class Outbox:
    """Serves a subscription as its record is; if that changes there is another one. It belongs to the loop.

    ``wake``: something may be done that could not be done before.
    """

    def __init__(self, pushes: Pushes, connection: Connection, subscription: Subscription):
        self._pushes = pushes
        self.connection = connection
        self.subscription = subscription
        self.wake = asyncio.Event()
        #: The pool that it is served in, once it is known.
        self.pool: Pool | None = None
        #: May something be in the side-store?
        self.must_look = True
        #: Does it have anything at hand?
        self.is_busy = False
        self._arrived: deque[tuple[Hands, Delivery]] = deque()
        self._info: QueueInfo | None = None
        self._known_at = float("-inf")
        self._filter = Filter.parse(wanted) if (wanted := subscription.options.get("_filter")) is not None else None

    @property
    def name(self) -> str:
        """The subscription's."""
        return self.subscription.name

    @property
    def delivers(self) -> bool:
        """Does anything go out, as far as the record says?"""
        return self.subscription.delivers and not self.subscription.is_let_go

    async def run(self) -> None:
        """Serve it until it is cancelled."""
        while True:
            try:
                await self._serve()
            except PASSING as error:
                LOG.warning("subscription %s can't be served now: %s", self.name, error)
            await asyncio.sleep(AGAIN)

    async def _serve(self) -> None:
        pool = await self._pushes.run(self._pushes.core.all_pools.get, self.subscription.pool)
        is_fed = pool.bridge.has_backlog and self.subscription.is_fed
        await self._look_at_queue()
        self.pool, self.must_look = pool, True
        try:
            if is_fed:
                await self._pushes.consumers.join(pool, self.subscription, self._hand_over)
            while True:
                await self._send_handed_over(pool)
                await self._send_landed(pool)
                if not (self._arrived or self.must_look):
                    self.wake.clear()
                    await self.wake.wait()
        finally:
            self.pool, self.is_busy = None, False
            if is_fed:
                self._arrived.clear()  # they go back
                await asyncio.shield(self._pushes.consumers.leave(pool, self.subscription))

    def _hand_over(self, hands: Hands, delivery: Delivery) -> None:
        self._arrived.append((hands, delivery))
        self.wake.set()

    async def _look_at_queue(self) -> QueueInfo:
        """What the queue is like, as it was a moment ago."""
        loop = asyncio.get_running_loop()
        if self._info is None or loop.time() - self._known_at > KNOWN_FOR:
            self._info = await self._pushes.run(self._pushes.read_queue, self.subscription)
            self._known_at = loop.time()
        return self._info

    # -- from the broker ----------------------------------------------------------------------------------------

    async def _send_handed_over(self, pool: Pool) -> None:
        while self._arrived:
            self.is_busy = True
            info = await self._look_at_queue()
            taken = [self._arrived.popleft() for _ in range(len(self._arrived))]
            for hands, delivery in taken:
                await self._send_one(pool, info, hands, delivery)
            await self._until_taken()
            for hands, delivery in taken:
                hands.settle(delivery)
            self.is_busy = False

    async def _send_one(self, pool: Pool, info: QueueInfo, hands: Hands, delivery: Delivery) -> None:
        now = self._pushes.core.now()
        try:
            message = pool.reader.message(info, delivery.envelope, now)
        except Poison as error:  # a native producer's; the source's own copy of it is put aside for the operator
            LOG.warning("subscription %s: a message is dropped: %s", self.name, error)
            return
        if message.hidden_until > now:  # of a FIFO queue, where delayed messages go through the broker
            await self._pushes.run(pool.store.landed.append, self.subscription.key, [message])
            return
        await self._send(info, Item(message, message.expires, properties=message.properties))

    # -- from the side-store ------------------------------------------------------------------------------------

    async def _send_landed(self, pool: Pool) -> None:
        while self.must_look:
            self.must_look = False
            try:
                found: list[Message] = (
                    await self._pushes.run(pool.store.landed.find_free, self.subscription.key, MOST)
                )[0]
            except QueueGone:  # the subscription was deleted
                return
            if not found:
                return
            self.is_busy = self.must_look = True
            info = await self._look_at_queue()
            for message in found:
                await self._send(info, Item(message, message.expires, **read_kept(message)))
            await self._until_taken()
            ids = [message.id for message in found]
            await self._pushes.run(pool.store.landed.delete_unclaimed, self.subscription.key, ids)
            self.is_busy = False

    # -- to the client ------------------------------------------------------------------------------------------

    async def _send(self, info: QueueInfo, item: Item) -> None:
        """Send a message, unless it is not for this subscriber, or nobody can send it."""
        if item.is_request or self._pushes.core.now() >= item.expires:
            return
        if item.message.encrypted:
            sealed = replace(info, key=self.subscription.key)
            opened = await self._pushes.run(self._pushes.core.sealing.unsealed, sealed, [item.message])
            if not opened:  # nobody else will ever deliver it
                _count("unopened")
                return
            item.body = opened[0].body
        else:
            item.body = item.message.body
        if self._filter is not None and not self._filter.matches(item.body):
            _count("filtered")
            return
        while not (self.connection.may_push and self._pushes.is_fresh):
            self.wake.clear()
            await self.wake.wait()
        is_binary = self.connection.session.is_binary
        self.connection.send(frame(self.subscription, info, item, is_binary), is_binary)
        _count("delivered")

    async def _until_taken(self) -> None:
        """Wait until the socket has taken what was sent. If the connection is lost, this is cancelled."""
        await asyncio.sleep(0)  # the loop writes at the end of its turn
        pause = FIRST_LOOK
        while not self.connection.has_sent_all:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_LOOK)


def _count(outcome: str) -> None:
    counter: Callable[[], None] | None = _counters.get(outcome)
    if counter is None:
        counter = _counters[outcome] = DELIVERIES.labels("websocket", outcome).inc
    counter()
