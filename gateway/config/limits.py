"""The limits of section ``[transport]``, and those that the API fixes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

#: Minimum values that the API accepts, in seconds.
MIN_MESSAGE_TTL = 60
MIN_CLAIM_TTL = 60
MIN_CLAIM_GRACE = 60

#: Page size if a request sets no limit.
DEFAULT_PAGE = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """The options of ``[transport]``, under their names. Times are in seconds, sizes in bytes."""

    default_message_ttl: int = 3600
    default_message_delay: int = 0
    default_claim_ttl: int = 300
    default_claim_grace: int = 60
    max_queues_per_page: int = 20
    max_pools_per_page: int = 20
    max_flavors_per_page: int = 20
    max_messages_per_page: int = 20
    max_subscriptions_per_page: int = 20
    max_messages_per_claim_or_pop: int = 20
    max_queue_metadata: int = 65536
    max_messages_post_size: int = 262144
    max_message_ttl: int = 1209600
    max_message_delay: int = 900
    max_claim_ttl: int = 43200
    max_claim_grace: int = 43200
    max_wait: int = 20
    message_delete_with_claim_id: bool = False
    idempotency_ttl: int = 86400
    max_idempotency_keys: int = 1_000_000

    @classmethod
    def from_options(cls, options: Any) -> Limits:
        """From an oslo.config group with an option of the same name for each field."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})
