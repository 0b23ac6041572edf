"""The end of subscriptions: deleted by their owners, or expired."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import replace

from bridges.errors import BridgeError
from gateway.core.errors import Busy, CoreError, NotFound
from gateway.core.subscriptions.holders import Holders
from gateway.core.subscriptions.live import HEEDED_AFTER, LiveSubscriptions
from gateway.core.subscriptions.record import UNSUBSCRIBED, Subscription
from gateway.core.subscriptions.records import SubscriptionRecords
from gateway.core.subscriptions.sources import Sources
from gateway.core.subscriptions.status import DeliveryStatuses
from gateway.core.subscriptions.trusts import TRUST_ID, Trusts
from storage.errors import StoreError

LOG = logging.getLogger(__name__)

#: Seconds between two looks for subscriptions that have expired.
LOOK = 30.0


class SubscriptionRemoval:
    """Removes subscriptions, and all that is kept for them.

    One that is deleted is recorded as expired first, so that nothing is delivered any more from then on; what fails
    after that is done by housekeeping, which knows by the record what there is to remove.
    """

    def __init__(
        self, live: LiveSubscriptions, records: SubscriptionRecords, statuses: DeliveryStatuses, sources: Sources,
        trusts: Trusts, holders: Holders,
    ):
        self._live = live
        self._records = records
        self._statuses = statuses
        self._sources = sources
        self._trusts = trusts
        self._holders = holders
        self._looked_at = float("-inf")

    def delete(self, project: str, source: str, id_: str) -> None:
        """Delete a subscription and what waits for it; nothing happens when there is none."""
        try:
            self._delete([self._live.get(project, source, id_)])
        except NotFound:
            return

    def delete_all(self, project: str, source: str) -> None:
        """Delete all subscriptions of a queue."""
        self._delete(list(self._live.of_source(project, source)))

    def end(self, subscription: Subscription) -> None:
        """Delete a subscription that the caller alone delivers to, and does no more."""
        self._remove_all(self._ended([subscription]))

    def _delete(self, subscriptions: Iterable[Subscription]) -> None:
        ended = self._ended(subscriptions)
        if ended:
            time.sleep(HEEDED_AFTER)
        self._remove_all(ended)

    def _ended(self, subscriptions: Iterable[Subscription]) -> list[Subscription]:
        """Record that subscriptions are over; those that there still were."""
        now = self._live.now()

        def end(current: Subscription) -> Subscription:
            return replace(current, expires=min(current.expires, now), bound=False)

        return [
            changed for found in subscriptions
            if (changed := self._records.change(found.project, found.source, found.id, end)) is not None
        ]

    def _remove_all(self, ended: Iterable[Subscription]) -> None:
        sources = set()
        for found in ended:
            self._remove(found)
            sources.add((found.project, found.source))
        for project, source in sources:
            try:
                self._sources.settle(project, source)
            except (StoreError, Busy) as error:  # posts go on to make copies for nobody
                LOG.info("queue %s: that it has no subscriptions can't be recorded now: %s", source, error)

    def _remove(self, subscription: Subscription) -> None:
        """Remove all that is kept for a subscription that has expired; what can't be reached now, another time."""
        try:
            self._sources.remove(subscription)
            self._trusts.discard(subscription.options.get(TRUST_ID))
        except (BridgeError, StoreError, Busy) as error:
            LOG.warning("subscription %s: what waits for it can't be removed now: %s", subscription.id, error)
            return
        self._records.release(subscription.project, subscription.source, subscription.subscriber, subscription.id)
        self._statuses.delete(subscription.name)
        self._records.delete(subscription)

    def _drop(self, subscription: Subscription) -> None:
        """Drop what waits for a subscription that has ended, which has failed when it ended."""
        try:
            with self._sources.held(subscription.project, subscription.source) as held:
                fresh = self._live.get(subscription.project, subscription.source, subscription.id)
                if fresh.state == UNSUBSCRIBED and fresh.bound:
                    self._sources.drop(held, fresh)
                    self._live.change(fresh, lambda current: replace(current, bound=False))
        except (BridgeError, StoreError, CoreError) as error:
            LOG.warning("subscription %s: what waits for it can't be dropped now: %s", subscription.id, error)

    def tend(self) -> None:
        """Remove what has expired, from time to time, and at once what belonged to a process that is gone.

        For housekeeping, in one thread.
        """
        if not self._holders.bury() and time.monotonic() - self._looked_at < LOOK:
            return
        self._looked_at = time.monotonic()
        every = list(self._records.all())
        self._remove_all(self._ended(self._holders.without(every)))
        now = self._live.now()
        self._remove_all(found for found in every if found.has_expired(now))
        for found in every:
            if found.state == UNSUBSCRIBED and found.bound and not found.has_expired(now):
                self._drop(found)
        self._trusts.tend()
