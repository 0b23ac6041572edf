"""What the configuration says about subscriptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Notifications:
    """Options that decide what becomes of a subscription. Times are in seconds.

    ``subscriber_types``: schemes of URIs that may subscribe. ``per_project``: how many subscriptions a project may
    have, 0 for any number. ``origin``: DNS name of this service. The networks and ports are for addresses that a URL
    names itself. ``connection_lease``: see gateway.core.subscriptions.holders.
    """

    require_confirmation: bool = False
    public_url: str = ""
    origin: str = ""
    default_ttl: int = 3600
    subscriber_types: tuple[str, ...] = ("http", "https", "trust+http", "trust+https", "mailto", "marconi")
    per_project: int = 0
    allow_http: bool = True
    allowed_networks: tuple[str, ...] = ()
    trust_networks: tuple[str, ...] = ()
    denied_networks: tuple[str, ...] = ()
    allowed_ports: str = "80,443,1024-65535"
    max_in_flight: int = 10
    rate_limit: float = 0.0
    dead_letter_ttl: int = 1209600
    retry_schedule: tuple[int, ...] = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    connection_lease: float = 60.0

    @classmethod
    def from_options(cls, conf: Any) -> Notifications:
        """From a configuration (oslo.config)."""
        options = conf.notification
        return cls(
            options.require_confirmation,
            (options.public_url or "").rstrip("/"),
            options.origin or urlsplit(options.public_url or "").hostname or "",
            conf.transport.default_subscription_ttl,
            tuple(kind.lower() for kind in conf.transport.subscriber_types),
            conf.quota.subscriptions,
            options.allow_http,
            tuple(options.allowed_networks),
            tuple(options.trust_networks),
            tuple(options.denied_networks),
            options.allowed_ports,
            options.max_in_flight,
            options.rate_limit,
            options.dead_letter_ttl,
            tuple(options.retry_schedule),
            conf.websocket.lease,
        )
