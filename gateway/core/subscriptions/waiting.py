"""What waits for a subscription, and what could not be delivered to it, as its owner sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.config.limits import Limits
from gateway.core.errors import Busy, InvalidInput
from gateway.core.messages import Messages
from gateway.core.messages.markers import marker_after
from gateway.core.pools.registry import Pools
from gateway.core.queues.directory import Directory
from gateway.core.queues.info import QueueInfo, Reads
from gateway.core.sealing import Sealing
from gateway.core.subscriptions.letters import REPLAY, Death, typed
from gateway.core.subscriptions.live import LiveSubscriptions
from gateway.core.subscriptions.record import Subscription
from storage.errors import QueueGone
from storage.model import Message

#: Messages that one request has delivered once more, at most, and how many of them are read at a time.
REPLAYED, STEP = 1000, 20


@dataclass(frozen=True, slots=True)
class Waiting:
    """Estimates of how many messages wait, how many of them for a retry, and how many are dead.

    ``oldest``: when the oldest one that has landed was posted (ms), 0 if there is none.
    """

    pending: int = 0
    retrying: int = 0
    dead: int = 0
    oldest: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages to deliver once more: those with certain ``ids``; or those posted from ``since`` on and before
    ``until`` (ms), None for any time.
    """

    ids: Sequence[str] | None = None
    since: int | None = None
    until: int | None = None

    def holds(self, message: Message) -> bool:
        """Is a message in the range?"""
        return (self.since is None or message.posted >= self.since) and (
            self.until is None or message.posted < self.until
        )


class WaitingMessages:
    """Counts, shows, deletes and repeats messages of subscriptions."""

    def __init__(
        self, pools: Pools, live: LiveSubscriptions, directory: Directory, messages: Messages, sealing: Sealing,
        limits: Limits,
    ):
        self._pools = pools
        self._live = live
        self._directory = directory
        self._messages = messages
        self._sealing = sealing
        self._limits = limits

    def count(self, subscription: Subscription) -> Waiting:
        """How many wait."""
        pool = self._pools.get(subscription.pool)
        landed = pool.store.landed.stats(subscription.key)
        dead = pool.store.landed.stats(subscription.dead_key)
        in_broker = 0
        if pool.bridge.has_backlog and subscription.bound:
            bridge = pool.bridge if subscription.vhost is None else pool.bridge_at(subscription.vhost)
            in_broker = bridge.depth(subscription.copy)
        return Waiting(
            in_broker + landed.free + landed.claimed + landed.delayed, landed.claimed,
            dead.free + dead.claimed + dead.delayed, landed.oldest.posted if landed.oldest else 0,
        )

    # -- dead letters -------------------------------------------------------------------------------------------

    def dead(self, project: str, source: str, id_: str, marker: str | None, limit: int) -> Sequence[Message]:
        """A page of what could not be delivered; letters.Death.of tells why. Raises NotFound, InvalidInput, Busy."""
        subscription = self._live.get(project, source, id_)
        page = self._messages.list(self._dead_queue(subscription), marker, limit, None, True, True)
        self._check_place(subscription)
        return page

    def _check_place(self, before: Subscription) -> None:
        """Raises Busy if what waits for a subscription may have gone to another pool since it was read."""
        now = self._live.get(before.project, before.source, before.id)
        if now.is_let_go or now.place != before.place:
            raise Busy(f"Queue {before.source} takes subscription {before.id} to another pool just now; try again soon")

    def delete_dead(self, project: str, source: str, id_: str, ids: Sequence[str] | None) -> None:
        """Delete some dead letters, None for all. Raises NotFound, Busy."""
        subscription = self._live.get(project, source, id_)
        landed = self._pools.get(subscription.pool).store.landed
        if ids is None:
            landed.purge(subscription.dead_key)
        else:
            landed.delete_unclaimed(subscription.dead_key, ids)
        self._check_place(subscription)

    def _dead_queue(self, subscription: Subscription) -> QueueInfo:
        """The dead letters as a queue that only has landed messages."""
        pool = self._pools.get(subscription.pool)
        info = self._directory.expected(subscription.project, subscription.source)
        return replace(info, pool=pool, bridge=pool.bridge, key=subscription.dead_key, reads=Reads.NOTHING)

    # -- once more ----------------------------------------------------------------------------------------------

    def replay(self, project: str, source: str, id_: str, wanted: Wanted, only: str) -> int:
        """Deliver messages once more, ``only`` "dead" ones or "delivered" ones that the queue still has; how many.

        At most REPLAYED at a time, oldest first. Raises NotFound, InvalidInput, Busy.
        """
        subscription = self._live.get(project, source, id_)
        if subscription.target:
            raise InvalidInput(f"Queue {subscription.target} has got the messages itself: nothing is delivered to it")
        if wanted.ids is None and wanted.since is not None and wanted.until is not None and (
            wanted.since >= wanted.until
        ):
            raise InvalidInput("'since' must be before 'until'")
        landed = self._pools.get(subscription.pool).store.landed
        landed.open_queue(subscription.key)
        self._check_place(subscription)
        if only == "delivered":
            count = self._directory.on(
                project, source, lambda info: self._replay_delivered(subscription, info, wanted), sure=True
            )
            return count or 0
        count = 0
        for found in self._dead_pages(landed, subscription, wanted):
            repeated = [message for message in found if wanted.holds(message)][:REPLAYED - count]
            if repeated:
                self._append(subscription, [self._dead_again(message) for message in repeated])
                landed.delete_unclaimed(subscription.dead_key, [message.id for message in repeated])
            count += len(repeated)
            if count >= REPLAYED:
                break
        return count

    def _append(self, subscription: Subscription, messages: Sequence[Message]) -> None:
        try:
            self._pools.get(subscription.pool).store.landed.append(subscription.key, messages)
        except QueueGone:
            self._check_place(subscription)
            raise

    def _dead_pages(self, landed: Any, subscription: Subscription, wanted: Wanted) -> Iterator[Sequence[Message]]:
        """The dead letters as they are stored, some at a time."""
        if wanted.ids is not None:
            yield landed.get_messages(subscription.dead_key, wanted.ids)
            return
        after = 0
        while page := landed.list_messages(subscription.dead_key, after, STEP, claimed=True, delayed=True):
            after = page[-1].seq
            yield page

    def _dead_again(self, message: Message) -> Message:
        death = Death.of(message)
        properties = orjson.dumps(death.properties) if death.properties is not None else None
        return self._again(message, death.ttl or self._limits.default_message_ttl, properties)

    def _again(self, message: Message, ttl: int, properties: bytes | None) -> Message:
        """A message to be delivered as if it had been posted now; ``ttl`` in seconds."""
        now = self._live.now()
        return replace(
            message, posted=now, expires=now + ttl * 1000, seq=0, hidden_until=0, claim=None, claim_ttl=0, claims=0,
            properties=typed(REPLAY, properties),
        )

    def _replay_delivered(self, subscription: Subscription, info: QueueInfo, wanted: Wanted) -> int:
        count, marker = 0, None
        while count < REPLAYED:
            if wanted.ids is not None:
                page: Sequence[Message] = self._messages.get(info, list(wanted.ids))
            else:
                page = self._messages.list(info, marker, STEP, None, True, False)
            repeated = [self._sealed_again(info, message) for message in page if wanted.holds(message)]
            repeated = repeated[:REPLAYED - count]
            if repeated:
                self._append(subscription, repeated)
            count += len(repeated)
            if wanted.ids is not None or not page:
                break
            marker = marker_after(page[-1])
        return count

    def _sealed_again(self, info: QueueInfo, message: Message) -> Message:
        again = self._again(message, (message.expires - message.posted) // 1000, message.properties)
        if message.encrypted or info.settings.encrypt:
            self._sealing.seal(info.project, again)
        return again
