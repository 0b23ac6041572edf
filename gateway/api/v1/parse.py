"""What requests of version 1 say. All raise InvalidInput for what breaks a rule."""

from __future__ import annotations

from typing import Any

from gateway.api.v1_1.parse import message_page, posts_of, required_integer
from gateway.api.v2.parse import posted_body, usable_ids
from gateway.core.errors import InvalidInput
from gateway.web import body, query
from gateway.web.call import Call

#: What keys of metadata begin with that this version has no say in.
RESERVED = "_"


def no_metadata(call: Call) -> dict[str, Any]:
    """Nothing: a body is read, but only its type is looked at."""
    call.body()
    return {"metadata": None}


def metadata(call: Call) -> dict[str, Any]:
    """All of a queue's metadata."""
    data = call.body()
    body.check_size(data, call.core.limits.max_queue_metadata, "Metadata")
    found = body.parse_object(data)
    if reserved := sorted(key for key in found if key.startswith(RESERVED)):
        raise InvalidInput(f"Keys that begin with {RESERVED} are reserved: {', '.join(reserved)}", body.TITLE)
    return {"metadata": found}


def posts(call: Call) -> dict[str, Any]:
    """Messages to post, a list."""
    data = posted_body(call)
    return posts_of(call, data, body.parse(data), ttl_required=True)


def messages_or_page(call: Call) -> dict[str, Any]:
    """Ids of the messages to read, or which page of them, for which the client must say who he is."""
    ids = query.strings(call.args, "ids")
    if ids is not None:
        return {"ids": usable_ids(call, ids)}
    if not call.client:
        raise InvalidInput("The Client-ID header is missing")
    return message_page(call)


def ids(call: Call) -> dict[str, Any]:
    """Ids of messages to delete."""
    found = query.strings(call.args, "ids")
    if found is None:
        raise InvalidInput("Missing parameter ids", query.TITLE)
    return {"ids": usable_ids(call, found)}


def claim(call: Call) -> dict[str, Any]:
    """How long a claim lasts, in seconds, and how many messages it takes."""
    document = body.parse_object(call.body())
    return {
        "ttl": required_integer(document, "ttl"), "grace": required_integer(document, "grace"),
        "limit": query.limit(call.args, call.core.limits.max_messages_per_claim_or_pop),
    }


def renewal(call: Call) -> dict[str, Any]:
    """How long a claim lasts from now on, in seconds."""
    document = body.parse_object(call.body())
    return {"ttl": required_integer(document, "ttl"), "grace": body.integer(document, "grace") or 0}
