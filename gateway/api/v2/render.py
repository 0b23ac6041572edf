"""Messages as clients see them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from storage.model import Message


def message(path: str, item: Message, now: int, checksum: bool) -> dict[str, Any]:
    """A message of the queue at ``path`` (``/v2/queues/<name>``), at time ``now`` (ms)."""
    href = f"{path}/messages/{item.id}"
    if item.claim is not None and item.hidden_until > now:
        href = f"{href}?claim_id={item.claim}"
    shown: dict[str, Any] = {"id": item.id, "href": href}
    _fill(shown, item, now, checksum)
    return shown


def popped(item: Message, now: int, checksum: bool) -> dict[str, Any]:
    """A message that has been taken out for good."""
    shown: dict[str, Any] = {"id": item.id}
    _fill(shown, item, now, checksum)
    shown["claim_id"] = item.claim
    shown["claim_count"] = item.claims
    return shown


def _fill(shown: dict[str, Any], item: Message, now: int, checksum: bool) -> None:
    """Add what every view of a message has."""
    posted = item.posted
    shown["ttl"] = (item.expires - posted) // 1000
    shown["age"] = (now - posted) // 1000 if now > posted else 0
    shown["body"] = orjson.Fragment(item.body)
    if item.properties is not None:
        shown["properties"] = orjson.Fragment(item.properties)
    if checksum:
        shown["checksum"] = md5(item.body)


def messages(path: str, items: Iterable[Message], now: int, checksum: bool) -> list[dict[str, Any]]:
    """A list of messages."""
    return [message(path, item, now, checksum) for item in items]


def edge(path: str, item: Message, now: int) -> dict[str, Any]:
    """The oldest or newest message in a queue's statistics."""
    return {
        "href": f"{path}/messages/{item.id}",
        "age": max(0, now - item.posted) // 1000,
        "created": datetime.fromtimestamp(item.posted / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def md5(body: bytes) -> str:
    """The checksum that OpenStack Zaqar shows: of the body as Python's json module writes it."""
    text = json.dumps(orjson.loads(body))
    return f"MD5:{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"
