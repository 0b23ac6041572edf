"""What requests of version 1.1 say, where it is not as in version 2. All raise InvalidInput for what breaks a rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.api.v2.parse import post_of, posted_body, usable_ids
from gateway.core.errors import InvalidInput
from gateway.core.messages.post import Post
from gateway.web import body, query
from gateway.web.call import Call


def queue_page(call: Call) -> dict[str, Any]:
    """Which queues to list, and how."""
    args = call.args
    return {
        "limit": query.limit(args, call.core.limits.max_queues_per_page),
        "detailed": query.boolean(args, "detailed"),
        "marker": args.get("marker", ""),
        "filled": False,
    }


def posts(call: Call) -> dict[str, Any]:
    """Messages to post."""
    data = posted_body(call)
    return posts_of(call, data, body.parse_object(data).get("messages"))


def posts_of(call: Call, data: bytes, messages: Any, ttl_required: bool = False) -> dict[str, Any]:
    """The ``messages`` of a request with the body ``data``.

    Defaults and limits are the operator's. Those of the queue do not count, for which ``size`` is 0.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("The messages must be a list and not empty", body.TITLE)
    body.check_size(data, call.core.limits.max_messages_post_size, "The request")
    return {"posts": [_post(call, message, ttl_required) for message in messages], "size": 0}


def _post(call: Call, message: Any, ttl_required: bool) -> Post:
    """A message to post; all keys but body and ttl are ignored."""
    if isinstance(message, dict):
        message = {key: message[key] for key in ("body", "ttl") if key in message}
    limits, post = call.core.limits, post_of(message)
    ttl = required_integer(message, "ttl") if ttl_required or "ttl" in message else limits.default_message_ttl
    return replace(post, ttl=ttl, delay=limits.default_message_delay)


def required_integer(document: dict[str, Any], key: str) -> int:
    """An integer member that must not be missing or null."""
    value = body.integer(document, key)
    if value is None:
        raise InvalidInput(f"Missing parameter {key}, an integer", body.TITLE)
    return value


def message_page(call: Call) -> dict[str, Any]:
    """Which page of messages to list."""
    args = call.args
    return {
        "limit": query.limit(args, call.core.limits.max_messages_per_page),
        "marker": args.get("marker"),
        "echo": query.boolean(args, "echo"),
        "claimed": query.boolean(args, "include_claimed"),
    }


def messages_or_page(call: Call) -> dict[str, Any]:
    """Ids of the messages to read, or which page of them."""
    ids = query.strings(call.args, "ids")
    return message_page(call) if ids is None else {"ids": usable_ids(call, ids)}


def ids_or_pop(call: Call) -> dict[str, Any]:
    """Ids of messages to delete, or how many to pop."""
    ids, pop = query.strings(call.args, "ids"), query.integer(call.args, "pop")
    if (ids is None) == (pop is None):
        raise InvalidInput("Give either ids or pop", query.TITLE)
    if ids is None:
        return {"pop": query.check_limit(pop, call.core.limits.max_messages_per_claim_or_pop, "pop")}
    return {"ids": usable_ids(call, ids)}


def claim(call: Call) -> dict[str, Any]:
    """How long a claim lasts, in seconds, and how many messages it takes."""
    document = call.document()
    limit = query.integer(call.args, "limit")
    limit = body.integer(document, "limit") if limit is None else limit
    return {
        "ttl": body.integer(document, "ttl"), "grace": body.integer(document, "grace"),
        "limit": query.check_limit(limit, call.core.limits.max_messages_per_claim_or_pop),
    }


def renewal(call: Call) -> dict[str, Any]:
    """How long a claim lasts from now on, in seconds. There must be a body, though it may be an empty object."""
    document = body.parse_object(call.body())
    return {"ttl": body.integer(document, "ttl"), "grace": body.integer(document, "grace")}
