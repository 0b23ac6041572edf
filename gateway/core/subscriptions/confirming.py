"""Requests to confirm a subscription, or its end: they go out like notifications, and are signed for one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.config.notifications import Notifications
from gateway.core.pools.registry import Pools
from gateway.core.queues.names import kind_of
from gateway.core.subscriptions.letters import typed
from gateway.core.subscriptions.live import HEEDED_AFTER
from gateway.core.subscriptions.record import CONFIRMATION, HANDSHAKE, UNSUBSCRIBED, UNSUBSCRIPTION, Subscription
from storage.model import Message

#: Signs paths, methods, project and expiry (ISO 8601 without a zone, in UTC); see gateway.access.signing.
Sign = Callable[[Sequence[str], Sequence[str], str, str], str]

#: Seconds for which a request is tried again at most.
MOST_TTL = 3600

#: Seconds between two requests to the same subscriber.
SPACED = 60

#: Form of the expiry, as it is signed.
EXPIRES = "%Y-%m-%dT%H:%M:%S"

METHODS = ("PUT",)


class Confirmations:
    """Makes the requests, and puts them where the workers find them. ``sign`` None: nothing can be signed."""

    def __init__(self, pools: Pools, options: Notifications, sign: Sign | None):
        self._pools = pools
        self._options = options
        self._sign = sign
        #: What else may know the service's public URL, empty if it does not. It may block.
        self.find_public_url: Callable[[], str] = str

    @property
    def are_required(self) -> bool:
        """Is nothing delivered before a subscription is confirmed?"""
        return self._options.require_confirmation and self._sign is not None

    def asks(self, subscription: Subscription) -> bool:
        """Is nothing delivered to this one before its subscriber has agreed? Some want that wherever they are."""
        return self.are_required or subscription.shakes_hands

    @property
    def can_sign(self) -> bool:
        """Is there a key?"""
        return self._sign is not None

    def ask(self, subscription: Subscription, ttl: int) -> int:
        """Ask a subscriber to confirm, within ``ttl`` seconds; when the request is due, see Subscription.asked.

        It goes out SPACED seconds after the last one at the earliest. One that waits for that stands for others. Who
        had been unsubscribed is asked when all workers can know that this is undone.
        """
        now = self._now()
        if subscription.asked > now:
            return subscription.asked
        due = now + (int(HEEDED_AFTER * 1000) if subscription.state == UNSUBSCRIBED else 0)
        if subscription.asked:
            due = max(due, subscription.asked + SPACED * 1000)
        self._put(subscription, HANDSHAKE if subscription.shakes_hands else CONFIRMATION, ttl, now, due)
        return due

    def say_goodbye(self, subscription: Subscription) -> None:
        """Tell a subscriber that it has been unsubscribed, and how to undo that."""
        if self.are_required and not subscription.shakes_hands:
            now = self._now()
            self._put(subscription, UNSUBSCRIPTION, self._options.default_ttl, now, now)

    def _put(self, subscription: Subscription, kind: str, ttl: int, now: int, due: int) -> None:
        """Add a request to the subscription's messages at ``now`` (ms), hidden until ``due`` (ms)."""
        document = {} if kind == HANDSHAKE else self.document(subscription, kind, now + ttl * 1000)
        # Its id is what the receiver gets to tell repetitions by.
        message = Message(
            f"confirm-{subscription.id}-{due}", now, due + min(ttl, MOST_TTL) * 1000, orjson.dumps(document),
            properties=typed(kind), hidden_until=due if due > now else 0,
        )
        landed = self._pools.get(subscription.pool).store.landed
        landed.open_queue(subscription.key)
        landed.append(subscription.key, [message])

    def document(self, subscription: Subscription, kind: str, expires: int) -> dict[str, Any]:
        """What the receiver gets, with a signature that holds until ``expires`` (ms)."""
        assert self._sign is not None  # nosec B101  # nobody asks otherwise
        path = f"{subscription.source_path}/subscriptions/{subscription.id}/confirm"
        until = datetime.fromtimestamp(expires // 1000, UTC).strftime(EXPIRES)
        source = f"{kind_of(subscription.project)} {subscription.source}"
        if kind == CONFIRMATION:
            text = (
                f"You have been subscribed to the messages of {source}. To confirm that you want to get them, send"
                " SubscribeBody to WSGISubscribeURL; to refuse, do nothing."
            )
        else:
            text = (
                f"You have been unsubscribed from the messages of {source}. To undo that, send SubscribeBody to"
                " WSGISubscribeURL."
            )
        document: dict[str, Any] = {
            "Message_Type": kind,
            "Message": text,
            "URL-Signature": self._sign([path], METHODS, subscription.client_project, until),
            "URL-Methods": ",".join(METHODS),
            "URL-Paths": path,
            "X-Project-ID": subscription.client_project,
            "URL-Expires": until,
            "SubscribeBody": {"confirmed": True},
            "UnsubscribeBody": {"confirmed": False},
            "queue_name": subscription.source,
        }
        if public_url := self._options.public_url or self.find_public_url():
            document["WSGISubscribeURL"] = public_url + path
        return document

    def _now(self) -> int:
        now: int = self._pools.default.store.now()
        return now
