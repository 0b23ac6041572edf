"""How many subscriptions there may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from gateway.config.notifications import Notifications
from gateway.core.errors import QuotaExceeded
from gateway.core.queues.lock import locked
from gateway.core.queues.names import client_project, kind_of, topic_project
from gateway.core.subscriptions import subscriber
from gateway.core.subscriptions.record import UNCONFIRMED, Subscription
from gateway.core.subscriptions.records import SubscriptionRecords
from gateway.observe.metrics import OVER_QUOTA
from storage.base import SideStore

#: Subscriptions of one queue: each is a queue on the broker.
PER_SOURCE = 100

#: Unconfirmed subscriptions of a project for the same host, where confirmation is required: whoever has not asked for
#: notifications is to get few requests.
PER_HOST = 10


class SubscriptionQuota:
    """Counts in the side-store, whatever number of gateways create subscriptions.

    ``asks``: are subscribers asked to confirm?
    """

    def __init__(self, store: SideStore, records: SubscriptionRecords, options: Notifications, asks: bool):
        self._store = store
        self._records = records
        self._most = options.per_project
        self._asks = asks
        self._refused = OVER_QUOTA.labels("subscriptions")

    @contextmanager
    def room(self, project: str, source: str, uri: str) -> Iterator[None]:
        """Hold the right to create a subscription, alone in the project if that matters. Raises QuotaExceeded, Busy.

        The caller holds the lock of the source.
        """
        if self._count(self._records.of_source(project, source)) >= PER_SOURCE:
            kind = kind_of(project)
            self._refuse(f"A {kind} may have {PER_SOURCE} subscriptions, and {source} has them; delete one first")
        if not self._most and not self._asks:
            yield
            return
        owner = client_project(project)
        # No project has a control character in its name.
        with locked(
            self._store, f"\x00subscriptions/{owner}", "others subscribe in this project; try again"
        ):
            of_both = chain(self._records.of_project(owner), self._records.of_project(topic_project(owner)))
            found = [each for each in of_both if not each.has_expired(self._store.now())]
            if self._most and len(found) >= self._most:
                self._refuse(f"This project may have {self._most} subscriptions, and has them; delete one first")
            self._check_host(found, uri)
            yield

    def _check_host(self, found: list[Subscription], uri: str) -> None:
        host = subscriber.parse(uri).host if self._asks else ""
        if not host:
            return
        others = sum(
            each.state == UNCONFIRMED and subscriber.parse(each.subscriber).host == host for each in found
        )
        if others >= PER_HOST:
            self._refuse(f"{PER_HOST} subscriptions of this project for {host} wait for their confirmation already")

    def _count(self, subscriptions: Iterator[Subscription]) -> int:
        now = self._store.now()
        return sum(not each.has_expired(now) for each in subscriptions)

    def _refuse(self, text: str) -> None:
        self._refused.inc()
        raise QuotaExceeded(text)
