"""Subscriptions as clients manage them: create, show, list and change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from gateway.core.errors import Busy, Conflict, CoreError, InvalidInput, NotFound
from gateway.core.ids import IdMaker, made_at
from gateway.core.queues.names import is_topic_project, kind_of
from gateway.core.subscriptions import webhook_secrets
from gateway.core.subscriptions.live import LiveSubscriptions, in_state
from gateway.core.subscriptions.quotas import SubscriptionQuota
from gateway.core.subscriptions.record import ACTIVE, UNCONFIRMED, UNSUBSCRIBED, Secret, Subscription
from gateway.core.subscriptions.records import SubscriptionRecords
from gateway.core.subscriptions.rules import SubscriptionRules
from gateway.core.subscriptions.sources import Sources
from gateway.core.subscriptions.states import SubscriptionStates
from gateway.core.subscriptions.subscriber import Subscriber
from gateway.core.subscriptions.trusts import TRUST_ID, GiveTrust, Trusts, no_trust, with_trust

#: Times that a subscriber is subscribed again because others delete its subscription meanwhile.
TRIES = 10


@dataclass(frozen=True, slots=True)
class Subscribed:
    """What came of a request to subscribe. ``is_taken``: the subscriber has confirmed a subscription already."""

    id: str
    is_taken: bool = False


class SubscriptionAdmin:
    """Creates, shows, lists and changes subscriptions.

    A subscriber has one subscription to a queue at most: whoever creates or renames one holds the queue's lock.
    """

    def __init__(
        self, live: LiveSubscriptions, records: SubscriptionRecords, sources: Sources, rules: SubscriptionRules,
        states: SubscriptionStates, quota: SubscriptionQuota, ids: IdMaker, trusts: Trusts,
    ):
        self._live = live
        self._records = records
        self._sources = sources
        self._rules = rules
        self._states = states
        self._quota = quota
        self._ids = ids
        self._trusts = trusts
        #: A subscription; raises NotFound.
        self.get = live.get

    def page(self, project: str, source: str, marker: str | None, limit: int) -> list[Subscription]:
        """Up to ``limit`` subscriptions of a queue by id, after the id ``marker``; none after what is no id."""
        if marker and made_at(marker) is None:
            return []
        return list(islice(self._live.of_source(project, source, marker or ""), limit))

    def create(
        self, project: str, source: str, subscriber: Any, ttl: int | None, options: Any,
        give_trust: GiveTrust = no_trust, holder: str = "",
    ) -> Subscribed:
        """Subscribe somebody to a queue, which is created if there is none. Returns when all gateways heed it.

        A subscriber that has a subscription keeps it as it is; unless it is confirmed, it is asked to confirm again, or
        subscribed again if it had been unsubscribed. ``give_trust``: makes a trust of the caller's, if one is needed.
        ``holder``: of a connection's subscription, which no client can create. Raises InvalidInput, QuotaExceeded,
        Busy, and what ``give_trust`` raises.
        """
        parsed = self._rules.known(subscriber) if holder else self._rules.subscriber(subscriber)
        ttl = self._rules.ttl(ttl, self._live.now())
        options = self._rules.options(options, parsed, _queue(project, source))
        if parsed.queue and parsed.queue == _queue(project, source):
            raise InvalidInput("A queue can't be its own subscriber")
        for _ in range(TRIES):
            try:
                found = self._live.find(project, source, subscriber)
                if found is None:
                    if parsed.queue:
                        self._sources.ensure_target(project, source, parsed.queue)
                    expires = self._live.now() + ttl * 1000
                    with self._trusts.given(give_trust if parsed.trust else None, expires) as trust_id:
                        given = with_trust(options, trust_id)
                        return self._subscribe(project, source, subscriber, ttl, expires, given, holder)
                return self._repeat(found, ttl)
            except NotFound:
                continue
        raise Busy("This subscriber is being subscribed and unsubscribed by others; try again")

    def _subscribe(
        self, project: str, source: str, subscriber: str, ttl: int, expires: int, options: dict[str, Any],
        holder: str,
    ) -> Subscribed:
        """Create a subscription. Raises NotFound if somebody else has been faster."""
        with self._sources.ensured(project, source) as held:
            now = self._live.now()
            new = held.place(Subscription(
                project, source, self._ids.make(now)[0], subscriber, ttl, options, now, expires, since=now,
                secrets=(Secret(webhook_secrets.make()),), holder=holder,
            ))
            with self._quota.room(project, source, subscriber):
                if not self._records.hold(project, source, subscriber, new.id, now) or not self._records.put(new):
                    raise NotFound("There is another subscription by now")
            # The record comes before the delivery queue, or a crash would leave one that nobody ever removes; and it is
            # active only once it gets what is posted: whoever repeats the request after a crash makes it so.
            self._states.begin(held, new, ttl)
        return Subscribed(new.id)

    def _repeat(self, found: Subscription, ttl: int) -> Subscribed:
        """Subscribe somebody again. Raises NotFound if the subscription has been deleted meanwhile."""
        if found.confirmed:
            return Subscribed(found.id, is_taken=True)
        if self._states.asks(found) or found.state in (UNCONFIRMED, UNSUBSCRIBED):
            with self._sources.ensured(found.project, found.source) as held:
                fresh = self._live.get(found.project, found.source, found.id)
                self._states.begin(held, fresh, ttl)
        return Subscribed(found.id)

    def update(
        self, project: str, source: str, id_: str, changes: dict[str, Any], give_trust: GiveTrust = no_trust
    ) -> None:
        """Change some of ``subscriber``, ``ttl`` (seconds from now on) and ``options``.

        Another subscriber has to confirm, where that is required; what waits is kept for it. ``give_trust``: makes a
        trust of the caller's, if another one is needed. Raises NotFound, Conflict for a subscriber that has another
        subscription, InvalidInput, Busy, and what ``give_trust`` raises.
        """
        found = self._live.get(project, source, id_)
        new = changes.get("subscriber", found.subscriber)
        parsed = self._rules.subscriber(new) if new != found.subscriber else self._rules.known(new)
        if new != found.subscriber and (parsed.queue or found.target or found.holder):
            raise InvalidInput(
                "A subscription of a queue or a connection can't become one of another subscriber; create another one"
            )
        checked = dict(changes)
        if "ttl" in changes:
            now = self._live.now()
            checked["ttl"] = ttl = self._rules.ttl(changes["ttl"], now)
            checked["expires"] = now + ttl * 1000
        if "options" in changes or new != found.subscriber:
            options = changes.get("options", found.options)
            checked["options"] = self._rules.options(
                options, parsed, _queue(project, source), found.options.get(TRUST_ID)
            )
        self._change(found, new, parsed, checked, give_trust)

    def _change(
        self, found: Subscription, new: str, parsed: Subscriber, changes: dict[str, Any], give_trust: GiveTrust
    ) -> None:
        """Store what has been checked. A trust ends with its subscription, and is for one subscriber alone.

        Whoever could have the tokens of somebody else's trust sent elsewhere would have that caller's rights.
        """
        renews = parsed.trust and ("ttl" in changes or new != found.subscriber)
        with self._trusts.given(
            give_trust if renews else None, changes.get("expires", found.expires)
        ) as trust_id:
            before: str | None = None

            def change(current: Subscription) -> Subscription:
                nonlocal before
                if current.subscriber != found.subscriber:
                    raise Busy(f"Subscription {found.id} is being changed by others; try again")
                before = current.options.get(TRUST_ID)
                kept = before if parsed.trust else None
                options = with_trust(changes.get("options", current.options), trust_id or kept)
                return replace(current, **{**changes, "options": options})

            if new == found.subscriber:
                self._live.change(found, change)
            else:
                self._rename(found, new, change)
        if renews or not parsed.trust:
            self._trusts.discard(before)

    def _rename(self, found: Subscription, new: str, change: Callable[[Subscription], Subscription]) -> None:
        with self._sources.held(found.project, found.source):
            if not self._records.hold(found.project, found.source, new, found.id, self._live.now()):
                raise Conflict(
                    "This subscriber has another subscription already. Subscriptions are unique by project,"
                    f" {kind_of(found.project)} and subscriber"
                )

            def rename(current: Subscription) -> Subscription:
                renamed = replace(change(current), confirmed=False, asked=0, allowed_rate=0)
                asks = self._states.asks(renamed) and current.state == ACTIVE
                return in_state(renamed, UNCONFIRMED, self._live.now()) if asks else renamed

            try:
                renamed = self._live.change(found, rename)
            except CoreError:
                self._records.release(found.project, found.source, new, found.id)
                raise
            self._records.release(found.project, found.source, found.subscriber, found.id)
            if self._states.asks(renamed):  # while nobody can begin to move what waits
                self._states.ask(renamed)


def _queue(project: str, source: str) -> str:
    """The source if that is a queue. A topic may have the name of a queue, and is another thing."""
    return "" if is_topic_project(project) else source
