"""What a description of the service says of its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.config.limits import Limits
from gateway.config.notifications import Notifications


@dataclass(frozen=True, slots=True)
class Facts:
    """The options that clients notice, with their defaults.

    ``can_share``: is there a key for pre-signed requests. ``counts_requests``, ``counts_bytes`` and ``counts_waiting``:
    is there a limit of them for each project.
    """

    limits: Limits = Limits()
    notifications: Notifications = Notifications()
    auth_strategy: str = "noauth"
    can_share: bool = False
    client_id_uuid_safe: bool = True
    client_id_length: tuple[int, int] = (10, 36)
    counts_requests: bool = False
    counts_bytes: bool = False
    counts_waiting: bool = False

    @classmethod
    def from_options(cls, conf: Any) -> Facts:
        """From a configuration (oslo.config)."""
        return cls(
            Limits.from_options(conf.transport),
            Notifications.from_options(conf),
            conf.auth_strategy,
            bool(conf.signed_url.secret_key),
            conf.client_id_uuid_safe,
            (conf.min_length_client_id, conf.max_length_client_id),
            bool(conf.quota.requests_per_second),
            bool(conf.quota.bytes_per_second),
            bool(conf.quota.waiting),
        )
