"""The subscriptions of all connections of a process: who is served, what has changed, and the lease on them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from websockets.frames import CloseCode

from gateway.core.core import Core
from gateway.core.errors import Conflict
from gateway.core.pools.pool import Pool
from gateway.core.queues.info import QueueInfo
from gateway.core.subscriptions.live import HEEDED_WITHIN
from gateway.core.subscriptions.record import LETTING_GO, Subscription
from gateway.stream.loop import StreamLoop
from gateway.stream.websocket.connection import Connection
from gateway.stream.websocket.consumers import Consumers
from gateway.stream.websocket.outbox import PASSING, Outbox

LOG = logging.getLogger(__name__)

#: Seconds between two looks for messages in side-stores, and for changes of subscriptions.
TICK = 0.25
LOOK = 0.4

#: Part of the lease between two renewals, and seconds until the next try if one has failed.
RENEWED = 1 / 3
RENEW_AGAIN = 1.0

#: Threads for looks at the catalogue.
CONTROL = 2

#: Keys that are asked for at once.
KEYS = 1000

#: Messages that may wait for a connection, and seconds between two looks at those that are behind.
MOST_WAITING = 1000
COUNT = 5.0


class Pushes:
    """Works while there are subscriptions. Methods belong to the loop unless they say otherwise."""

    def __init__(self, core: Core, streams: StreamLoop):
        self.core = core
        self._streams = streams
        #: For looks at the catalogue and the lease, which must not wait for requests and pools that hang.
        self._control = ThreadPoolExecutor(CONTROL, thread_name_prefix="websocket-control")
        self.consumers = Consumers(streams.hands)
        #: By the names of subscriptions, with the tasks that serve them; those of each connection.
        self._outboxes: dict[str, tuple[Outbox, asyncio.Task[None]]] = {}
        self._of: dict[Connection, set[str]] = {}
        self._rounds: list[asyncio.Task[None]] = []
        self._version = -1
        self._looked_at = float("-inf")
        #: Connections whose subscriptions are being removed, and those that were too far behind at the last look.
        self._ending = 0
        self._late: set[str] = set()
        self._ended = threading.Event()
        self._ended.set()

    async def run(self, call: Callable[..., Any], *args: Any) -> Any:
        """What a call comes to that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._streams.hands, call, *args)

    async def _controlled(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._control, call, *args)

    @property
    def is_fresh(self) -> bool:
        """Has there been a look for changes that is recent enough for something to be sent?"""
        return asyncio.get_running_loop().time() - self._looked_at <= HEEDED_WITHIN

    def read_queue(self, subscription: Subscription) -> QueueInfo:
        """The queue of a subscription, or as it would be. Blocks."""
        project, source = subscription.project, subscription.source
        with suppress(Conflict):  # it can't be used at present
            if (found := self.core.directory.find(project, source)) is not None:
                return found
        return self.core.directory.expected(project, source)

    # -- connections --------------------------------------------------------------------------------------------

    def settle(self, connection: Connection) -> None:
        """A connection may have subscribed itself to more queues."""
        for name, subscription in list(connection.session.subscriptions.items()):
            if name not in self._outboxes:
                self._of.setdefault(connection, set()).add(name)
                self._begin(connection, subscription)

    def _begin(self, connection: Connection, subscription: Subscription) -> None:
        outbox = Outbox(self, connection, subscription)
        work = outbox.run() if outbox.delivers else _nothing()
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_log)
        self._outboxes[subscription.name] = outbox, task
        self._ended.clear()
        if not self._rounds:
            self._looked_at, self._version = float("-inf"), -1
            renewed = self.core.connections.lease * RENEWED
            self._rounds = [
                asyncio.get_running_loop().create_task(self._again_and_again(round_, seconds))
                for round_, seconds in (
                    (self._look, LOOK), (self._tick, TICK), (self._renew, renewed), (self._check, COUNT),
                )
            ]

    def push(self, connection: Connection) -> None:
        """A connection may be sent something now."""
        for name in self._of.get(connection, ()):
            self._outboxes[name][0].wake.set()

    def end(self, connection: Connection) -> None:
        """A connection is gone: remove its subscriptions."""
        had_some = self._of.pop(connection, None) is not None
        ours = list(connection.session.subscriptions.values())
        if not (ours or had_some):
            return
        self._ending += 1
        self._ended.clear()
        self._streams.start(self._remove(ours))

    async def _remove(self, subscriptions: list[Subscription]) -> None:
        try:
            for subscription in subscriptions:
                await self._stop(subscription.name)
            for subscription in subscriptions:
                try:
                    await self.run(self.core.connections.end, subscription)
                except PASSING as error:  # housekeeping does it, once the lease is over or its record says so
                    LOG.warning("subscription %s can't be removed now: %s", subscription.name, error)
        finally:
            self._ending -= 1
            await self._rest()

    async def _stop(self, name: str) -> None:
        """Serve a subscription no more: nothing of it is here when this returns."""
        outbox, task = self._outboxes.pop(name, (None, None))
        if outbox is not None and task is not None:
            self._of.get(outbox.connection, set()).discard(name)
            task.cancel()
            await asyncio.wait([task])

    async def _rest(self) -> None:
        """End what goes on by itself if there is nobody to serve."""
        if self._outboxes or self._ending:
            return
        for task in self._rounds:
            task.cancel()
        self._rounds = []
        with suppress(*PASSING):
            await self._controlled(self.core.connections.release)
        if not (self._outboxes or self._ending):
            self._ended.set()

    def close(self, timeout: float) -> None:
        """Wait until all subscriptions are removed, ``timeout`` seconds at most. Any other thread may call."""
        self._ended.wait(timeout)
        self._control.shutdown(wait=False, cancel_futures=True)

    # -- rounds -------------------------------------------------------------------------------------------------

    async def _again_and_again(self, work: Callable[[], Any], seconds: float) -> None:
        while True:
            pause = seconds
            try:
                await work()
            except PASSING as error:
                LOG.warning("subscriptions of WebSockets: %s", error)
                pause = min(seconds, RENEW_AGAIN)
            except Exception:
                LOG.exception("serving subscriptions of WebSockets has failed")
            await asyncio.sleep(pause)

    async def _look(self) -> None:
        """Heed what has changed."""
        began = asyncio.get_running_loop().time()
        version = await self._controlled(self.core.subscription_records.version)
        if version != self._version:
            names = set(self._outboxes)
            found = await self._controlled(self._read_ours)
            for name in names & set(self._outboxes):
                await self._heed(self._outboxes[name][0], found.get(name))
            self._version = version
        now = self.core.now()
        for outbox, _ in list(self._outboxes.values()):
            if outbox.subscription.has_expired(now):
                await self._heed(outbox, None)
        self._looked_at = began
        for outbox, _ in self._outboxes.values():
            outbox.wake.set()

    def _read_ours(self) -> dict[str, Subscription]:
        records = self.core.subscription_records.all()
        return {found.name: found for found in records if self.core.connections.is_ours(found)}

    async def _heed(self, outbox: Outbox, now: Subscription | None) -> None:
        """A subscription is ``now`` like that; None: it is over."""
        before, connection = outbox.subscription, outbox.connection
        if now is None or now.has_expired(self.core.now()):
            connection.session.subscriptions.pop(before.name, None)
            await self._stop(before.name)
            await self.run(self.core.connections.end, before)
            return
        if now.version == before.version and now.moving != LETTING_GO:
            return
        await self._stop(before.name)
        if now.moving == LETTING_GO:
            await self._controlled(self.core.subscription_records.let_go, now)
        if connection in self._of:  # else it has gone meanwhile
            self._of[connection].add(now.name)
            self._begin(connection, now)

    async def _tick(self) -> None:
        """Look for what has landed for those who have nothing at hand."""
        idle: dict[Pool, dict[str, Outbox]] = {}
        for outbox, _ in self._outboxes.values():
            if outbox.pool is not None and not outbox.is_busy:
                idle.setdefault(outbox.pool, {})[outbox.subscription.key] = outbox
        await asyncio.gather(*(self._tick_at(pool, outboxes) for pool, outboxes in idle.items()))

    async def _tick_at(self, pool: Pool, outboxes: dict[str, Outbox]) -> None:
        keys = list(outboxes)
        for first in range(0, len(keys), KEYS):
            ready: list[str] = await self.run(pool.store.landed.ready, keys[first:first + KEYS])
            for key in ready:
                outboxes[key].must_look = True
                outboxes[key].wake.set()

    async def _renew(self) -> None:
        if await self._controlled(self.core.connections.renew):
            return
        LOG.warning("this process was away for so long that the subscriptions of its WebSockets are over")
        for connection in list(self._of):
            connection.close_soon(CloseCode.SERVICE_RESTART, "The subscriptions of this connection are over.")

    async def _check(self) -> None:
        """Close connections that are too far behind: too much waits for them at two looks in a row."""
        late: set[str] = set()
        for name, (outbox, _) in list(self._outboxes.items()):
            if outbox.is_busy:
                waiting = await self.run(self.core.subscription_waiting.count, outbox.subscription)
                if waiting.pending > MOST_WAITING:
                    late.add(name)
                    if name in self._late:
                        outbox.connection.close_soon(
                            CloseCode.POLICY_VIOLATION, f"More than {MOST_WAITING} notifications wait to be read."
                        )
        self._late = late


async def _nothing() -> None:
    """For a subscription that nothing is sent to."""


def _log(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        LOG.error("a subscription of a WebSocket can't be served", exc_info=error)
