"""What a subscription and its queue say about deliveries, taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.queues.info import QueueInfo
from gateway.core.subscriptions.filters import Filter
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.retry import RetryPolicy
from gateway.core.subscriptions.subscriber import parse
from gateway.notify.item import Item
from gateway.notify.settings import DeliverySettings


@dataclass(frozen=True, slots=True)
class SourceTerms:
    """The queue: as it is, or as it would be if it does not exist; its retry policy; ``read_at``: clock seconds."""

    info: QueueInfo
    policy: RetryPolicy | None
    read_at: float


@dataclass(frozen=True, slots=True)
class Terms:
    """The subscription's: ``most`` deliveries at a time, ``rate`` of them per second (0: any), ``oldest``: milliseconds
    after its post from which on a message is not tried again."""

    scheme: str
    url: str
    trust: bool
    filter: Filter | None
    policy: RetryPolicy | None
    most: int
    rate: float
    oldest: int

    @classmethod
    def of(cls, subscription: Subscription, settings: DeliverySettings) -> Terms:
        """Of a subscription that was checked when it was stored."""
        options = subscription.options
        subscriber = parse(subscription.subscriber)
        rates = [rate for rate in (wanted_rate(options, settings), subscription.allowed_rate / 60) if rate]
        filter_ = options.get("_filter")
        return cls(
            subscriber.scheme,
            subscriber.url,
            subscriber.trust,
            Filter.parse(filter_) if filter_ is not None else None,
            RetryPolicy.stored(options.get("_retry_policy")),
            min(options.get("_max_in_flight") or settings.max_in_flight, settings.max_in_flight),
            min(rates, default=0.0),
            1000 * min(options.get("_retry_budget") or settings.max_delivery_age, settings.max_delivery_age),
        )

    @property
    def is_plain_trust(self) -> bool:
        """Do tokens go out without TLS?"""
        return self.trust and self.scheme == "http"

    def deadline(self, item: Item) -> int:
        """When a message is over (ms): no attempt begins after that. A replay has its whole life again."""
        return item.expires if item.replay or item.is_request else min(item.expires, item.message.posted + self.oldest)


def wanted_rate(options: Mapping[str, Any], settings: DeliverySettings) -> float:
    """Messages per second that the owner and the operator want to be sent at most, 0 for any number."""
    return min((rate for rate in (options.get("_rate_limit"), settings.rate_limit) if rate), default=0.0)
