"""``/v2/queues/{queue}/messages``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.api.v2 import render
from gateway.api.v2.queues import path_of
from gateway.core.errors import InvalidInput, NotFound
from gateway.core.ids import USABLE_ID
from gateway.core.messages import Post
from gateway.web import body, query
from gateway.web.call import Call
from gateway.web.errors import Answer
from storage.model import Message

#: Most ids in the Location of a post, whatever the page size: clients and proxies refuse long headers (Python's
#: http.client lines of 64 KiB, nginx by default more than 4 KiB of headers in all).
MAX_LOCATION_IDS = 100


def post(call: Call, queue: str) -> Answer:
    """Post one or more messages."""
    data = call.body()
    if call.service.byte_rate is not None:
        call.service.byte_rate.take(call.project, len(data))
    ids = call.core.messages.post(call.project, queue, call.client, _posts(data), len(data))
    path = f"{path_of(call, queue)}/messages"
    return (
        201,
        orjson.dumps({"resources": [f"{path}/{id_}" for id_ in ids]}),
        {"Location": f"{path}?ids={','.join(ids[:_located(call)])}"},
    )


def _located(call: Call) -> int:
    """How many messages of a post its Location names: as many as one GET takes. ``resources`` names all."""
    return min(call.core.limits.max_messages_per_page, MAX_LOCATION_IDS)


def _posts(data: bytes) -> list[Post]:
    messages = body.parse_object(data).get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("'messages' must be a list of messages and not empty", body.TITLE)
    return [_post(message) for message in messages]


def _post(message: Any) -> Post:
    if not isinstance(message, dict):
        raise InvalidInput("Each message must be a JSON object", body.TITLE)
    if "body" not in message:
        raise InvalidInput("Missing parameter body in a message", body.TITLE)
    properties = message.get("properties")
    if properties is not None and not isinstance(properties, dict):
        raise InvalidInput("'properties' must be an object", body.TITLE)
    return Post(
        body.encode(message["body"]), body.integer(message, "ttl"), body.integer(message, "delay"), properties
    )


def list_(call: Call, queue: str) -> Answer:
    """A page of messages, or with ``ids`` certain ones."""
    args = call.args
    ids = query.strings(args, "ids")
    if ids is not None:
        return _get_many(call, queue, ids)
    limit = query.limit(args, call.core.limits.max_messages_per_page)
    echo, claimed, delayed = (query.boolean(args, name) for name in ("echo", "include_claimed", "include_delayed"))
    marker, not_from = args.get("marker"), None if echo else call.client
    page: Sequence[Message] = call.on_queue(
        queue, lambda info: call.core.messages.list(info, marker, limit, not_from, claimed, delayed)
    ) or ()
    path = path_of(call, queue)
    return 200, orjson.dumps({
        "messages": render.messages(path, page, call.core.store.now(), call.service.enable_checksum),
        "links": query.next_link(f"{path}/messages", args, _marker(page[-1])) if page else [],
    }), {}


def _marker(last: Message) -> str:
    """What a page behind this message begins with: its position, or its place in a queue that is only looked at."""
    return str(last.seq) if last.seq >= 0 else f"peek-{-last.seq}"


def _get_many(call: Call, queue: str, ids: list[str]) -> Answer:
    _check_ids(call, ids)
    usable = [id_ for id_ in ids if USABLE_ID.match(id_)]
    found = call.on_queue(queue, lambda info: call.core.messages.get(info, usable))
    if not found:
        raise NotFound("None of these messages exists")
    shown = render.messages(path_of(call, queue), found, call.core.store.now(), call.service.enable_checksum)
    return 200, orjson.dumps({"messages": shown}), {}


def _check_ids(call: Call, ids: list[str]) -> None:
    highest = call.core.limits.max_messages_per_page
    if not 1 <= len(ids) <= highest:
        raise InvalidInput(f"Name 1 to {highest} ids", query.TITLE)


def get(call: Call, queue: str, message_id: str) -> Answer:
    """One message."""
    usable = [message_id] if USABLE_ID.match(message_id) else []
    found = call.on_queue(queue, lambda info: call.core.messages.get(info, usable))
    if not found:
        raise NotFound(f"Message {message_id} does not exist")
    shown = render.message(path_of(call, queue), found[0], call.core.store.now(), call.service.enable_checksum)
    return 200, orjson.dumps(shown), {}


def delete(call: Call, queue: str, message_id: str) -> Answer:
    """Delete one message."""
    claim_id = call.args.get("claim_id")
    if USABLE_ID.match(message_id):
        call.on_queue(queue, lambda info: call.core.messages.delete(info, message_id, claim_id))
    return 204, b"", {}


def delete_many(call: Call, queue: str) -> Answer:
    """Delete messages by id, or pop the oldest ones."""
    args = call.args
    ids, pop = query.strings(args, "ids"), query.integer(args, "pop")
    if (ids is None) == (pop is None):
        raise InvalidInput("Give either ids or pop", query.TITLE)
    if pop is not None:
        return _pop(call, queue, pop)
    assert ids is not None  # nosec B101  # for the type checker
    _check_ids(call, ids)
    claim_ids = query.strings(args, "claim_ids")
    if call.core.limits.message_delete_with_claim_id and claim_ids is None:
        raise InvalidInput("This service wants claim_ids together with ids", query.TITLE)
    usable = [id_ for id_ in ids if USABLE_ID.match(id_)]
    if usable:
        call.on_queue(queue, lambda info: call.core.messages.delete_many(info, usable, claim_ids)[1])
    return 204, b"", {}


def _pop(call: Call, queue: str, wanted: int) -> Answer:
    limit = query.check_limit(wanted, call.core.limits.max_messages_per_claim_or_pop, "pop")
    messages = call.on_queue(queue, lambda info: call.core.messages.pop(info, limit), sure=True) or ()
    now = call.core.store.now()
    shown = [render.popped(message, now, call.service.enable_checksum) for message in messages]
    return 200, orjson.dumps({"messages": shown}), {}
