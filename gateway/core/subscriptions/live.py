"""Subscriptions that have not expired: how they are found and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from gateway.core.errors import NotFound
from gateway.core.ids import made_at
from gateway.core.pools.registry import Pools
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.records import SubscriptionRecords

#: Workers begin no attempt when their last look at the changes is older than HEEDED_WITHIN seconds; so none that a
#: change forbids begins HEEDED_AFTER seconds after it has been recorded.
HEEDED_WITHIN, HEEDED_AFTER = 1.0, 1.2


class LiveSubscriptions:
    """The subscriptions as clients know them: one that has expired does not exist."""

    def __init__(self, pools: Pools, records: SubscriptionRecords):
        self._pools = pools
        self._records = records

    def now(self) -> int:
        """The side-store's time, in ms."""
        now: int = self._pools.default.store.now()
        return now

    def get(self, project: str, source: str, id_: str) -> Subscription:
        """The subscription. Raises NotFound."""
        found = self._records.get(project, source, id_) if made_at(id_) is not None else None
        if found is None or found.has_expired(self.now()):
            raise not_found(id_)
        return found

    def find(self, project: str, source: str, subscriber: str) -> Subscription | None:
        """The subscription of a subscriber, None if there is none."""
        found = self._records.find(project, source, subscriber)
        return None if found is None or found.has_expired(self.now()) else found

    def of_source(self, project: str, source: str, after: str = "") -> Iterator[Subscription]:
        """A queue's subscriptions after the id ``after``, oldest first."""
        now = self.now()
        return (found for found in self._records.of_source(project, source, after) if not found.has_expired(now))

    def change(self, subscription: Subscription, change: Callable[[Subscription], Subscription | None]) -> Subscription:
        """Store what ``change`` makes of a subscription, None to leave it as it is; the subscription as it is then.

        ``change`` may be called several times. Raises NotFound if the subscription has been deleted, and Busy.
        """

        def unless_expired(current: Subscription) -> Subscription | None:
            if current.has_expired(self.now()):
                raise not_found(current.id)
            return change(current)

        changed = self._records.change(subscription.project, subscription.source, subscription.id, unless_expired)
        if changed is None:
            raise not_found(subscription.id)
        return changed


def in_state(subscription: Subscription, state: str, now: int) -> Subscription:
    """In a state since ``now`` (ms), unless it is in that state already."""
    if subscription.state == state:
        return subscription
    return replace(subscription, state=state, reason="", since=now)


def not_found(id_: str) -> NotFound:
    """What to raise for an id that no subscription has."""
    return NotFound(f"Subscription {id_} does not exist")
