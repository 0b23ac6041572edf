"""Queues and topics: metadata, lists, statistics, purges, shares."""

from __future__ import annotations

from gateway.api.openapi.schema import (
    Schema,
    anything,
    boolean,
    dictionary,
    integer,
    limit,
    list_of,
    one_of,
    or_null,
    record,
    text,
    time,
)
from gateway.api.v2 import parse
from gateway.api.v2.schemas.common import COUNT, LOCATION, QUEUE, page
from gateway.config.limits import MIN_MESSAGE_TTL
from gateway.core.queues.metadata import MAX_COUNT, PATCH_PATH
from gateway.core.subscriptions import retry
from gateway.web.operations import Body, Reply

_COUNT = integer(at_least=0, at_most=retry.MAX_COUNT)
_SECONDS = {**_COUNT, "description": "Seconds."}

_POLICY = {
    "retries_with_no_delay": {**_COUNT, "description": "Retries at once."},
    "minimum_delay_retries": {**_COUNT, "description": "Retries after minimum_delay."},
    "minimum_delay": _SECONDS,
    "maximum_delay": {**_SECONDS, "description": f"Seconds; at least {retry.MIN_SPREAD} more than minimum_delay."},
    "maximum_delay_retries": {**_COUNT, "description": "Retries after maximum_delay."},
    "retry_backoff_function": text("The waits between the two.", choices=retry.BACKOFF_FUNCTIONS),
    "ignore_subscription_override": boolean("Does the policy of the queue count, whatever subscriptions have?"),
}

#: A policy as clients send it.
RETRY_POLICY = record(
    "RetryPolicy", "When deliveries that failed are tried again. A key that is missing or null has its default.",
    {f"{key}?": or_null(value) for key, value in _POLICY.items()}, more=True,
)

#: A policy as it acts.
ACTING_POLICY = record("ActingRetryPolicy", "When deliveries that failed are tried again.", _POLICY)

_TTL = integer("Seconds.", at_least=MIN_MESSAGE_TTL, at_most=limit("max_message_ttl"))

_GIVEN: dict[str, Schema] = {
    "_default_message_ttl": {**_TTL, "description": "TTL in seconds of messages that are posted without one."},
    "_default_message_delay": integer(
        "Delay in seconds of messages that are posted without one.", at_least=0, at_most=limit("max_message_delay"),
    ),
    "_max_messages_post_size": integer(
        "Bytes of the largest request that posts.", at_least=1, at_most=limit("max_messages_post_size"),
    ),
    "_max_claim_count": integer(
        "A message that was claimed so often, and is free again, moves to the dead-letter queue.",
        at_least=1, at_most=MAX_COUNT,
    ),
    "_dead_letter_queue": {**QUEUE, "description": "Name of the queue for dead letters, in the same project."},
    "_dead_letter_queue_messages_ttl": {**_TTL, "description": "TTL of dead letters in seconds."},
    "_enable_encrypt_messages": boolean("Are bodies encrypted on the broker and in the side-store?"),
    "_fifo": boolean("Are messages of a group handed out in order? It can be set only when the queue is created."),
    "_flavor": text("Name of the flavor that says which pools a new queue is put into."),
    "_retry_policy": RETRY_POLICY,
    "_bridge": dictionary(description="Queues and exchanges of others that it reads from and writes to."),
}

METADATA = Body(record(
    "QueueMetadata", "Reserved keys, which begin with _, and keys of your own with any values.",
    {f"{key}?": or_null(value) for key, value in _GIVEN.items()}, more=True,
    example={"team": "shop", "_default_message_ttl": 600},
))

_PATH = text("A JSON pointer (RFC 6901) to one key.", pattern=PATCH_PATH.pattern, example="/metadata/team")

CHANGES = Body(
    list_of(one_of(
        record("SetMetadata", "Set a key.", {
            "op": text("Replace fails if the key is not there.", choices=["add", "replace"]), "path": _PATH,
            "value": anything(),
        }, more=True),
        record("RemoveMetadata", "Remove a key. A reserved one has its default then.", {
            "op": text(choices=["remove"]), "path": _PATH,
        }, more=True),
    ), at_least=1, example=[{"op": "add", "path": "/metadata/team", "value": "shop"}]),
    required=True, media_type=parse.PATCH_TYPE,
)

_ALWAYS = ("_max_messages_post_size", "_default_message_ttl", "_default_message_delay")

#: Reserved keys as they are shown. What was set before the operator lowered a limit may be above it.
_SHOWN: dict[str, Schema] = {
    "_max_messages_post_size": COUNT,
    "_default_message_ttl": COUNT,
    "_default_message_delay": COUNT,
    "_dead_letter_queue": or_null(text()),
    "_dead_letter_queue_messages_ttl": or_null(COUNT),
    "_max_claim_count": or_null(COUNT),
    "_enable_encrypt_messages": boolean(),
    "_fifo": boolean(),
}

_QUEUE = record("Queue", "The metadata of a queue, with the reserved keys filled in.", _SHOWN, more=True)
_TOPIC = record(
    "Topic", "The metadata of a topic, with the reserved keys about messages filled in.",
    {key if key in _ALWAYS else f"{key}?": value for key, value in _SHOWN.items()}, more=True,
)

GOT_QUEUE = {200: Reply("The metadata.", _QUEUE)}
GOT_TOPIC = {200: Reply("The metadata.", _TOPIC)}

CREATED = {
    201: Reply("It was created.", headers=(LOCATION,)),
    204: Reply("It was there; a body has replaced its metadata.", headers=(LOCATION,)),
}

_LISTED = {
    "name": text(), "href": text("Its path."), "metadata?": dictionary(description="With `detailed`, as it was set."),
}

LISTED_QUEUES = {200: Reply("A page of queues.", page(
    "QueuePage", "A page of queues by name.", "queues", record("ListedQueue", "A queue in a list.", _LISTED),
    **{"count?": {**COUNT, "description": "With `with_count`: how many queues match in all."}},
))}

LISTED_TOPICS = {200: Reply("A page of topics.", page(
    "TopicPage", "A page of topics by name.", "topics", record("ListedTopic", "A topic in a list.", _LISTED),
))}

_EDGE = record("StatsMessage", "The oldest or the newest message.", {
    "href": text("Its path."), "age": COUNT, "created": time(),
})

STATS = {200: Reply("The counts.", record("Stats", "How many messages there are.", {
    "messages": record("MessageStats", "How many messages there are. What waits in the broker is an estimate.", {
        "claimed": COUNT, "free": COUNT, "total": {**COUNT, "description": "With those that are delayed."},
        "oldest?": _EDGE, "newest?": _EDGE,
    }),
}))}

PURGE = Body(record("Purge", "What to delete; without a body all of it.", {
    "resource_types": list_of(text(choices=parse.PURGE_TYPES), example=["messages"]),
}))

SHARE = Body(record("Share", "Which calls to share.", {
    "paths?": list_of(text(choices=parse.SHARE_PATHS), "What is below the queue; messages by default.", at_least=1),
    "methods?": list_of(text(choices=parse.SHARE_METHODS), "HTTP methods; GET by default.", at_least=1),
    "expires?": or_null(text("A time to come in ISO 8601, in UTC without a zone; a day from now by default.")),
}, example={"paths": ["messages"], "methods": ["GET", "POST"]}))

SHARED = {200: Reply("What to send in the headers of pre-signed requests.", record(
    "Shared", "What to send in the headers of pre-signed requests.", {
        "project": text("X-Project-ID"),
        "paths": list_of(text(), "URL-Paths, separated by commas"),
        "methods": list_of(text(), "URL-Methods, separated by commas"),
        "expires": text("URL-Expires: in UTC, without a zone"),
        "signature": text("URL-Signature"),
    },
))}
