"""OpenStack notifications as oslo.messaging puts them on the wire, and as plain JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson

#: What a notification says; the rest of oslo.messaging's fields is the sender's context, tokens among it.
FIELDS = ("message_id", "publisher_id", "event_type", "priority", "payload", "timestamp")

_VERSION, _MESSAGE = "oslo.version", "oslo.message"


def unwrap(body: bytes) -> bytes:
    """The notification in a JSON body, in an envelope (driver messagingv2) or bare (messaging); else the body."""
    value = orjson.loads(body)
    if isinstance(value, dict) and _VERSION in value and isinstance(value.get(_MESSAGE), str):
        try:
            value = orjson.loads(value[_MESSAGE])
        except orjson.JSONDecodeError:
            return body
    if not isinstance(value, dict) or "event_type" not in value or "payload" not in value:
        return body
    try:
        return orjson.dumps({field: value[field] for field in FIELDS if field in value})
    except TypeError:  # nested too deeply
        return body


def wrap(body: bytes, project: str) -> bytes:
    """A notification in oslo.messaging's envelope, version 2.0. Raises ValueError for any other body."""
    value = orjson.loads(body)
    if not isinstance(value, dict) or not isinstance(value.get("event_type"), str) or "payload" not in value:
        raise ValueError("the body of a notification is an object with event_type (a string) and payload")
    inner: dict[str, Any] = {
        "message_id": str(uuid4()),
        "publisher_id": f"marconi.{project}",
        "priority": "INFO",
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
        **{field: value[field] for field in FIELDS if field in value},
        "_unique_id": uuid4().hex,
    }
    return orjson.dumps({_VERSION: "2.0", _MESSAGE: orjson.dumps(inner).decode()})
