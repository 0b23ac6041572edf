"""Messages of native AMQP clients: their bodies and properties as JSON, and the other way round."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from bridges.base import Envelope
from gateway.core.bridging import MAX_NAME, check_table, is_short
from gateway.core.oslo import wrap as oslo_wrap

#: Window bits that let zlib take gzip as well as zlib headers.
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS

#: Headers by which RabbitMQ sends a message to further queues, whatever they are ("Sender-selected Distribution").
ROUTING_HEADERS = frozenset({"CC", "BCC"})

#: How gzip data begins, and each further member of it.
GZIP_MAGIC = b"\x1f\x8b"

#: Members that a body of gzip data may have: each costs a copy of what is behind it.
MAX_MEMBERS = 256

#: Levels of arrays and objects that an answer can hold around them what it needs: see body.encode.
MAX_DEPTH = 200

#: Content encodings that are decoded; anything else (utf-8, say) is left as it is.
_COMPRESSED = {"gzip": _GZIP_OR_ZLIB, "x-gzip": _GZIP_OR_ZLIB, "deflate": _GZIP_OR_ZLIB}

#: Properties that are shown under their own names when they are set.
_SHOWN = (
    "content_type", "content_encoding", "priority", "correlation_id", "reply_to", "type", "app_id", "message_id",
    "timestamp",
)

#: Properties that a poster may set to a string, on a queue that is bridged to a target.
_SETTABLE = ("content_type", "content_encoding", "correlation_id", "reply_to", "type", "app_id")


class Poison(Exception):
    """A message that can't be shown; the text says why."""


def to_json(envelope: Envelope, max_body: int) -> bytes:
    """The body itself if it is JSON; UTF-8 text as a JSON string; anything else as base64 with its content type.

    gzip and deflate are undone first. Raises Poison when that fails, when the body is over ``max_body`` bytes, or when
    the properties could not be read. JSON that is nested too deeply for common parsers is text.
    """
    if not envelope.readable:
        raise Poison("its properties can't be read")
    body = _decompressed(envelope, max_body)
    try:
        value = orjson.loads(body)
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            orjson.dumps(value)
        return body
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass
    try:
        return orjson.dumps(body.decode())
    except UnicodeDecodeError:
        return orjson.dumps({"base64": base64.b64encode(body).decode(), "content_type": envelope.content_type})


def _decompressed(envelope: Envelope, max_body: int) -> bytes:
    body = envelope.body
    if len(body) > max_body:
        raise Poison(f"its body of {len(body)} bytes is over the limit of {max_body}")
    bits = _COMPRESSED.get((envelope.content_encoding or "").lower())
    if bits is None or not body:
        return body
    try:
        return _inflated(body, bits, max_body)
    except zlib.error as error:
        if body.startswith(GZIP_MAGIC):
            raise Poison(f"its body is not {envelope.content_encoding}: {error}") from error
    try:
        return _inflated(body, -zlib.MAX_WBITS, max_body)  # some producers' deflate has no header
    except zlib.error as error:
        raise Poison(f"its body is not {envelope.content_encoding}: {error}") from error


def _inflated(data: bytes, bits: int, max_body: int) -> bytes:
    """Decompressed data, all members of it (RFC 1952, 2.2). Raises zlib.error, and Poison as to_json does."""
    plain = b""
    for _ in range(MAX_MEMBERS):
        unzip = zlib.decompressobj(bits)
        plain += unzip.decompress(data, max_body + 1 - len(plain))
        if len(plain) > max_body:
            raise Poison(f"its body is over the limit of {max_body} bytes when decompressed")
        if not unzip.eof:
            raise Poison("its compressed body is cut off")
        data = unzip.unused_data
        if not data.startswith(GZIP_MAGIC):
            return plain
    raise Poison(f"its body is of more than {MAX_MEMBERS} pieces of gzip data")


def from_json(body: bytes, content_type: str | None) -> tuple[bytes, str]:
    """What a native client gets: ``(body, content type)``; undoes to_json."""
    value = orjson.loads(body)
    if isinstance(value, dict) and value.keys() == {"base64", "content_type"} and isinstance(value["base64"], str):
        try:
            raw = base64.b64decode(value["base64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"base64: {error}") from error
        return raw, content_type or str(value["content_type"] or "application/octet-stream")
    if isinstance(value, str) and content_type is not None and "json" not in content_type.lower():
        return value.encode(), content_type
    return body, content_type or "application/json"


def envelope(body: bytes, wanted: Mapping[str, Any], oslo: bool, project: str) -> Envelope:
    """A message for a native client: a JSON body and the AMQP properties that its poster wants.

    Raises ValueError for what AMQP can't carry.
    """
    if oslo:
        if wanted:
            raise ValueError("a notification has the properties that oslo.messaging gives it, and no others")
        return Envelope(oslo_wrap(body, project), content_encoding="utf-8", priority=0)
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
    others = {name: wanted[name] for name in _SETTABLE if name in wanted and name != "content_type"}
    return Envelope(raw, content_type=content_type, headers=headers, priority=priority, **others)


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
