"""Requests to receivers: the body in the format that the subscription asks for, and the headers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any
from urllib.parse import quote
from uuid import uuid5

import orjson

from gateway.core.foreign.bodies import from_json
from gateway.core.ids import FOREIGN_IDS
from gateway.core.subscriptions.options import CLOUDEVENTS, CLOUDEVENTS_BINARY, PLACEHOLDER, RAW, ZAQAR

#: Kinds of what is sent: the value of ``Message_Type`` and of a header.
NOTIFICATION, TEST = "Notification", "Test"

JSON = "application/json"
USER_AGENT = f"marconi/{version('marconi')}"

#: The type of CloudEvents unless the subscription has another.
CE_TYPE = "marconi.message"

#: Our headers that those of ``post_headers`` replace.
REPLACEABLE = frozenset(("content-type", "user-agent"))

#: What stays as it is in the header of a CloudEvent: printable ASCII but for blanks, quotes and percent signs
#: (HTTP protocol binding of CloudEvents 1.0.2, 3.1.3.2).
_CE_SAFE = "".join(char for char in map(chr, range(0x21, 0x7F)) if char not in '"%')

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Content:
    """What is sent. ``body`` and ``properties`` are JSON.

    ``ttl`` is in seconds, ``posted`` in ms since the epoch. ``delay`` (s): if the queue has one by default.
    ``properties``: of a bridged queue's message, where they are asked for. The body of another kind than a notification
    or a test is the complete JSON, such as a request to confirm.
    """

    id: str
    body: bytes
    ttl: int
    posted: int
    delay: int | None = None
    properties: bytes | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The subscription that it is for: ``source`` is the queue's name and ``path`` its path, empty for that of a queue;
    ``options`` are as stored.
    """

    source: str
    subscription: str
    options: Mapping[str, Any]
    path: str = ""


def webhook_id(message_id: str, kind: str = NOTIFICATION) -> str:
    """The ``webhook-id`` of all attempts for a message: its id; one made from it if that is no UUID.

    The id must not have a dot, or the signed text would be ambiguous. Other kinds have ids of ours, which stay.
    """
    if kind != NOTIFICATION or _UUID.match(message_id):
        return message_id
    return str(uuid5(FOREIGN_IDS, message_id))


def build(
    content: Content, target: Target, attempt: int, kind: str = NOTIFICATION, *,
    replay: bool = False, origin: str | None = None, token: str | None = None,
) -> tuple[Headers, bytes]:
    """Headers, but for those of the signature, and body of a request.

    ``attempt`` counts from 1. ``kind``: NOTIFICATION, TEST, or that of a request to confirm. ``replay``: it is sent
    again because somebody asked for it. ``origin``: our DNS name, for receivers of CloudEvents that have agreed.
    ``token``: of Keystone, for ``trust+`` subscribers.
    """
    own, body = _content(content, target, kind)
    own += [
        ("User-Agent", USER_AGENT), ("Accept-Encoding", "identity"), ("marconi-queue", target.source),
        ("marconi-subscription", target.subscription), ("marconi-message-type", kind),
        ("marconi-attempt", str(attempt)),
    ]
    if replay:
        own.append(("marconi-replay", "true"))
    if origin is not None:
        own.append(("WebHook-Request-Origin", origin))
    if token is not None:
        own.append(("X-Auth-Token", token))
    return with_theirs(own, target.options), body


def with_theirs(own: Headers, options: Mapping[str, Any]) -> Headers:
    """Headers of ours, and the subscription's ``post_headers``, which replace some of them."""
    theirs = options.get("post_headers")
    if not theirs:
        return own
    replaced = {name.lower() for name in theirs} & REPLACEABLE
    ours = {name.lower() for name, _ in own} - replaced
    headers = [(name, value) for name, value in own if name.lower() not in replaced]
    return [*headers, *((name, value) for name, value in theirs.items() if name.lower() not in ours)]


def _content(content: Content, target: Target, kind: str) -> tuple[Headers, bytes]:
    options = target.options
    format_ = options.get("_format") or ZAQAR
    if kind not in (NOTIFICATION, TEST):
        return [("Content-Type", JSON)], _filled(options, content.body)
    if format_ == RAW:
        return _raw(content.body, options.get("_content_type"))
    if format_ == CLOUDEVENTS:
        data = {"datacontenttype": JSON, "data": orjson.Fragment(content.body)}
        event = orjson.dumps({**dict(_attributes(content, target)), **data})
        return [("Content-Type", "application/cloudevents+json")], event
    if format_ == CLOUDEVENTS_BINARY:
        attributes = [(f"ce-{name}", quote(value, safe=_CE_SAFE)) for name, value in _attributes(content, target)]
        return [("Content-Type", JSON), *attributes], content.body
    return [("Content-Type", JSON)], _filled(options, _zaqar(content, target.source, kind))


def _zaqar(content: Content, source: str, kind: str) -> bytes:
    """What Zaqar sends."""
    shown: dict[str, Any] = {
        "body": orjson.Fragment(content.body), "ttl": content.ttl, "queue_name": source, "Message_Type": kind,
    }
    if content.delay is not None:
        shown["delay"] = content.delay
    if content.properties is not None:
        shown["properties"] = orjson.Fragment(content.properties)
    return orjson.dumps(shown)


def _filled(options: Mapping[str, Any], message: bytes) -> bytes:
    """The client's text with the message in it, or the message alone."""
    text = options.get("post_data")
    if not isinstance(text, str):
        return message
    return text.encode().replace(PLACEHOLDER.encode(), message)


def _raw(body: bytes, content_type: str | None) -> tuple[Headers, bytes]:
    """The body alone: JSON, or what bridging makes of it for native clients that want another type."""
    if content_type is None or "json" in content_type.lower():
        return [("Content-Type", content_type or JSON)], body
    try:
        sent, content_type = from_json(body, content_type)
    except ValueError:  # looks like bytes in base64, and is not
        sent = body
    return [("Content-Type", content_type)], sent


def _attributes(content: Content, target: Target) -> Iterator[tuple[str, str]]:
    """Attributes of the CloudEvent (version 1.0), but for those of the data."""
    yield "specversion", "1.0"
    yield "id", content.id
    yield "source", target.path or f"/v2/queues/{target.source}"
    yield "type", target.options.get("_ce_type") or CE_TYPE
    posted = _EPOCH + timedelta(milliseconds=content.posted)
    yield "time", posted.isoformat(timespec="milliseconds").replace("+00:00", "Z")
