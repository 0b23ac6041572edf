"""Messages and claims."""

from __future__ import annotations

from gateway.api.openapi.schema import Schema, anything, dictionary, integer, limit, list_of, or_null, record, text
from gateway.api.v2 import idempotency, parse
from gateway.api.v2.schemas.common import AGE, COUNT, LINKS, LOCATION
from gateway.config.limits import MIN_CLAIM_GRACE, MIN_CLAIM_TTL, MIN_MESSAGE_TTL
from gateway.web.operations import Body, Parameter, Reply

IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    description=f"1 to {idempotency.MAX_KEY} printable ASCII characters that name this request, in quotes or not: if it"
                " is sent again with the same key, its messages are enqueued once.",
)

KEY_ERRORS = {
    403: "Your roles don't allow it; the queue is bridged for reading only; or the project has too many queues, or too"
         " many keys that are remembered.",
    409: "The queue can't be used now; or a request with the same key is still being answered.",
    422: "The key came with another body before.",
}

CLAIMED_BY_OTHERS = {403: "Your roles don't allow it; or the message is claimed, and `claim_id` is not its claim."}

_LABEL = text(at_least=1, at_most=parse.MAX_LABEL)

NEW_MESSAGES = Body(
    record("NewMessages", "Messages to post.", {
        "messages": list_of(record("NewMessage", "A message to post.", {
            "body": anything("Any JSON value."),
            "ttl?": or_null(integer(
                "Seconds that it lives; that of the queue by default.", at_least=MIN_MESSAGE_TTL,
                at_most=limit("max_message_ttl"),
            )),
            "delay?": or_null(integer(
                "Seconds until it can be seen; that of the queue by default.", at_least=0,
                at_most=limit("max_message_delay"),
            )),
            "group?": or_null({**_LABEL, "description": "In queues with `_fifo`: what it is in order with."}),
            "dedup_id?": or_null({
                **_LABEL, "description": "In queues with `_fifo`: of messages with the same, the first is enqueued.",
            }),
            "properties?": or_null(dictionary(
                description="In queues that are bridged to a target: properties of the AMQP message.",
            )),
        }, more=True), at_least=1),
    }, more=True, example={"messages": [{"body": {"item": "lamp"}, "ttl": 600}, {"body": "desk"}]}),
    required=True,
)

POSTED = {201: Reply(
    "All of them are safe.", record("PostedMessages", "What was posted.", {
        "resources": list_of(text(), "The paths of the messages, in their order."),
    }), headers=(LOCATION,),
)}

_SHOWN: dict[str, Schema] = {
    "ttl": {**COUNT, "description": "Seconds from its post to its end."},
    "age": {**AGE, "description": "Seconds since its post."},
    "body": anything("What was posted."),
    "properties?": dictionary(description="In bridged queues: properties of the AMQP message."),
    "group?": text("In queues with `_fifo`."),
    "dedup_id?": text("In queues with `_fifo`."),
    "checksum?": text("With `enable_checksum`: MD5 of the body.", example="MD5:0d5a5cf4b6a4d4c3ae7c5b0e4bb5b4e2"),
}

MESSAGE = record("Message", "A message.", {
    "id": text(),
    "href": text("Its path, with its claim while it is claimed; delete this to delete the message."),
    **_SHOWN,
})

GOT_MESSAGE = {200: Reply("The message.", MESSAGE)}

LISTED_MESSAGES = {200: Reply(
    "A page of messages, or those of `ids` that there are.",
    record("MessagePage", "A page of messages, oldest first.", {"messages": list_of(MESSAGE), "links?": LINKS}),
    others={"text/event-stream": text("Server-Sent Events: a live feed, if `Accept` asks for it.")},
)}

DELETED_OR_POPPED = {
    200: Reply("With `pop`: messages that are gone now.", record("PoppedMessages", "Messages that were taken out.", {
        "messages": list_of(record("PoppedMessage", "A message that was taken out.", {
            "id": text(), **_SHOWN, "claim_id": or_null(text("The claim that it was in before.")),
            "claim_count": {**COUNT, "description": "How often it was claimed before."},
        })),
    })),
    204: Reply("With `ids`: these are gone, unless they are claimed."),
}

# -- claims ---------------------------------------------------------------------------------------------------------

_TIMES: dict[str, Schema] = {
    "ttl?": or_null(integer(
        "Seconds that the claim lasts.", at_least=MIN_CLAIM_TTL, at_most=limit("max_claim_ttl"),
        default=limit("default_claim_ttl"),
    )),
    "grace?": or_null(integer(
        "Seconds that its messages live at least when the claim is over.", at_least=MIN_CLAIM_GRACE,
        at_most=limit("max_claim_grace"), default=limit("default_claim_grace"),
    )),
}

NEW_CLAIM = Body(record("NewClaim", "How long to claim messages, and how many.", {
    **_TIMES,
    "limit?": or_null(integer(
        "How many messages; that of the query counts first.", at_least=1,
        at_most=limit("max_messages_per_claim_or_pop"),
    )),
}, more=True, example={"ttl": 300, "grace": 60}))

RENEWAL = Body(record("ClaimRenewal", "How long the claim lasts from now on.", _TIMES, more=True))

CLAIMED = {
    201: Reply(
        "The claimed messages.", record("ClaimedMessages", "Messages that nobody else gets for a while.", {
            "messages": list_of(MESSAGE),
        }), headers=(LOCATION,),
    ),
    204: Reply("There is nothing to claim."),
}

CLAIM = {200: Reply("The claim.", record("Claim", "A claim.", {
    "href": text("Its path."),
    "ttl": {**COUNT, "description": "Seconds that it lasts in all."},
    "age": {**AGE, "description": "Seconds since it was made or renewed."},
    "messages": list_of(MESSAGE, "Those that it still holds."),
}))}
