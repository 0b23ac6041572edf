"""Frames that native clients have filled with what py-amqp can't read: they are mended before it sees them.

An exception while a frame is read would break the connection. The broker would deliver the message again, and it would
break the next connection; the messages after it would never be reached.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import orjson
from amqp.serialization import decode_properties_basic, dumps

from bridges.amqp.wire.tables import mended

#: Type, channel and payload of a frame.
Frame = tuple[int, int, bytes]

#: Header of a message whose properties can't be read. It has the properties as they came, in base64.
UNREADABLE = "marconi-unreadable"

#: How many bytes of these properties we keep. With the header around them they must fit into one frame.
KEPT = 2500

_METHOD, _HEADER = 1, 2

#: Class and method ids of the methods that name an exchange and a routing key (AMQP 0-9-1, 1.8.3).
_RETURN, _DELIVER, _GET_OK = b"\0\x3c\0\x32", b"\0\x3c\0\x3c", b"\0\x3c\0\x47"

#: Size in bytes of a content header's part before the property flags: class, weight, body size (AMQP 0-9-1, 4.2.6.1).
_BEFORE_FLAGS = 12

#: Property flags of a message whose only property is the header table.
_ONLY_HEADERS = b"\x20\0"


def readable(handle: Callable[[Frame], Any]) -> Callable[[Frame], Any]:
    """``handle``, py-amqp's reader of frames, for frames of any contents."""

    def on_frame(frame: Frame) -> Any:
        kind, channel, payload = frame
        if kind == _METHOD and payload[:4] in (_RETURN, _DELIVER, _GET_OK):
            return handle((kind, channel, _readable_names(payload)))
        if kind == _HEADER and not _has_readable_properties(payload):
            if (better := _mended(payload)) is not None:
                return handle((kind, channel, better))
            kept = base64.b64encode(payload[_BEFORE_FLAGS:][:KEPT]).decode()
            headers = dumps("F", ({UNREADABLE: kept},))
            return handle((kind, channel, payload[:_BEFORE_FLAGS] + _ONLY_HEADERS + headers))
        return handle(frame)

    return on_frame


def _readable_names(payload: bytes) -> bytes:
    """A method's payload, in whose names each byte that is no UTF-8 is a question mark."""
    start = 4
    if payload[:4] == _DELIVER:
        start += 1 + payload[start]  # the consumer's tag is ours
    start += 9 if payload[:4] != _RETURN else 2  # delivery tag and flag; of a return the code, and a text first
    if payload[start:].isascii():
        return payload
    names, at = [], start
    for _ in range(2 if payload[:4] != _RETURN else 3):
        end = at + 1 + payload[at]
        name = payload[at + 1:end].decode(errors="replace").replace("\ufffd", "?").encode()
        names.append(bytes((len(name),)) + name)
        at = end
    return payload[:start] + b"".join(names) + payload[at:]


def _mended(payload: bytes) -> bytes | None:
    """A content header that can be read, with the same in it as the one that can't; None if there is none."""
    try:
        better = mended(payload, _BEFORE_FLAGS)
    except (IndexError, KeyError, struct.error):
        return None
    return better if _has_readable_properties(better) else None


def read_properties(payload: bytes) -> dict[str, Any] | None:
    """What py-amqp reads of a content header, if orjson can show it too; None for what is not to be read as it is.

    That is no UTF-8, a date beyond 9999, or hundreds of tables nested.
    """
    try:
        properties: dict[str, Any]
        properties, _ = decode_properties_basic(payload, _BEFORE_FLAGS)
        orjson.dumps(properties, default=str)
        return properties
    except Exception:  # whatever it is: what can't be read must not stop the queue
        return None


def _has_readable_properties(payload: bytes) -> bool:
    return read_properties(payload) is not None
