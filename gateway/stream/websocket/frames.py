"""What frames hold: JSON in text frames, MessagePack in binary ones. Inside it is the same JSON values."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import orjson

from gateway.core.errors import InvalidInput
from gateway.stream.websocket.actions.fields import Unusable
from gateway.web import body

#: Levels that a document may be nested: less than orjson writes (254), with room for what goes around it.
DEEPEST = 200


def decode(data: bytes, is_binary: bool) -> Any:
    """The value in a frame. Raises Unusable."""
    if is_binary:
        return _unpack(data)
    try:
        value = body.parse(data)
    except InvalidInput as error:
        raise Unusable(f"Can't decode text: {error.description}") from error
    if data.count(b"[") + data.count(b"{") > DEEPEST:
        _check(value, "text")
    return value


def encode(value: Any, is_binary: bool) -> bytes:
    """The frame for a JSON value, which may have orjson's fragments in it."""
    text = orjson.dumps(value)
    return pack(text) if is_binary else text


def pack(text: bytes) -> bytes:
    """MessagePack of a JSON text."""
    packed: bytes = msgpack.packb(orjson.loads(text))
    return packed


def _unpack(data: bytes) -> Any:
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True)
        _check(value, "binary")
    except Unusable:
        raise
    except Exception as error:  # msgpack raises ValueError, and others of its own and of Python's codecs
        raise Unusable(f"Can't decode binary: it is not MessagePack ({type(error).__name__})") from error
    return value


def _check(document: Any, kind: str) -> None:
    """Raises Unusable for what JSON has not: bytes, times, keys that are no strings, and numbers that are none."""
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEEPEST:
            raise Unusable(f"Can't decode {kind}: it is nested too deeply")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise Unusable("Can't decode binary: keys of maps must be strings")
            waiting += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, list):
            waiting += [(each, depth + 1) for each in value]
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise Unusable("Can't decode binary: it holds a number that JSON has not")
        elif value is not None and not isinstance(value, str | int):
            raise Unusable("Can't decode binary: it holds bytes or an extension type; the values of JSON are allowed")
