"""Subscriptions of WebSocket connections: each belongs to the process that has the connection, its *holder*.

The holder alone delivers to them, and ends them with their connections. It has a lease, a record that it renews; when
that has ended the process is gone, or was stopped for long, and whoever looks after subscriptions removes its own.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

from gateway.core.errors import Busy, InvalidInput
from gateway.core.subscriptions.admin import SubscriptionAdmin
from gateway.core.subscriptions.holders import Holders
from gateway.core.subscriptions.live import LiveSubscriptions
from gateway.core.subscriptions.options import CLOUDEVENTS_BINARY
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.removal import SubscriptionRemoval
from storage.errors import StoreError

#: Part of the lease after which it counts as lost unless it has been renewed.
SURE = 0.8


class ConnectionSubscriptions:
    """What a holder does. Methods block, and raise StoreError."""

    def __init__(
        self, admin: SubscriptionAdmin, live: LiveSubscriptions, removal: SubscriptionRemoval, holders: Holders
    ):
        self._admin = admin
        self._live = live
        self._removal = removal
        self._holders = holders
        #: Seconds that the lease lasts unless it is renewed.
        self.lease = holders.lease
        self._lock = threading.Lock()
        #: This process' name as a holder; empty without a lease. It has one as long as it has subscriptions, by their
        #: names, or makes some.
        self._holder = ""
        self._until = 0.0
        self._held: set[str] = set()
        self._under_way = 0

    def subscribe(
        self, project: str, source: str, subscriber: str, ttl: int | None, options: Any
    ) -> Subscription | None:
        """Subscribe a connection of this process to a queue; None if it has a subscription already.

        Returns when all gateways heed it. Raises what creating a subscription raises.
        """
        if isinstance(options, dict) and options.get("_format") == CLOUDEVENTS_BINARY:
            raise InvalidInput(f"The _format {CLOUDEVENTS_BINARY} is for HTTP: it has headers, and a frame has none")
        holder = self._hold()
        subscription = None
        try:
            made = self._admin.create(project, source, subscriber, ttl, options, holder=holder)
            if not made.is_taken:
                subscription = self._live.get(project, source, made.id)
        finally:
            with self._lock:
                self._under_way -= 1
                if subscription is not None:
                    self._held.add(subscription.name)
            if subscription is None:
                with suppress(StoreError):  # it may have been for this one alone; it ends by itself, too
                    self.release()
        return subscription

    def _hold(self) -> str:
        with self._lock:
            if not self._holder:
                holder, until = uuid4().hex, time.monotonic() + self.lease * SURE
                self._holders.begin(holder)
                self._holder, self._until = holder, until
            elif time.monotonic() > self._until:
                raise Busy("This gateway can't keep subscriptions of connections now; try again")
            self._under_way += 1
            return self._holder

    def is_ours(self, subscription: Subscription) -> bool:
        """Does it belong to this process?"""
        return bool(subscription.holder) and subscription.holder == self._holder

    def renew(self) -> bool:
        """Renew the lease; False if it was lost, and the subscriptions with it. A new one begins when it is needed."""
        with self._lock:
            if not self._holder:
                return True
            until = time.monotonic() + self.lease * SURE
            if self._holders.renew(self._holder):
                self._until = until
                return True
            self._holder = ""
            self._held.clear()
            return False

    def end(self, subscription: Subscription) -> None:
        """Remove a subscription of this process, which delivers nothing to it any more."""
        try:
            self._removal.end(subscription)
        finally:
            with self._lock:
                self._held.discard(subscription.name)

    def release(self) -> None:
        """Give the lease up, unless there are subscriptions, or some are being made: their requests are under way."""
        with self._lock:
            if self._held or self._under_way:
                return
            holder, self._holder = self._holder, ""
        if holder:
            self._holders.end(holder)
