"""AMQP properties of native clients' messages as JSON, and messages with the properties that a poster wants."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from bridges.base import Envelope
from bridges.bridging import MAX_NAME, check_table, is_short
from gateway.core.foreign.bodies import from_json
from gateway.core.foreign.codings import NONE, coded, coding_of
from gateway.core.foreign.oslo import wrap

#: Headers by which RabbitMQ sends a message to further queues, whatever they are ("Sender-selected Distribution").
ROUTING_HEADERS = frozenset({"CC", "BCC"})

#: Properties that are shown under their own names when they are set.
_SHOWN = (
    "content_type", "content_encoding", "priority", "correlation_id", "reply_to", "type", "app_id", "message_id",
    "timestamp",
)

#: Properties that a poster may set to a string, on a queue that is bridged to a target.
_SETTABLE = ("content_type", "content_encoding", "correlation_id", "reply_to", "type", "app_id")


def native_envelope(body: bytes, wanted: Mapping[str, Any], oslo: bool, project: str) -> Envelope:
    """A message for a native client: a JSON body and the AMQP properties that its poster wants.

    Raises ValueError for what AMQP can't carry.
    """
    if oslo:
        if wanted:
            raise ValueError("a notification has the properties that oslo.messaging gives it, and no others")
        return Envelope(wrap(body, project), content_encoding="utf-8", priority=0)
    if unknown := sorted(set(wanted) - {"headers", "priority", *_SETTABLE}):
        raise ValueError(f"properties that can't be set: {', '.join(unknown)}")
    for name in _SETTABLE:
        if name in wanted and not is_short(wanted[name]):
            raise ValueError(f"property {name} must be a string of at most {MAX_NAME} bytes")
    priority, headers = wanted.get("priority"), wanted.get("headers", {})
    if priority is not None and (type(priority) is not int or not 0 <= priority < 256):
        raise ValueError("property priority must be an integer from 0 to 255")
    if not isinstance(headers, dict):
        raise ValueError("property headers must be an object")
    check_table(headers, "headers")
    if ROUTING_HEADERS & headers.keys():
        raise ValueError("the headers CC and BCC would send the message elsewhere, which is not allowed")
    if str(wanted.get("reply_to", "")).startswith("amq."):
        raise ValueError("property reply_to: direct replies need a connection that waits for them")
    raw, content_type = from_json(body, wanted.get("content_type"))
    if not is_short(content_type):
        raise ValueError(f"the content type must be a string of at most {MAX_NAME} bytes")
    # As a reader of it undoes: a message that was shown with its properties can be posted as it is.
    coding = coding_of(content_type, wanted.get("content_encoding"), headers)
    if coding is not NONE:
        as_json = raw is body
        raw = coded(raw, coding, json=as_json, text=not as_json and body.lstrip().startswith(b'"'))
    headers = _with_bytes(headers)
    others = {name: wanted[name] for name in _SETTABLE if name in wanted and name != "content_type"}
    return Envelope(raw, content_type=content_type, headers=headers, priority=priority, **others)


def _with_bytes(value: Any) -> Any:
    """Headers with the bytes that _plain shows as an object. Raises ValueError."""
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"a header's base64: {error}") from error
    return {key: _with_bytes(item) for key, item in value.items()}


def properties(envelope: Envelope) -> bytes:
    """The AMQP properties that are set, the headers and the way the message came, as a JSON object."""
    shown: dict[str, Any] = {"exchange": envelope.exchange, "routing_key": envelope.routing_key}
    shown |= {name: value for name in _SHOWN if (value := getattr(envelope, name)) is not None}
    if envelope.ttl is not None:
        shown["expiration"] = str(envelope.ttl)
    if envelope.headers:
        shown["headers"] = _finite(envelope.headers)
    return orjson.dumps(shown, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _finite(value: Any) -> Any:
    """The same, with text for the floats that JSON has no numbers for, which orjson would make null."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    """Values of a field table that JSON has no type for."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(data).decode()}
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
