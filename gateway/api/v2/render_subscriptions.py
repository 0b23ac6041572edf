"""Answers about subscriptions. What is rendered gets the call, what the handler returned, and the path's variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson

from gateway.api.v2.deliveries import Replayed
from gateway.api.v2.render import iso, path_of
from gateway.api.v2.subscriptions import Shown
from gateway.core.messages.markers import marker_after
from gateway.core.subscriptions.admin import Subscribed
from gateway.core.subscriptions.letters import Death
from gateway.core.subscriptions.progress import Progress
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.status import Attempt
from gateway.core.subscriptions.testing import Tested
from gateway.web import errors, query
from gateway.web.call import Call
from gateway.web.operations import Answer
from storage.model import Message

TAKEN = (
    "Such subscription already exists and is confirmed. Subscriptions are unique by project, queue or topic, and"
    " subscriber URI."
)


def subscriptions(call: Call, found: Sequence[Shown], queue: str) -> Answer:
    """A page of subscriptions and the link to the next one."""
    links = _next(call, _path(call, queue), found[-1].subscription.id if found else None)
    return 200, {"subscriptions": [_shown(call, each) for each in found], "links": links}, {}


def subscription(call: Call, found: Shown, queue: str, subscription_id: str) -> Answer:
    """One subscription."""
    return 200, _shown(call, found), {}


def shown(found: Subscription, now: int) -> dict[str, Any]:
    """A subscription at the time ``now`` (ms).

    All of these keys are always there: python-zaqarclient raises when one is missing.
    """
    return {
        "id": found.id,
        "source": found.source,
        "subscriber": found.subscriber,
        "ttl": found.ttl,
        "age": found.age(now),
        "options": found.options,
        "confirmed": found.confirmed,
    }


def _shown(call: Call, each: Shown) -> dict[str, Any]:
    found = each.subscription
    document = shown(found, call.now())
    if each.waiting is not None:
        document |= {"state": found.state, "reason": found.reason, "pending": each.waiting.pending}
    return document


def subscribed(call: Call, made: Subscribed, queue: str) -> Answer:
    """201, also for one that was there unconfirmed; 409 for a subscriber that has confirmed one."""
    headers = {"Location": _path(call, queue)}
    if made.is_taken:
        return 409, errors.document("Conflict", TAKEN), headers
    return 201, {"subscription_id": made.id}, headers


def changed(call: Call, value: None, queue: str, subscription_id: str) -> Answer:
    """204 and where the subscription is."""
    return 204, None, {"Location": f"{_path(call, queue)}/{subscription_id}"}


def confirmed(call: Call, value: None, queue: str, subscription_id: str) -> Answer:
    """204 and this path."""
    return 204, None, {"Location": f"{_path(call, queue)}/{subscription_id}/confirm"}


def secret(call: Call, text: str, queue: str, subscription_id: str) -> Answer:
    """The secret."""
    return 200, {"secret": text}, {}


# -- deliveries -----------------------------------------------------------------------------------------------------


def status(call: Call, found: Progress, queue: str, subscription_id: str) -> Answer:
    """How the deliveries go."""
    status, waiting, now = found.status, found.waiting, call.now()
    oldest = min((at for at in (waiting.oldest, status.oldest) if at), default=0)
    last = status.last_failure
    return 200, {
        "state": found.state,
        "reason": found.subscription.reason,
        "since": _time(found.subscription.since),
        "pending": waiting.pending,
        "in_flight": status.in_flight,
        "retrying": waiting.retrying,
        "dead": waiting.dead,
        "delivered": status.delivered,
        "failed": status.failed,
        "filtered": status.filtered,
        "oldest_pending_age": max(0, now - oldest) // 1000 if oldest and waiting.pending else None,
        "next_attempt": _time(found.next_attempt),
        "resting_until": _time(status.resting_until if status.resting_until > now else 0),
        "rate": status.rate or None,
        "last_success": _time(status.last_success),
        "last_failure": last and {
            "at": _time(last.at), "attempt": last.attempt, "status": last.status or None, "reason": last.reason,
            "seconds": last.seconds, "response": last.response,
        },
        "retry_policy": found.policy and found.policy.as_dict(),
        "retry_delays": list(found.delays),
    }, {}


def attempts(call: Call, found: Sequence[Attempt], queue: str, subscription_id: str) -> Answer:
    """A page of the log of attempts and the link to the next one."""
    shown = [
        {**asdict(each), "at": _time(each.at), "next_attempt": _time(each.next_attempt), "status": each.status or None}
        for each in found
    ]
    links = _next(call, f"{_path(call, queue)}/{subscription_id}/deliveries", found[-1].id if found else None)
    return 200, {"deliveries": shown, "links": links}, {}


def dead_letters(call: Call, found: Sequence[Message], queue: str, subscription_id: str) -> Answer:
    """A page of dead letters and the link to the next one."""
    path = f"{_path(call, queue)}/{subscription_id}/dead_letters"
    links = _next(call, path, marker_after(found[-1]) if found else None)
    return 200, {"dead_letters": [_letter(each) for each in found], "links": links}, {}


def _letter(message: Message) -> dict[str, Any]:
    death = Death.of(message)
    return {
        "id": message.id,
        "reason": death.reason,
        "status": death.status or None,
        "attempts": death.attempts,
        "first_attempt": _time(death.first_attempt),
        "last_attempt": _time(death.last_attempt),
        "posted": _time(message.posted),
        "body": orjson.Fragment(message.body),
    }


def replayed(call: Call, value: Replayed, queue: str, subscription_id: str) -> Answer:
    """202 and how many."""
    return 202, {"accepted": value.accepted}, {}


def tested(call: Call, value: Tested, queue: str, subscription_id: str) -> Answer:
    """What came of a test."""
    return 200, {**asdict(value), "status": value.status or None}, {}


# -- parts ----------------------------------------------------------------------------------------------------------


def _path(call: Call, queue: str) -> str:
    return f"{path_of(call, queue)}/subscriptions"


def _next(call: Call, path: str, marker: str | None) -> list[dict[str, str]]:
    return query.next_link(path, call.args, marker) if marker is not None else []


def _time(milliseconds: int) -> str | None:
    """A time in ISO 8601, None for 0."""
    return iso(milliseconds) if milliseconds else None
