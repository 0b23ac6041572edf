"""Subscriptions, and how their deliveries go."""

from __future__ import annotations

from gateway.api.openapi.schema import (
    Schema,
    Setting,
    anything,
    boolean,
    constant,
    dictionary,
    integer,
    list_of,
    notification,
    number,
    one_of,
    or_null,
    record,
    text,
)
from gateway.api.v2 import parse_subscriptions as parse
from gateway.api.v2.schemas.common import AGE, COUNT, LOCATION, QUEUE, TIME, TIME_OR_NULL, page
from gateway.api.v2.schemas.queues import ACTING_POLICY, RETRY_POLICY
from gateway.core.subscriptions import filters, webhook_secrets
from gateway.core.subscriptions import options as rules
from gateway.core.subscriptions.retry import MAX_COUNT
from gateway.core.subscriptions.rules import MIN_TTL
from gateway.core.subscriptions.secrets import KEPT_FOR, MOST_KEPT
from gateway.core.subscriptions.subscriber import MAX_LENGTH
from gateway.core.subscriptions.testing import MOST, PERIOD
from gateway.web.operations import Body, Reply

_SUBSCRIBER = text(
    "Who gets the messages: a URI such as `https://example.com/orders`, `mailto:somebody@example.com` or"
    " `marconi:<queue>`. The operator decides which schemes there are, and which addresses are allowed.",
    pattern=r"[A-Za-z][A-Za-z0-9+.-]*:", at_most=MAX_LENGTH, example="https://example.com/orders",
)

_TTL = integer(
    "Seconds that it lasts, up to the year 9999.", at_least=MIN_TTL, default=notification("default_ttl"),
)

_LINE = text(at_most=rules.MAX_TEXT)

_OPTIONS = record(
    "DeliveryOptions", "How to deliver. Keys that are unknown are kept; null is as good as none.",
    {f"{key}?": or_null(value) for key, value in {
        "post_data": text(f"A body, in which {rules.PLACEHOLDER} stands for the message."),
        "post_headers": dictionary(text(), "Headers of the request.", at_most=rules.MAX_HEADERS),
        "subject": {**_LINE, "description": "Subject of mails."},
        "from": {**_LINE, "description": "Sender of mails."},
        "_format": text("What the body is.", choices=rules.FORMATS, default=rules.ZAQAR),
        "_content_type": {**_LINE, "description": "Content-Type of the format `raw`."},
        "_ce_type": text("Type of CloudEvents.", at_least=1, at_most=rules.MAX_TEXT),
        "_filter": dictionary(
            description="Which messages to deliver, by what is in their bodies.", at_least=1,
            at_most=filters.MAX_KEYS,
        ),
        "_retry_policy": RETRY_POLICY,
        "_retry_client_errors": boolean("Is a delivery that was answered 4xx tried again?"),
        "_retry_budget": integer("Seconds after which a message is given up.", at_least=1, at_most=MAX_COUNT),
        "_max_in_flight": integer(
            "Deliveries at a time.", at_least=1, at_most=notification("max_in_flight"),
        ),
        "_rate_limit": number(
            "Deliveries per second.", at_least=rules.MIN_RATE,
            at_most=Setting(lambda facts: facts.notifications.rate_limit or MAX_COUNT),
        ),
        "_dead_letter_queue": {**QUEUE, "description": "Name of the queue for what can't be delivered."},
        "_alert": text("Whom to tell when deliveries fail: `mailto:` or `marconi:`."),
        "_confirmation": text("How to ask for a confirmation.", choices=[rules.CLOUDEVENTS]),
    }.items()},
    more=True,
)

NEW = Body(record("NewSubscription", "A subscription to create.", {
    "subscriber": _SUBSCRIBER, "ttl?": or_null(_TTL), "options?": or_null(_OPTIONS),
}, more=True, example={"subscriber": "https://example.com/orders", "ttl": 86400}), required=True)

CHANGES = Body(record("SubscriptionChanges", "What to change; null leaves a key as it is.", {
    "subscriber?": or_null(_SUBSCRIBER), "ttl?": or_null(_TTL), "options?": or_null(_OPTIONS),
}, more=True, at_least=1), required=True)

SUBSCRIBED = {201: Reply("It is there, also if it was before, unconfirmed.", record(
    "Subscribed", "What was created.", {"subscription_id": text()},
), headers=(LOCATION,))}

TAKEN = {409: "The subscriber has a confirmed subscription already; `Location` has the subscriptions."}

_STATES = ["unconfirmed", "active", "failing", "paused", "disabled", "unsubscribed"]

_SUBSCRIPTION = record("Subscription", "A subscription.", {
    "id": text(),
    "source": text("Name of the queue or topic."),
    "subscriber": text("Who gets the messages."),
    "ttl": {**COUNT, "description": "Seconds that it lasts."},
    "age": AGE,
    "options": dictionary(description="How to deliver."),
    "confirmed": boolean("Has the subscriber confirmed it?"),
    "state?": text("With `detailed`.", choices=_STATES),
    "reason?": text("With `detailed`: why it is in this state."),
    "pending?": {**COUNT, "description": "With `detailed`: how many messages wait for it, estimated."},
})

GOT = {200: Reply("The subscription.", _SUBSCRIPTION)}

LISTED = {200: Reply("A page of subscriptions.", page(
    "SubscriptionPage", "A page of subscriptions, oldest first.", "subscriptions", _SUBSCRIPTION,
))}

CONFIRMATION = Body(record("Confirmation", "Whether to begin deliveries or to end them.", {
    "confirmed": boolean(),
}, more=True, example={"confirmed": True}), required=True)

# -- deliveries -----------------------------------------------------------------------------------------------------

STATE = Body(record("StateChange", "The state that it is to be in.", {
    "state": text(choices=parse.STATES),
}, example={"state": "paused"}), required=True)

_STATUS = or_null(integer("Status of HTTP or SMTP, null without an answer."))
_REASON = text("Class of the failure, empty for none.")
_RESPONSE = text("The first KiB of a textual answer.")
_SECONDS = number("How long it took.", at_least=0)

PROGRESS = {200: Reply("How it goes.", record("SubscriptionStatus", "How the deliveries go. Counts are estimates.", {
    "state": text(choices=_STATES),
    "reason": text("Why it is in this state."),
    "since": or_null({**TIME, "description": "Since when."}),
    "pending": {**COUNT, "description": "Messages that wait."},
    "in_flight": {**COUNT, "description": "Deliveries that are under way."},
    "retrying": {**COUNT, "description": "Messages that wait for a retry."},
    "dead": {**COUNT, "description": "Dead letters."},
    "delivered": {**COUNT, "description": "Messages that were delivered."},
    "failed": {**COUNT, "description": "Attempts that failed."},
    "filtered": {**COUNT, "description": "Messages that the filter left out."},
    "oldest_pending_age": or_null({**COUNT, "description": "Seconds since the oldest that waits was posted."}),
    "next_attempt": TIME_OR_NULL,
    "resting_until": TIME_OR_NULL,
    "rate": or_null(number("Deliveries per second that are allowed now.", at_least=0)),
    "last_success": TIME_OR_NULL,
    "last_failure": or_null(record("LastFailure", "The last attempt that failed.", {
        "at": TIME_OR_NULL, "attempt": COUNT, "status": _STATUS, "reason": _REASON, "seconds": _SECONDS,
        "response": _RESPONSE,
    })),
    "retry_policy": or_null(ACTING_POLICY),
    "retry_delays": list_of(number("Seconds.", at_least=0), "Seconds before each retry."),
}))}

ATTEMPTS = {200: Reply("A page of attempts.", page(
    "DeliveryPage", "A page of attempts, newest first.", "deliveries", record("Delivery", "One attempt.", {
        "id": text(),
        "message_id": text(),
        "attempt": {**COUNT, "description": "Counted from 1."},
        "at": TIME_OR_NULL,
        "status": _STATUS,
        "seconds": _SECONDS,
        "outcome": text(choices=["delivered", "failed", "dead", "rest", "stop"]),
        "reason": _REASON,
        "response": _RESPONSE,
        "next_attempt": TIME_OR_NULL,
    }),
))}

DEAD_LETTERS = {200: Reply("A page of dead letters.", page(
    "DeadLetterPage", "A page of what could not be delivered, oldest first.", "dead_letters",
    record("DeadLetter", "A message that could not be delivered.", {
        "id": text(),
        "reason": text("Why it was given up."),
        "status": _STATUS,
        "attempts": COUNT,
        "first_attempt": TIME_OR_NULL,
        "last_attempt": TIME_OR_NULL,
        "posted": TIME_OR_NULL,
        "body": anything("What was posted."),
    }),
))}

_ONLY: dict[str, Schema] = {"only?": text(
    "`dead` letters, or what the queue still has, `delivered` or not.", choices=["dead", "delivered"], default="dead",
)}
_POSTED_AT = or_null(text("A time in ISO 8601, in UTC without a zone.", example="2030-01-31T12:00:00Z"))

REPLAY = Body(one_of(
    record("ReplayAll", "All of them.", {"all": constant(True), **_ONLY}),
    record("ReplayIds", "Those with these ids.", {
        "ids": list_of(text(), at_least=1, at_most=Setting(lambda facts: facts.limits.max_messages_per_page)), **_ONLY,
    }),
    record("ReplaySince", "Those posted from a time on, and before another.", {
        "since": _POSTED_AT, "until?": _POSTED_AT, **_ONLY,
    }),
    record("ReplayUntil", "Those posted before a time.", {"until": _POSTED_AT, **_ONLY}),
), required=True)

REPLAYED = {202: Reply("They are delivered once more.", record("Replayed", "What is delivered once more.", {
    "accepted": {**COUNT, "description": "How many messages."},
}))}

TEST = Body(record("SubscriptionTest", "What to send.", {"body?": anything("Any JSON value.")}))

TOO_MANY_TESTS = {429: f"It was tested {MOST} times within {PERIOD} seconds; `Retry-After` says when to try again."}

TESTED = {200: Reply("What came of it.", record("SubscriptionTested", "What came of a test.", {
    "status": _STATUS, "seconds": _SECONDS, "reason": _REASON, "response": _RESPONSE,
}))}

_SECRET = text(
    f"`whsec_` and the padded base64 of {webhook_secrets.MIN_SIZE} to {webhook_secrets.MAX_SIZE} bytes.",
    pattern=r"whsec_[A-Za-z0-9+/]{32,86}={0,2}\Z",
)

SECRET = Body(record("NewSecret", "The secret to sign with.", {"secret": _SECRET}), required=True)

GOT_SECRET = {200: Reply("The secret.", record("Secret", "What deliveries are signed with.", {"secret": _SECRET}))}

ROTATION = Body(record("SecretRotation", "How long the last secret goes on signing.", {
    "keep?": or_null(integer("Seconds.", at_least=0, at_most=MOST_KEPT, default=KEPT_FOR)),
}))
