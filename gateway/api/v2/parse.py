"""What requests say in query and body, as values for the handlers. All raise InvalidInput for what breaks a rule."""

from __future__ import annotations

from typing import Any

from gateway.api.v2 import sharing
from gateway.api.v2.idempotency import KEY_HEADER, read_key
from gateway.core.errors import InvalidInput
from gateway.core.ids import USABLE_ID
from gateway.core.messages.post import Post
from gateway.web import body, query
from gateway.web.call import Call
from gateway.web.context import Context
from gateway.web.errors import UnsupportedMediaType

PATCH_TYPE = "application/openstack-messaging-v2.0-json-patch"

#: Parameters of the list of queues that are not metadata filters.
LIST_KEYS = frozenset({"limit", "marker", "detailed", "name", "with_count"})

#: Longest group and dedup_id, in characters.
MAX_LABEL = 128

PURGE_TYPES = ("messages", "subscriptions")
PURGE_KEYS = frozenset({"resource_types"})

SHARE_PATHS = ("messages", "claims", "subscriptions")
SHARE_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SHARE_KEYS = frozenset({"paths", "methods", "expires", "url"})


#: What a browser sends when it opens a feed again, in the WSGI environment.
LAST_EVENT_ID = "HTTP_LAST_EVENT_ID"

#: Parameters of lists that feeds don't have, and why.
UNFIT = {"ids": "it shows what comes after a marker", "wait": "it always waits"}


# -- queues ---------------------------------------------------------------------------------------------------------


def metadata(call: Call) -> dict[str, Any]:
    """New metadata, None without a body."""
    data = call.body()
    body.check_size(data, call.core.limits.max_queue_metadata, "Metadata")
    return {"metadata": body.parse_object(data) if data else None}


def changes(call: Call) -> dict[str, Any]:
    """A patch of metadata. Raises UnsupportedMediaType."""
    data = call.body()
    if call.content_type != PATCH_TYPE:
        raise UnsupportedMediaType(f"Accept-Patch: {PATCH_TYPE}")
    body.check_size(data, call.core.limits.max_queue_metadata, "A patch of metadata")
    return {"changes": body.parse(data)}


def queue_page(call: Call) -> dict[str, Any]:
    """Which queues to list, and how."""
    args = call.args
    return {
        "limit": query.limit(args, call.core.limits.max_queues_per_page),
        "detailed": query.boolean(args, "detailed"),
        "with_count": query.boolean(args, "with_count"),
        "marker": args.get("marker", ""),
        "name": args.get("name", ""),
        "filters": {key: _filter_values(value) for key, value in args.items() if key not in LIST_KEYS},
    }


def topic_page(call: Call) -> dict[str, Any]:
    """Which topics to list, and how. They are not counted."""
    return {**queue_page(call), "with_count": False}


def _filter_values(text: str) -> list[Any]:
    """What a filter's text may stand for: itself as a string, or the JSON value that it is."""
    try:
        return [text, body.parse(text.encode())]
    except (InvalidInput, UnicodeEncodeError):
        return [text]


def purge(call: Call) -> dict[str, Any]:
    """Types of what to remove from a queue; without a body all of them."""
    data = call.body()
    document = body.parse_optional_object(data)
    if data and not document:
        raise InvalidInput("Missing parameter resource_types", body.TITLE)
    body.check_keys(document, PURGE_KEYS)
    types = document.get("resource_types", list(PURGE_TYPES))
    if not isinstance(types, list) or any(kind not in PURGE_TYPES for kind in types):
        raise InvalidInput(f"Resource types must be supported in the list {list(PURGE_TYPES)}", body.TITLE)
    return {"types": types}


def share(call: Call) -> dict[str, Any]:
    """What to share: names below the queue, methods, until when, and where links of this caller begin."""
    sharing.check(call)  # first: where nothing can be shared, the body does not matter
    document = call.document()
    body.check_keys(document, SHARE_KEYS)
    names = _string_list(document, "paths", ["messages"], SHARE_PATHS)
    methods = _string_list(document, "methods", ["GET"], SHARE_METHODS)
    url = document.get("url", False)
    if not isinstance(url, bool):
        raise InvalidInput("url must be true or false", body.TITLE)
    if url and not ("messages" in names and "GET" in methods):
        raise InvalidInput("url is that of GET of messages: share both", body.TITLE)
    return {"base": call.base, "names": names, "methods": methods, "expires": document.get("expires"), "url": url}


def _string_list(document: dict[str, Any], key: str, default: list[str], allowed: tuple[str, ...]) -> list[str]:
    values = document.get(key, default)
    if not isinstance(values, list) or not values or any(value not in allowed for value in values):
        raise InvalidInput(f"{key} must be a list of some of {', '.join(allowed)}", body.TITLE)
    return values


# -- messages -------------------------------------------------------------------------------------------------------


def posts(call: Call) -> dict[str, Any]:
    """Messages to post, the bytes of the request, and its Idempotency-Key. Raises TooFast."""
    data = posted_body(call)
    messages = body.parse_object(data).get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("'messages' must be a list of messages and not empty", body.TITLE)
    key = call.request.environ.get(KEY_HEADER)
    return {
        "posts": [post_of(message) for message in messages], "size": len(data),
        "key": None if key is None else read_key(key, data),
    }


def posted_body(call: Call) -> bytes:
    """The body of a request that posts, which counts for the project's rate. Raises TooFast."""
    data = call.body()
    if call.service.byte_rate is not None:
        call.service.byte_rate.take(call.project, len(data))
    return data


def post_of(message: Any) -> Post:
    """One message to post."""
    if not isinstance(message, dict):
        raise InvalidInput("Each message must be a JSON object", body.TITLE)
    if "body" not in message:
        raise InvalidInput("Missing parameter body in a message", body.TITLE)
    properties = message.get("properties")
    if properties is not None and not isinstance(properties, dict):
        raise InvalidInput("'properties' must be an object", body.TITLE)
    if "group" in message or "dedup_id" in message:
        group, dedup_id = _label(message, "group"), _label(message, "dedup_id")
    else:
        group = dedup_id = None
    return Post(
        body.encode(message["body"]), body.integer(message, "ttl"), body.integer(message, "delay"), properties,
        group, dedup_id,
    )


def _label(message: dict[str, Any], key: str) -> str | None:
    """A group or dedup_id; None when it is missing or null."""
    value = message.get(key)
    if value is None or (isinstance(value, str) and 1 <= len(value) <= MAX_LABEL and value.isprintable()):
        return value
    raise InvalidInput(f"{key!r} must be a string of 1 to {MAX_LABEL} printable characters", body.TITLE)


def messages_or_page(call: Call) -> dict[str, Any]:
    """Ids of the messages to read, or which page of them."""
    args = call.args
    ids = query.strings(args, "ids")
    if ids is not None:
        return {"ids": usable_ids(call, ids)}
    return {
        "limit": query.limit(args, call.core.limits.max_messages_per_page),
        "marker": args.get("marker"),
        "echo": query.boolean(args, "echo"),
        "claimed": query.boolean(args, "include_claimed"),
        "delayed": query.boolean(args, "include_delayed"),
    }


def message_feed(call: Call) -> dict[str, Any]:
    """Where a feed of messages begins, how many it reads at once, and which it shows."""
    args = call.args
    for name, reason in UNFIT.items():
        if name in args:
            raise InvalidInput(f"A live feed has no {name}: {reason}", query.TITLE)
    values = messages_or_page(call)
    last = call.request.environ.get(LAST_EVENT_ID)
    return {**values, "marker": last or values["marker"]}


def usable_ids(context: Context, ids: list[str]) -> list[str]:
    """Those of the ids that a message may have."""
    highest = context.core.limits.max_messages_per_page
    if not 1 <= len(ids) <= highest:
        raise InvalidInput(f"Name 1 to {highest} ids", query.TITLE)
    return [id_ for id_ in ids if USABLE_ID.match(id_)]


def claim_id(call: Call) -> dict[str, Any]:
    """The claim that a message to delete is in, None without one."""
    return {"claim_id": call.args.get("claim_id")}


def ids_or_pop(call: Call) -> dict[str, Any]:
    """Ids of messages to delete and the claims that they are in, or how many to pop."""
    args = call.args
    ids, pop = query.strings(args, "ids"), query.integer(args, "pop")
    if (ids is None) == (pop is None):
        raise InvalidInput("Give either ids or pop", query.TITLE)
    if ids is None:
        return {"pop": query.check_limit(pop, call.core.limits.max_messages_per_claim_or_pop, "pop")}
    usable = usable_ids(call, ids)
    claim_ids = query.strings(args, "claim_ids")
    if call.core.limits.message_delete_with_claim_id and claim_ids is None:
        raise InvalidInput("This service wants claim_ids together with ids", query.TITLE)
    return {"ids": usable, "claim_ids": claim_ids}


# -- claims ---------------------------------------------------------------------------------------------------------


def claim(call: Call) -> dict[str, Any]:
    """How long a claim lasts, in seconds, and how many messages it takes."""
    document = call.document()
    ttl, grace = body.integer(document, "ttl"), body.integer(document, "grace")
    # openstacksdk sends the limit in the body. That of the query counts first, but both have to be right.
    highest = call.core.limits.max_messages_per_claim_or_pop
    limit = query.check_limit(body.integer(document, "limit"), highest)
    return {
        "ttl": ttl, "grace": grace, "limit": query.limit(call.args, highest) if "limit" in call.args else limit,
    }


def renewal(call: Call) -> dict[str, Any]:
    """How long a claim lasts from now on, in seconds."""
    document = call.document()
    return {"ttl": body.integer(document, "ttl"), "grace": body.integer(document, "grace")}
