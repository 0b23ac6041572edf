"""What becomes of messages and subscriptions: settled, kept for later, put away, disabled; and the account of it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING
from uuid import uuid4

from gateway.core.subscriptions.record import DISABLED, Subscription
from gateway.core.subscriptions.retry import acting_policy, next_wait
from gateway.core.subscriptions.status import FAILING_FROM, Attempt
from gateway.notify.attempts import Tried
from gateway.notify.item import Item
from gateway.notify.ledger import Ledger
from gateway.notify.outcomes import Kind
from gateway.notify.pace import Pace
from gateway.notify.retries import Retries
from gateway.notify.terms import SourceTerms, Terms
from gateway.observe.metrics import DELIVERIES, DELIVERY_LAG, DELIVERY_SECONDS
from storage.errors import StoreError, Unstorable

if TYPE_CHECKING:
    from gateway.core.pools.pool import Pool
    from gateway.notify.works import Works

LOG = logging.getLogger(__name__)

#: What outcomes are called in the account of a subscription.
WORDS = {
    Kind.DELIVERED: "delivered", Kind.FAILED: "failed", Kind.DEAD: "dead", Kind.RESTS: "rest", Kind.STOPPED: "stop",
}

#: Times that a delivered message is tried to be forgotten, and seconds in between.
FORGETTING = 3
FORGET_AGAIN = 1.0

#: Seconds until a message that could not be kept goes back to the broker.
GIVE_BACK_AFTER = 1.0


#: What counts outcomes of a scheme, and what times its attempts.
_counter = lru_cache(256)(DELIVERIES.labels)
_timer = lru_cache(64)(DELIVERY_SECONDS.labels)


@dataclass(frozen=True, slots=True)
class Fate:
    """``kind``, ``reason``: of the outcome. ``wait``: seconds until the next attempt, None if there is none.

    ``counts``: was it an attempt. ``disables``: nothing is sent to this subscriber any more.
    """

    kind: Kind
    reason: str
    wait: float | None = None
    counts: bool = True
    disables: bool = False

    @property
    def waits(self) -> bool:
        """Is there another attempt?"""
        return self.wait is not None


class Fates:
    """For the messages of one subscription. Its methods belong to the loop."""

    def __init__(self, works: Works, pool: Pool, retries: Retries, ledger: Ledger):
        self._works = works
        self._pool = pool
        self.retries = retries
        self.ledger = ledger
        #: Ids of attempts: what no other process begins them with, and a number. Random bytes take a system call.
        self._ids_begin = uuid4().hex[:20]
        self._numbers = count(1)

    # -- deciding -----------------------------------------------------------------------------------------------

    def decide(
        self, subscription: Subscription, terms: Terms, source: SourceTerms, item: Item, tried: Tried, pace: Pace
    ) -> Fate:
        """What follows from an attempt. It is in the account then, and counts for the pace."""
        now, outcome = self._works.now(), tried.outcome
        kind, reason, wait, counts = outcome.kind, outcome.reason, None, True
        item.first, item.last, item.status = item.first or tried.at, tried.at, tried.answer.status
        if kind is Kind.DELIVERED:
            pace.succeeded()
        elif kind is Kind.FAILED:
            pace.failed(outcome.overloaded)
            policy = acting_policy(source.policy, terms.policy)
            schedule = self._works.settings.retry_schedule
            wait = next_wait(item.attempt, policy, schedule, at_once=outcome.at_once)
            if wait is None:
                kind, reason = Kind.DEAD, "exhausted"
        elif kind is Kind.RESTS:
            wait, counts = max(0.0, (outcome.rest_until - now) / 1000), False
            pace.rest(wait)
        elif kind is Kind.STOPPED:
            wait, counts = 0.0, False
        if wait is not None and kind is not Kind.STOPPED and now + wait * 1000 >= terms.deadline(item):
            kind, reason, wait = Kind.DEAD, "expired", None
        self._note(subscription, terms, item, tried, kind, reason, wait, pace)
        hopeless = self.ledger.is_hopeless(now, self._works.settings.disable_after)
        return Fate(kind, "failing" if hopeless else reason, wait, counts, outcome.disables or hopeless)

    def _note(
        self, subscription: Subscription, terms: Terms, item: Item, tried: Tried, kind: Kind, reason: str,
        wait: float | None, pace: Pace,
    ) -> None:
        answer, word = tried.answer, WORDS[kind]
        if item.attempt == 1 and not item.replay:
            DELIVERY_LAG.observe(max(0, tried.at - item.message.posted) / 1000)
        _counter(terms.scheme, word).inc()
        _timer(terms.scheme).observe(answer.seconds)
        following = 0 if wait is None else self._works.now() + int(wait * 1000)
        said = tried.outcome.reason
        self.ledger.add(
            Attempt(
                f"{self._ids_begin}{next(self._numbers):012x}", item.message.id, item.attempt, tried.at, answer.status,
                round(answer.seconds, 3), word, said, answer.body, following,
            ),
            pace.row,
        )
        if kind is Kind.RESTS:
            self.ledger.change(resting_until=following)
        if kind is not Kind.DELIVERED:
            LOG.info(
                "subscription %s: attempt %d for message %s: status %d, %s; %s", subscription.name, item.attempt,
                item.message.id, answer.status, said, reason if wait is None else f"again in {wait:.1f} s",
            )
            if kind is Kind.DEAD:
                self._works.alert(subscription, "exhausted", reason)
            elif pace.row == FAILING_FROM:
                self._works.alert(subscription, "failing", said)

    def filtered(self, scheme: str) -> None:
        """A message is not for this receiver."""
        DELIVERIES.labels(scheme, "filtered").inc()
        self.ledger.filtered()

    def dropped(self) -> None:
        """A message can be neither delivered nor kept."""
        self.ledger.died()

    def overflown(self, subscription: Subscription, count: int) -> None:
        """So many messages were too many, and have been put away."""
        if count:
            LOG.warning("subscription %s: %d messages are dead, as too many wait", subscription.name, count)
            DELIVERIES.labels(subscription.scheme, "buried").inc(count)
            self.ledger.change(dead=self.ledger.status.dead + count)

    # -- carrying it out ----------------------------------------------------------------------------------------

    async def carry_out(self, subscription: Subscription, item: Item, fate: Fate) -> None:
        """Make of a message what was decided."""
        if fate.wait is not None:
            await self.put_off(subscription, item, fate.wait, fate.counts)
        elif fate.kind is Kind.DELIVERED:
            await self.forget(item)
        else:
            await self.bury(subscription, item, fate.reason, item.attempt)

    async def forget(self, item: Item) -> None:
        """Nothing more is to be done for a message."""
        if item.hands is not None and item.delivery is not None:
            item.hands.settle(item.delivery)
            return
        for left in reversed(range(FORGETTING)):
            try:
                await self._works.run(self.retries.delete, item)
                return
            except StoreError:
                if not left:  # it comes again when its claim is over
                    raise
                await asyncio.sleep(FORGET_AGAIN)

    async def put_off(self, subscription: Subscription, item: Item, wait: float, counts: bool) -> None:
        """Keep a message for its next attempt. If that fails it comes again by itself."""
        if item.claim:
            await self._works.run(self.retries.postpone, item, wait, counts)
            return
        assert item.hands is not None and item.delivery is not None  # nosec B101  # one of the two
        try:
            kept = await self._works.run(self.retries.land, item, wait, counts)
        except Unstorable as error:
            LOG.warning("subscription %s: message %s is lost: %s", subscription.name, item.message.id, error)
            self.dropped()
        except StoreError:
            await asyncio.sleep(GIVE_BACK_AFTER)
            item.hands.requeue(item.delivery)
            raise
        else:
            if not kept:  # it was deleted, and this queue with it; or it has moved, and this message goes after it
                LOG.info("subscription %s is gone; message %s goes back", subscription.name, item.message.id)
                item.hands.requeue(item.delivery)
                return
        item.hands.settle(item.delivery)

    async def bury(self, subscription: Subscription, item: Item, reason: str, attempts: int) -> None:
        """Put a message away. If that fails it comes again by itself.

        Requests are forgotten: their owner sees the attempts, and may ask again; letters would show others how to
        confirm, and could be delivered like a message.
        """
        if item.is_request:
            await self.forget(item)
            return
        try:
            await self._works.run(
                self._works.dead_letters.bury, self._pool.store, subscription, item, reason, attempts
            )
        except StoreError:
            if item.hands is not None and item.delivery is not None:
                await asyncio.sleep(GIVE_BACK_AFTER)
                item.hands.requeue(item.delivery)
            raise
        DELIVERIES.labels(subscription.scheme, "buried").inc()
        self.ledger.died()
        await self.forget(item)

    async def disable(self, subscription: Subscription, reason: str) -> None:
        """Have nothing more sent to a subscriber, until its owner activates it again."""
        now = self._works.now()

        def change(found: Subscription) -> Subscription | None:
            if found.version != subscription.version or not found.delivers:
                return None  # its owner has just changed it
            return replace(found, state=DISABLED, reason=reason, since=now)

        LOG.warning("subscription %s is disabled: %s", subscription.name, reason)
        await self._works.run(
            self._works.records.change, subscription.project, subscription.source, subscription.id, change
        )
        self._works.alert(subscription, "disabled", reason)
