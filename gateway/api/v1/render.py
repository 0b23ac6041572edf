"""Answers of version 1. What is not there is a 204, and messages have four keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.api.v2 import home as home_v2
from gateway.api.v2 import render, render_pools
from gateway.api.v2.claims import Held
from gateway.core.pools.record import PoolRecord
from gateway.core.queues.listing import ListedQueue
from gateway.web.call import JSON, Call
from gateway.web.operations import Answer, Operation
from storage.model import Message

#: Seconds for which the home document may be kept: it is the same for all.
HOME_FOR = 86400

NOTHING: Answer = (204, None, {})

KEYS = ("href", "ttl", "age", "body")


def home(call: Call, operations: tuple[Operation, ...]) -> Answer:
    """The home document."""
    status, shown, headers = home_v2.home(call, operations)
    return status, shown, {**headers, "Cache-Control": f"max-age={HOME_FOR}"}


# -- queues ---------------------------------------------------------------------------------------------------------


def put_queue(call: Call, created: bool, queue: str) -> Answer:
    """201 for a new queue, or 204; where it is. Old clients want a type with every 201."""
    status, shown, headers = render.put_queue(call, created, queue)
    return status, shown, {**headers, "Content-Type": JSON} if created else headers


def queue_list(call: Call, found: tuple[list[ListedQueue], int | None]) -> Answer:
    """A page of queues; 204 without any."""
    return render.queue_list(call, found) if found[0] else NOTHING


def put_metadata(call: Call, value: None, queue: str) -> Answer:
    """204 and where the metadata is."""
    return 204, None, {"Location": f"{render.path_of(call, queue)}/metadata"}


# -- messages -------------------------------------------------------------------------------------------------------


def _messages(shown: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: message[key] for key in KEYS} for message in shown]


def _unclaimed(shown: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages in answers that are not about claims: their links name none."""
    return [{**message, "href": message["href"].partition("?")[0]} for message in _messages(shown)]


def posted(call: Call, ids: list[str], queue: str) -> Answer:
    """201 and where the messages are. They are posted all or none."""
    status, shown, headers = render.posted(call, ids, queue)
    return status, {**shown, "partial": False}, headers


def message_list(call: Call, found: Sequence[Message], queue: str) -> Answer:
    """The messages that were asked for by their ids, or a page of messages; 204 without any."""
    if not found:
        return NOTHING
    status, shown, headers = render.message_list(call, found, queue)
    messages = _unclaimed(shown["messages"])
    return status, {**shown, "messages": messages} if "links" in shown else messages, headers


def one_message(call: Call, found: Message, queue: str, message_id: str) -> Answer:
    """One message."""
    status, shown, headers = render.one_message(call, found, queue, message_id)
    return status, _unclaimed([shown])[0], headers


# -- claims ---------------------------------------------------------------------------------------------------------


def claimed(call: Call, found: Sequence[Message], queue: str) -> Answer:
    """201, the claimed messages and where the claim is; 204 when there are none."""
    status, shown, headers = render.claimed(call, found, queue)
    return status, None if shown is None else _messages(shown["messages"]), headers


def claim(call: Call, held: Held, queue: str, claim_id: str) -> Answer:
    """A claim and the messages that it still holds."""
    status, shown, headers = render.claim(call, held, queue, claim_id)
    return status, {**shown, "messages": _messages(shown["messages"])}, headers


# -- pools ----------------------------------------------------------------------------------------------------------


def created_pool(call: Call, value: None, pool_name: str) -> Answer:
    """201 and where the pool is. Old clients want a type with every 201."""
    status, shown, headers = render_pools.created("pools")(call, value, pool_name=pool_name)
    return status, shown, {**headers, "Content-Type": JSON}


def pool_list(call: Call, page: Sequence[PoolRecord]) -> Answer:
    """A page of pools and the link to the next one, which is this one when there are no pools on it."""
    status, shown, headers = render_pools.pool_list(call, page)
    if not page:
        query = call.request.environ.get("QUERY_STRING", "")
        shown["links"] = [{"rel": "next", "href": f"{call.root}/pools" + (f"?{query}" if query else "")}]
    return status, shown, headers
