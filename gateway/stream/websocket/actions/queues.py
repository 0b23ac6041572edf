"""Actions on queues."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.api.v2 import queues
from gateway.api.v2.parse import PURGE_TYPES
from gateway.api.v2.render import iso
from gateway.core.errors import InvalidInput
from gateway.stream.websocket.actions.action import Action, Answer, Asked, like
from gateway.stream.websocket.actions.fields import QUEUE, array, boolean, integer, mapping, string
from gateway.web import body, query
from storage.model import Message


def create(asked: Asked) -> Answer:
    """Create a queue, or replace its metadata."""
    metadata = asked.get("metadata")
    if metadata is not None:
        body.check_size(body.encode(metadata), asked.core.limits.max_queue_metadata, "Metadata")
    if queues.put(asked, asked.queue, metadata=metadata):
        return 201, f"Queue {asked.queue} created."
    return 204, f"Queue {asked.queue} was there; its metadata is what was sent."


def list_(asked: Asked) -> Answer:
    """A page of queues."""
    page, _ = queues.list_(
        asked, limit=query.check_limit(asked.get("limit"), asked.core.limits.max_queues_per_page),
        marker=asked.get("marker", ""), name="", filters={}, detailed=asked.get("detailed", False), with_count=False,
    )
    shown: list[dict[str, Any]] = []
    for item in page:
        shown.append({"name": item.name})
        if item.metadata:
            shown[-1]["metadata"] = orjson.Fragment(item.metadata)
    return 200, {"queues": shown}


def get(asked: Asked) -> Answer:
    """The metadata as it was set."""
    return 200, asked.core.queues.stored_metadata(asked.project, asked.queue) or {}


def stats(asked: Asked) -> Answer:
    """How many messages there are; 404 and zeros without a queue."""
    counted = queues.stats(asked, asked.queue)
    shown: dict[str, Any] = {"claimed": counted.claimed, "free": counted.free, "total": counted.total}
    now = asked.now()
    for name, item in (("oldest", counted.oldest), ("newest", counted.newest)):
        if item is not None:
            shown[name] = _edge(item, now)
    found = counted.total or asked.core.queues.exists(asked.project, asked.queue)
    return 200 if found else 404, {"messages": shown}


def _edge(item: Message, now: int) -> dict[str, Any]:
    return {"id": item.id, "age": max(0, now - item.posted) // 1000, "created": iso(item.posted)}


def delete(asked: Asked) -> Answer:
    """Delete a queue."""
    queues.delete(asked, asked.queue)
    return 204, f"Queue {asked.queue} removed."


def purge(asked: Asked) -> Answer:
    """Delete what is in a queue."""
    types = asked.get("resource_types", list(PURGE_TYPES))
    if any(kind not in PURGE_TYPES for kind in types):
        raise InvalidInput(f"Resource types must be supported in the list {list(PURGE_TYPES)}", body.TITLE)
    queues.purge(asked, asked.queue, types=types)
    return 204, {}


ACTIONS = (
    Action(
        "queue_create", like(queues.put),
        "creates a queue (201), or replaces the metadata of one that is there (204)", (QUEUE, mapping("metadata")),
        create,
    ),
    Action(
        "queue_list", like(queues.list_), "a page of queues by name, without links: go on after the last name",
        (integer("limit"), string("marker"), boolean("detailed")), list_,
    ),
    Action("queue_get", like(queues.get), "the metadata as it was set; `{}` without a queue", (QUEUE,), get),
    Action(
        "queue_get_stats", like(queues.stats), "how many messages there are; 404 and zeros without a queue",
        (QUEUE,), stats,
    ),
    Action("queue_delete", like(queues.delete), "deletes a queue", (QUEUE,), delete),
    Action(
        "queue_purge", like(queues.purge), "deletes its messages and subscriptions, or one of the two",
        (QUEUE, array("resource_types")), purge,
    ),
)
