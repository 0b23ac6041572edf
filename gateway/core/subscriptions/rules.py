"""What clients may ask of a subscription: the pure rules, with the limits of this service."""

from __future__ import annotations

from typing import Any

from gateway.config.limits import Limits
from gateway.config.notifications import Notifications
from gateway.core.errors import InvalidInput
from gateway.core.subscriptions import options as subscription_options
from gateway.core.subscriptions import subscriber
from gateway.core.subscriptions.addresses import Rules
from gateway.core.subscriptions.subscriber import Subscriber

#: Minimum TTL of a subscription in seconds, and the last second that ISO 8601 can write (in the year 9999).
MIN_TTL = 60
LAST_SECOND = 253402300799


class SubscriptionRules:
    """Checks the parts of a subscription. All methods raise InvalidInput.

    Raises ValueError for networks and ports of the configuration that can't be read.
    """

    def __init__(self, limits: Limits, options: Notifications):
        self._limits = limits
        self._options = options
        self._addresses = Rules(
            options.allowed_networks, options.trust_networks, options.denied_networks, options.allowed_ports
        )
        self._types = [kind for kind in options.subscriber_types if kind != "http" or options.allow_http]

    def subscriber(self, text: Any) -> Subscriber:
        """The subscriber of a URI."""
        try:
            return subscriber.parse(text, self._types, self._addresses)
        except ValueError as error:
            raise InvalidInput(str(error)) from error

    @staticmethod
    def known(text: str) -> Subscriber:
        """A subscriber whose URI has been checked."""
        return subscriber.parse(text)

    def ttl(self, ttl: int | None, now: int) -> int:
        """The TTL in seconds of a subscription that begins at ``now`` (ms); None stands for the default."""
        if ttl is None:
            return self._options.default_ttl
        if ttl < MIN_TTL or now // 1000 + ttl > LAST_SECOND:
            raise InvalidInput(
                f"The ttl of a subscription must be at least {MIN_TTL} seconds and end before the year 10000, not {ttl}"
            )
        return ttl

    def options(self, options: Any, of: Subscriber, source: str, trust_id: str | None = None) -> dict[str, Any]:
        """The options as they are stored; ``of``: the subscriber. ``trust_id``: the one that is stored."""
        if of.queue and isinstance(options, dict) and "_filter" in options:
            raise InvalidInput("A queue gets each message: the option _filter is for other subscribers")
        if isinstance(options, dict) and options.get("_confirmation") and not self._options.origin:
            raise InvalidInput(
                "Subscription option _confirmation: this service has no name to ask receivers by; its operator can set"
                " [notification] origin"
            )
        try:
            return subscription_options.check(
                options, of, source, self._limits, max_in_flight=self._options.max_in_flight,
                rate_limit=self._options.rate_limit, trust_id=trust_id,
            )
        except ValueError as error:
            raise InvalidInput(str(error)) from error
