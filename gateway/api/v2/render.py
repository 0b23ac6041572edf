"""Answers as version 2 shows them: status, document, headers; links, and messages as clients see them.

What is rendered for an operation gets the call, the value that its handler returned, and the path's variables by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.api.v2.claims import Held
from gateway.api.v2.queues import QueueStats
from gateway.core.messages.markers import marker_after
from gateway.core.queues.listing import ListedQueue
from gateway.core.queues.names import TOPICS
from gateway.web import query
from gateway.web.call import Call
from gateway.web.operations import Answer
from storage.model import Message

#: Most ids in the Location of a post, whatever the page size: clients and proxies refuse long headers (Python's
#: http.client lines of 64 KiB, nginx by default more than 4 KiB of headers in all).
MAX_LOCATION_IDS = 100


def path_of(call: Call, queue: str) -> str:
    """A queue's own path, as the caller sees it, or a topic's."""
    return f"{call.root}/{'topics' if call.project.startswith(TOPICS) else 'queues'}/{queue}"


# -- answers --------------------------------------------------------------------------------------------------------


def document(call: Call, value: Any, **_: str) -> Answer:
    """200 and the value as it is."""
    return 200, value, {}


def nothing(call: Call, value: None, **_: str) -> Answer:
    """204."""
    return 204, None, {}


def put_queue(call: Call, created: bool, queue: str) -> Answer:
    """201 for a new queue, or 204; where it is."""
    return 201 if created else 204, None, {"Location": path_of(call, queue)}


def queue_list(call: Call, found: tuple[list[ListedQueue], int | None]) -> Answer:
    """A page of queues, the link to the next one, and the count if there is one."""
    page, count = found
    shown = [_listed(call, item) for item in page]
    links = query.next_link(path_of(call, "")[:-1], call.args, page[-1].name) if page else []
    return 200, {"queues": shown, "links": links, **({} if count is None else {"count": count})}, {}


def topic_list(call: Call, found: tuple[list[ListedQueue], int | None]) -> Answer:
    """A page of topics, and the link to the next one."""
    status, shown, headers = queue_list(call, found)
    return status, {"topics": shown["queues"], "links": shown["links"]}, headers


def _listed(call: Call, item: ListedQueue) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": item.name, "href": path_of(call, item.name)}
    if item.metadata:
        shown["metadata"] = orjson.Fragment(item.metadata)
    return shown


def queue_stats(call: Call, stats: QueueStats, queue: str) -> Answer:
    """The counts of a queue's messages."""
    shown: dict[str, Any] = {"claimed": stats.claimed, "free": stats.free, "total": stats.total}
    for name, item in (("oldest", stats.oldest), ("newest", stats.newest)):
        if item is not None:
            shown[name] = edge(path_of(call, queue), item, call.now())
    return 200, {"messages": shown}, {}


def posted(call: Call, ids: list[str], queue: str) -> Answer:
    """201. ``resources`` names all messages, Location as many as one GET takes."""
    path = f"{path_of(call, queue)}/messages"
    located = ids[:min(call.core.limits.max_messages_per_page, MAX_LOCATION_IDS)]
    return 201, {"resources": [f"{path}/{id_}" for id_ in ids]}, {"Location": f"{path}?ids={','.join(located)}"}


def message_list(call: Call, found: Sequence[Message], queue: str) -> Answer:
    """The messages that were asked for by their ids, or a page of messages and the link to the next one."""
    path = path_of(call, queue)
    shown: dict[str, Any] = {"messages": messages(path, found, call.now(), call.service.enable_checksum)}
    if "ids" not in call.args:
        shown["links"] = query.next_link(f"{path}/messages", call.args, marker_after(found[-1])) if found else []
    return 200, shown, {}


def one_message(call: Call, found: Message, queue: str, message_id: str) -> Answer:
    """One message."""
    return 200, message(path_of(call, queue), found, call.now(), call.service.enable_checksum), {}


def deleted_or_popped(call: Call, found: Sequence[Message] | None, queue: str) -> Answer:
    """The popped messages; 204 if none were asked for."""
    if found is None:
        return 204, None, {}
    now = call.now()
    return 200, {"messages": [popped(item, now, call.service.enable_checksum) for item in found]}, {}


def claimed(call: Call, found: Sequence[Message], queue: str) -> Answer:
    """201, the claimed messages and where the claim is; 204 when there are none."""
    if not found:
        return 204, None, {}
    path = path_of(call, queue)
    shown = messages(path, found, call.now(), call.service.enable_checksum, of_claim=True)
    return 201, {"messages": shown}, {"Location": f"{path}/claims/{found[0].claim}"}


def claim(call: Call, held: Held, queue: str, claim_id: str) -> Answer:
    """A claim and the messages that it still holds."""
    path = path_of(call, queue)
    return 200, {
        "href": f"{path}/claims/{claim_id}",
        "ttl": held.ttl,
        "age": held.age,
        "messages": messages(path, held.messages, call.now(), call.service.enable_checksum, of_claim=True),
    }, {}


# -- messages -------------------------------------------------------------------------------------------------------


def message(path: str, item: Message, now: int, checksum: bool, of_claim: bool = False) -> dict[str, Any]:
    """A message of the queue at ``path`` (``/v2/queues/<name>``), at time ``now`` (ms).

    ``of_claim``: the answer is about a claim, and names it even if its time has just run out.
    """
    href = f"{path}/messages/{item.id}"
    if item.claim is not None and (of_claim or item.hidden_until > now):
        href = f"{href}?claim_id={item.claim}"
    shown: dict[str, Any] = {"id": item.id, "href": href}
    fill(shown, item, now, checksum)
    return shown


def popped(item: Message, now: int, checksum: bool) -> dict[str, Any]:
    """A message that has been taken out for good."""
    shown: dict[str, Any] = {"id": item.id}
    fill(shown, item, now, checksum)
    shown["claim_id"] = item.claim
    shown["claim_count"] = item.claims
    return shown


def fill(shown: dict[str, Any], item: Message, now: int, checksum: bool) -> None:
    """Add what every view of a message has."""
    posted = item.posted
    shown["ttl"] = (item.expires - posted) // 1000
    shown["age"] = (now - posted) // 1000 if now > posted else 0
    shown["body"] = orjson.Fragment(item.body)
    if item.properties is not None:
        shown["properties"] = orjson.Fragment(item.properties)
    if item.group:
        shown["group"] = item.group
    if item.dedup_id:
        shown["dedup_id"] = item.dedup_id
    if checksum:
        shown["checksum"] = md5(item.body)


def messages(
    path: str, items: Iterable[Message], now: int, checksum: bool, of_claim: bool = False
) -> list[dict[str, Any]]:
    """A list of messages; see message."""
    return [message(path, item, now, checksum, of_claim) for item in items]


def edge(path: str, item: Message, now: int) -> dict[str, Any]:
    """The oldest or newest message in a queue's statistics."""
    return {
        "href": f"{path}/messages/{item.id}",
        "age": max(0, now - item.posted) // 1000,
        "created": iso(item.posted),
    }


def iso(milliseconds: int) -> str:
    """A time since the epoch as ISO 8601 has it, in whole seconds."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def md5(body: bytes) -> str:
    """The checksum that OpenStack Zaqar shows: of the body as Python's json module writes it."""
    text = json.dumps(orjson.loads(body))
    return f"MD5:{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"
