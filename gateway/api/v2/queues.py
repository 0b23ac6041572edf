"""``/v2/queues`` and what is below a queue but messages and claims."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from gateway.access.policy import BY_CALL
from gateway.access.signing import EXPIRES, SEPARATOR, sign
from gateway.api.v2 import render
from gateway.core.errors import Forbidden, InvalidInput, NotFound
from gateway.core.listing import Wanted
from gateway.core.queues import QueueInfo
from gateway.environ import BASE, base_of
from gateway.web import body, query
from gateway.web.call import Call
from gateway.web.errors import Answer, UnsupportedMediaType
from storage.model import Stats

PATCH_TYPE = "application/openstack-messaging-v2.0-json-patch"

#: Query keys of the list of queues that are no metadata filters.
LIST_KEYS = frozenset({"limit", "marker", "detailed", "name", "with_count"})

PURGE_TYPES = ("messages", "subscriptions")
PURGE_KEYS = frozenset({"resource_types"})

SHARE_PATHS = ("messages", "claims", "subscriptions")
SHARE_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SHARE_KEYS = frozenset({"paths", "methods", "expires"})

#: How long a share lasts when the request does not say.
SHARE_FOR = timedelta(days=1)


def path_of(call: Call, queue: str) -> str:
    """A queue's own path, as the caller sees it."""
    return f"{call.request.environ.get(BASE, '')}/v2/queues/{queue}"


def put(call: Call, queue: str) -> Answer:
    """Make a queue, or give an existing one new metadata."""
    data = call.body()
    body.check_size(data, call.core.limits.max_queue_metadata, "Queue metadata")
    metadata = body.parse_object(data) if data else None
    made = call.core.queues.create(call.project, queue, metadata, call.identity.roles)
    return 201 if made else 204, b"", {"Location": path_of(call, queue)}


def get(call: Call, queue: str) -> Answer:
    """A queue's metadata."""
    return 200, orjson.dumps(call.core.queues.metadata(call.project, queue)), {}


def head(call: Call, queue: str) -> Answer:
    """Does the queue exist?"""
    if not call.core.queues.exists(call.project, queue):
        raise NotFound(f"Queue {queue} does not exist")
    return 204, b"", {}


def patch(call: Call, queue: str) -> Answer:
    """Change a queue's metadata."""
    data = call.body()
    if call.request.headers.get("Content-Type") != PATCH_TYPE:
        raise UnsupportedMediaType(f"Accept-Patch: {PATCH_TYPE}")
    body.check_size(data, call.core.limits.max_queue_metadata, "A patch of queue metadata")
    patched = call.core.queues.patch(call.project, queue, body.parse(data), call.identity.roles)
    return 200, orjson.dumps(patched), {}


def delete(call: Call, queue: str) -> Answer:
    """Remove a queue and its messages."""
    call.core.queues.delete(call.project, queue)
    return 204, b"", {}


def list_(call: Call) -> Answer:
    """The project's queues, by name."""
    args = call.args
    limit = query.limit(args, call.core.limits.max_queues_per_page)
    detailed, with_count = query.boolean(args, "detailed"), query.boolean(args, "with_count")
    name = args.get("name", "")
    filters = {key: _filter_values(value) for key, value in args.items() if key not in LIST_KEYS}

    def matches(metadata: dict[str, Any]) -> bool:
        return all(any(_same(metadata.get(key), wanted) for wanted in values) for key, values in filters.items())

    page, count = call.core.queues.lists.page(Wanted(
        call.project, args.get("marker", ""), limit, name, matches if filters else None, detailed, with_count
    ))
    answer: dict[str, Any] = {
        "queues": [
            {
                "name": q.name,
                "href": path_of(call, q.name),
                **({"metadata": orjson.Fragment(q.metadata)} if detailed else {}),
            }
            for q in page
        ],
        "links": query.next_link(f"{base_of(call.request.environ)}/v2/queues", args, page[-1].name) if page else [],
    }
    if with_count:
        answer["count"] = count
    return 200, orjson.dumps(answer), {}


def _filter_values(text: str) -> list[Any]:
    """What a filter's text may stand for: itself as a string, or the JSON value that it is."""
    try:
        return [text, body.parse(text.encode())]
    except (InvalidInput, UnicodeEncodeError):
        return [text]


def _same(left: Any, right: Any) -> bool:
    """Equality of JSON values: unlike Python's, true is not 1."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def stats(call: Call, queue: str) -> Answer:
    """How many messages a queue has."""
    counts: dict[str, Any] = {"claimed": 0, "free": 0, "total": 0}
    if (counted := call.on_queue(queue, lambda info: _counted(call, info))) is not None:
        landed, waiting = counted
        counts = {
            "claimed": landed.claimed,
            "free": landed.free + waiting,
            "total": landed.free + landed.claimed + landed.delayed + waiting,
        }
        now = call.core.store.now()
        for name, item in (("oldest", landed.oldest), ("newest", landed.newest)):
            if counts["total"] and item is not None:
                counts[name] = render.edge(path_of(call, queue), item, now)
    return 200, orjson.dumps({"messages": counts}), {}


def _counted(call: Call, info: QueueInfo) -> tuple[Stats, int] | None:
    """What there is in a queue, None if that is nothing."""
    landed, waiting = call.core.messages.stats(info)
    return (landed, waiting) if waiting or landed.newest is not None else None


def purge(call: Call, queue: str) -> Answer:
    """Remove all messages, or subscriptions, or both."""
    document = call.document()
    body.check_keys(document, PURGE_KEYS)
    types = document.get("resource_types", list(PURGE_TYPES))
    if not isinstance(types, list) or any(kind not in PURGE_TYPES for kind in types):
        raise InvalidInput(f"Resource types must be supported in the list {list(PURGE_TYPES)}", body.TITLE)
    if "messages" in types:
        call.core.messages.purge(call.project, queue)
    return 204, b"", {}


def share(call: Call, queue: str) -> Answer:
    """Sign the right to some calls on a queue for whoever gets the signature."""
    key = call.service.signing_key
    if key is None:
        raise NotFound("This service has no key to sign with; ask its operator to set [signed_url] secret_key")
    if SEPARATOR in call.project:
        raise InvalidInput("The queues of a project with a backslash in its id can't be shared")
    document = call.document()
    body.check_keys(document, SHARE_KEYS)
    names = _string_list(document, "paths", ["messages"], SHARE_PATHS)
    methods = _string_list(document, "methods", ["GET"], SHARE_METHODS)
    if refused := [rule for rule in rules_of(names, methods) if not call.allows(rule)]:
        raise Forbidden(f"Your roles don't allow what you want to share ({', '.join(refused)})")
    paths = [f"{path_of(call, queue)}/{name}" for name in names]
    expires = _expiry(document.get("expires")).strftime(EXPIRES)
    return 200, orjson.dumps({
        "project": call.project,
        "paths": paths,
        "methods": methods,
        "expires": expires,
        "signature": sign(key, paths, methods, call.project, expires),
    }), {}


def rules_of(names: list[str], methods: list[str]) -> list[str]:
    """The policy's rules for what a share of these paths and methods covers."""
    shared = tuple(f"/v2/queues/{{queue_name}}/{name}" for name in names)
    wanted = {"GET" if method == "HEAD" else method for method in methods}
    return sorted({rule for (method, path), rule in BY_CALL.items() if method in wanted and path.startswith(shared)})


def _string_list(document: dict[str, Any], key: str, default: list[str], allowed: tuple[str, ...]) -> list[str]:
    values = document.get(key, default)
    if not isinstance(values, list) or not values or any(value not in allowed for value in values):
        raise InvalidInput(f"{key} must be a list of some of {', '.join(allowed)}", body.TITLE)
    return values


def _expiry(text: Any) -> datetime:
    """The time at which a share ends, in UTC."""
    now = datetime.now(UTC)
    if text is None:
        return now + SHARE_FOR
    try:
        if not isinstance(text, str):
            raise ValueError
        expires = datetime.fromisoformat(text)
        expires = expires.replace(tzinfo=UTC) if expires.tzinfo is None else expires.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput("expires must be a time in ISO 8601, like 2030-01-31T12:00:00", body.TITLE) from None
    if expires <= now:
        raise InvalidInput("expires is in the past", body.TITLE)
    return expires
