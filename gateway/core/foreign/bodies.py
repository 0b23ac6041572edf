"""Bodies of native AMQP clients' messages as JSON, and the other way round."""

from __future__ import annotations

import base64
import binascii

import orjson

from bridges.base import Envelope
from gateway.core.foreign.codings import NONE, as_utf8, coding_of, decompressed
from gateway.core.foreign.compressions import Broken

#: Levels of arrays and objects that an answer can hold around them what it needs: see body.encode.
MAX_DEPTH = 200


class Poison(Exception):
    """A message that can't be shown; the text says why."""


def to_json(envelope: Envelope, max_body: int) -> bytes:
    """The body itself if it is JSON; UTF-8 text as a JSON string; anything else as base64 with its content type.

    Compressions and character sets are undone first, see codings.py. JSON that is nested too deeply for common parsers
    is text. Raises Poison when a compression can't be undone, when the body is over ``max_body`` bytes, or when the
    properties could not be read.
    """
    if not envelope.readable:
        raise Poison("its properties can't be read")
    body = envelope.body
    if len(body) > max_body:
        raise Poison(f"its body of {len(body)} bytes is over the limit of {max_body}")
    coding = coding_of(envelope.content_type, envelope.content_encoding, envelope.headers)
    if coding is NONE:
        return _json_or_text(body) or _base64(envelope, body)
    if coding.unknown is not None:
        return _base64(envelope, body)
    try:
        body = decompressed(body, coding, max_body)
    except Broken as error:
        raise Poison(f"its body {error}") from error
    text = as_utf8(body, coding)
    return (_json_or_text(text) if text is not None else None) or _base64(envelope, body)


def _json_or_text(body: bytes) -> bytes | None:
    """The body if it is JSON, or text as a JSON string; None if it is neither."""
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
        return None


def _base64(envelope: Envelope, body: bytes) -> bytes:
    return orjson.dumps({"base64": base64.b64encode(body).decode(), "content_type": envelope.content_type})


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
