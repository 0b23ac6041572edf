"""Options of messages and queues: limits, encryption, and queues and exchanges of others."""

from __future__ import annotations

from oslo_config import cfg

from gateway.config.limits import Limits
from gateway.config.notifications import Notifications

#: Upper bound of all sizes of messages, in bytes: fits into MongoDB's documents of 16 MiB and a gateway's memory.
MAX_POST_SIZE = 8 * 1024 * 1024

_LIMITS = Limits()
_NOTIFICATIONS = Notifications()

TRANSPORT_OPTS = (
    cfg.IntOpt(
        "default_message_ttl", default=_LIMITS.default_message_ttl, min=60, max=2**31 - 1,
        help="Default message TTL in seconds, if neither the message nor its queue sets one.",
    ),
    cfg.IntOpt(
        "default_message_delay", default=_LIMITS.default_message_delay, min=0, max=2**31 - 1,
        help="Default delay in seconds before a new message can be seen, if neither the message nor its queue sets"
             " one.",
    ),
    cfg.IntOpt(
        "default_claim_ttl", default=_LIMITS.default_claim_ttl, min=60, max=2**31 - 1,
        help="Default claim TTL in seconds, if the request sets none.",
    ),
    cfg.IntOpt(
        "default_claim_grace", default=_LIMITS.default_claim_grace, min=60, max=2**31 - 1,
        help="Default grace of a claim in seconds, if the request sets none. Claimed messages live at least this long"
             " after their claim ends.",
    ),
    cfg.IntOpt(
        "max_queues_per_page", default=_LIMITS.max_queues_per_page, min=1, max=1000,
        help="Maximum number of queues on one page of a list.",
    ),
    cfg.IntOpt(
        "max_pools_per_page", default=_LIMITS.max_pools_per_page, min=1, max=1000,
        help="Maximum number of pools on one page of a list.",
    ),
    cfg.IntOpt(
        "max_flavors_per_page", default=_LIMITS.max_flavors_per_page, min=1, max=1000,
        help="Maximum number of flavors on one page of a list.",
    ),
    cfg.IntOpt(
        "max_messages_per_page", default=_LIMITS.max_messages_per_page, min=1, max=1000,
        help="Maximum number of messages on one page of a list.",
    ),
    cfg.IntOpt(
        "max_messages_per_claim_or_pop", default=_LIMITS.max_messages_per_claim_or_pop, min=1, max=1000,
        help="Maximum number of messages that one claim or pop takes.",
    ),
    cfg.IntOpt(
        "max_queue_metadata", default=_LIMITS.max_queue_metadata, min=1, max=MAX_POST_SIZE,
        help="Maximum size of a queue's metadata in bytes.",
    ),
    cfg.IntOpt(
        "max_messages_post_size", default=_LIMITS.max_messages_post_size, min=1, max=MAX_POST_SIZE,
        help="Maximum size in bytes of a request that posts messages.",
    ),
    cfg.IntOpt(
        "max_message_ttl", default=_LIMITS.max_message_ttl, min=60, max=2**31 - 1,
        help="Maximum message TTL in seconds.",
    ),
    cfg.IntOpt(
        "max_message_delay", default=_LIMITS.max_message_delay, min=0, max=2**31 - 1,
        help="Maximum message delay in seconds.",
    ),
    cfg.IntOpt(
        "max_claim_ttl", default=_LIMITS.max_claim_ttl, min=60, max=2**31 - 1,
        help="Maximum claim TTL in seconds.",
    ),
    cfg.IntOpt(
        "max_claim_grace", default=_LIMITS.max_claim_grace, min=60, max=2**31 - 1,
        help="Maximum grace of a claim in seconds.",
    ),
    cfg.IntOpt(
        "max_wait", default=_LIMITS.max_wait, min=0, max=300,
        help="Maximum time in seconds that a claim, a pop or a list of messages may ask to wait for messages, by ?wait="
             " or Prefer: wait=. Proxies in front must wait longer for an answer. 0: no request waits.",
    ),
    cfg.IntOpt(
        "default_subscription_ttl", default=_NOTIFICATIONS.default_ttl, min=60, max=10**11,
        help="Default subscription TTL in seconds, if the request sets none.",
    ),
    cfg.IntOpt(
        "max_subscriptions_per_page", default=_LIMITS.max_subscriptions_per_page, min=1, max=1000,
        help="Maximum number of subscriptions on one page of a list.",
    ),
    cfg.ListOpt(
        "subscriber_types", default=list(_NOTIFICATIONS.subscriber_types),
        help="Schemes of the URIs that may subscribe, separated by commas. There are http, https,"
             " trust+http, trust+https, mailto and marconi.",
    ),
    cfg.BoolOpt(
        "message_delete_with_claim_id", default=_LIMITS.message_delete_with_claim_id,
        help="Require claim_ids in each request that deletes messages by a list of ids.",
    ),
    cfg.IntOpt(
        "idempotency_ttl", default=_LIMITS.idempotency_ttl, min=60, max=2**31 - 1,
        help="Time in seconds for which a post with an Idempotency-Key is remembered. A repetition within this time"
             " gets the first answer again and enqueues nothing.",
    ),
    cfg.IntOpt(
        "max_idempotency_keys", default=_LIMITS.max_idempotency_keys, min=1, max=2**31 - 1,
        help="Maximum number of Idempotency-Keys that are remembered for a project. A post with a further key is"
             " refused (403). It is an approximate limit, because gateways count now and then.",
    ),
)

ENCRYPTION_OPTS = (
    cfg.StrOpt(
        "key", secret=True,
        help="Key for queues with _enable_encrypt_messages: 32 bytes in base64. `openssl rand -base64 32` prints one."
             " Unset: requests to encrypt a queue are refused.",
    ),
    cfg.ListOpt(
        "other_keys", default=[], secret=True,
        help="Further keys, separated by commas, that only decrypt: the previous key after a change of `key`, or the"
             " next one before it.",
    ),
)

BRIDGING_OPTS = (
    cfg.ListOpt(
        "allow", default=[],
        help="Rules, separated by commas, that allow projects to bridge queues and exchanges of others. Each rule is"
             " PROJECT RIGHT VHOST OBJECT, as in `shop read / queue:orders-*, * write / exchange:events`. PROJECT,"
             " VHOST and OBJECT are patterns. RIGHT is read, write, * for both, or declare. What no rule allows is"
             " refused.",
    ),
    cfg.IntOpt(
        "max_body", default=1024 * 1024, min=1024, max=MAX_POST_SIZE,
        help="Maximum size in bytes of a native message's body after decompression. Larger messages are put aside as"
             " poison. The limit does not apply to messages that were posted through a gateway to a queue of its own.",
    ),
)
