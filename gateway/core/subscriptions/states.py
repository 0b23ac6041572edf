"""What state a subscription is in, and how it gets into another one."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from gateway.core.errors import Conflict, NotFound
from gateway.core.subscriptions.confirming import Confirmations
from gateway.core.subscriptions.live import HEEDED_AFTER, LiveSubscriptions, in_state
from gateway.core.subscriptions.record import (
    ACTIVE,
    DISABLED,
    HANDSHAKE,
    PAUSED,
    UNCONFIRMED,
    UNSUBSCRIBED,
    Subscription,
)
from gateway.core.subscriptions.sources import Source, Sources


class SubscriptionStates:
    """Begins, confirms, ends and pauses subscriptions. Each method returns when all gateways heed it."""

    def __init__(self, live: LiveSubscriptions, sources: Sources, confirmations: Confirmations):
        self._live = live
        self._sources = sources
        self._confirmations = confirmations

    def asks(self, subscription: Subscription) -> bool:
        """Does the subscriber have to agree before anything is delivered?"""
        return self._confirmations.asks(subscription)

    def begin(self, held: Source, subscription: Subscription, ttl: int) -> None:
        """Ask for a confirmation, to be given within ``ttl`` seconds; or activate the subscription if none is required.

        Queues of the project itself and connections are not asked. Raises NotFound if it has been deleted meanwhile.
        """
        if subscription.target or subscription.holder:
            self._activate(held, subscription, confirmed=True)
        elif self.asks(subscription):
            self._ask(subscription, ttl)
        elif subscription.state in (UNCONFIRMED, UNSUBSCRIBED):
            self._activate(held, subscription, confirmed=False)

    def ask(self, subscription: Subscription) -> None:
        """Ask somebody else than before to confirm. No attempt begins any more until that is done.

        Before all workers know who that is the request would go to the one before, who could confirm it.
        """
        time.sleep(HEEDED_AFTER)
        self._ask(subscription, subscription.ttl)

    def _ask(self, subscription: Subscription, ttl: int) -> None:
        asked = self._confirmations.ask(subscription, ttl)

        def ask(current: Subscription) -> Subscription:
            state = UNCONFIRMED if current.state == UNSUBSCRIBED else current.state
            return replace(in_state(current, state, self._live.now()), asked=asked)

        self._live.change(subscription, ask)

    def _activate(
        self, held: Source, subscription: Subscription, confirmed: bool, allowed_rate: int | None = None
    ) -> None:
        bound = held.bind(subscription)

        def activate(current: Subscription) -> Subscription:
            state = current.state if current.state in (PAUSED, DISABLED) else ACTIVE
            rate = current.allowed_rate if allowed_rate is None else allowed_rate
            placed = replace(
                current, bound=True, pool=bound.pool, vhost=bound.vhost, confirmed=confirmed, allowed_rate=rate
            )
            return in_state(placed, state, self._live.now())

        held.recorded(self._live.change(subscription, activate))

    def confirm(self, project: str, source: str, id_: str, confirmed: bool) -> None:
        """Confirm a subscription, or end it without deleting it. Raises NotFound, InvalidInput, Busy."""
        found = self._live.get(project, source, id_)
        if not confirmed:
            self._end(found)
            return
        with self._sources.held(project, source) as held:
            self._activate(held, self._live.get(project, source, id_), confirmed=True)

    def agree(self, asked: Subscription, rate: int) -> None:
        """A receiver has agreed by handshake, to ``rate`` messages a minute (0: any number); it was ``asked`` as that.

        Nothing changes if the subscription is over, or another subscriber's by now. Raises Busy.
        """
        with suppress(NotFound), self._sources.held(asked.project, asked.source) as held:
            fresh = self._live.get(asked.project, asked.source, asked.id)
            if fresh.subscriber == asked.subscriber and fresh.may_ask(HANDSHAKE):
                self._activate(held, fresh, confirmed=True, allowed_rate=rate)

    def _end(self, found: Subscription) -> None:
        """Deliver nothing any more, and drop what waits.

        It stays ``bound`` until that is done: if it fails, whoever asks again does it, or housekeeping.
        """
        has_ended = False

        def end(current: Subscription) -> Subscription | None:
            nonlocal has_ended
            has_ended = current.state != UNSUBSCRIBED
            if not has_ended:
                return None
            return replace(in_state(current, UNSUBSCRIBED, self._live.now()), confirmed=False)

        self._live.change(found, end)
        if has_ended:
            time.sleep(HEEDED_AFTER)
        with self._sources.held(found.project, found.source) as held:
            fresh = self._live.get(found.project, found.source, found.id)
            if fresh.state == UNSUBSCRIBED and (has_ended or fresh.bound):
                self._sources.drop(held, fresh)
                self._live.change(
                    fresh, lambda current: replace(current, bound=False) if current.state == UNSUBSCRIBED else None
                )
                if not fresh.target:
                    self._confirmations.say_goodbye(fresh)

    def set(self, project: str, source: str, id_: str, state: str) -> None:
        """Pause a subscription, or let it go on: ``state`` is PAUSED or ACTIVE. What waits is kept.

        Raises NotFound, and Conflict for one that is not confirmed or has been unsubscribed, or that nothing waits for.
        """

        def change(current: Subscription) -> Subscription | None:
            if current.state in (UNCONFIRMED, UNSUBSCRIBED):
                raise Conflict(f"Subscription {id_} is {current.state}; it has to be confirmed first")
            if current.target:
                raise Conflict(
                    f"Subscription {id_} puts messages straight into queue {current.target}: it can't be paused; delete"
                    " it, and claim nothing from that queue meanwhile"
                )
            return in_state(current, state, self._live.now()) if current.state != state else None

        self._live.change(self._live.get(project, source, id_), change)
        if state == PAUSED:
            time.sleep(HEEDED_AFTER)
