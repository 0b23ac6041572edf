"""Deliveries that have been read ahead, parsed past py-amqp, which takes three times as much CPU for them.

Only whole messages in one body frame with properties that can be read, for consumers that are known: all else stays
for py-amqp, which reads it frame by frame. AMQP 0-9-1, 2.3.5, 1.8.3.13 and 4.2.6.

``[bridge] fast_confirms = false`` switches it off, as it does for confirms; fast_confirms.py says how a fallback is
told.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Any

import amqp

from bridges.amqp.wire.frames import read_properties

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, 0xCE

#: Type, channel and size of a frame; the id of basic.deliver after these; delivery tag and flag; size of a body.
_frame = Struct(">BHI").unpack_from
_DELIVER = b"\0\x3c\0\x3c"
_tag = Struct(">QB").unpack_from
_size = Struct(">Q").unpack_from

#: Bytes of a frame around its payload: before it, and in all. Of a header before the size of the body.
_START, _AROUND, _BEFORE_SIZE = 7, 8, 4

#: Frames of a message.
FRAMES = 3


def take(buffer: bytes, channels: dict[int, Any], most: int) -> tuple[list[amqp.Message], int]:
    """Up to ``most`` messages that ``buffer`` begins with, and how many bytes they are."""
    messages: list[amqp.Message] = []
    at = 0
    while len(messages) < most:
        try:
            found = _message(buffer, at, channels)
        except (IndexError, ValueError, StructError):  # not all of it is here; or a name is no UTF-8
            break
        if found is None:
            break
        message, at = found
        messages.append(message)
    return messages, at


def _message(buffer: bytes, at: int, channels: dict[int, Any]) -> tuple[amqp.Message, int] | None:
    """The message that begins here, and where it ends; None if it is for py-amqp. Raises if it is not whole."""
    kind, number, size = _frame(buffer, at)
    header = at + _AROUND + size
    if kind != _METHOD or buffer[at + _START:at + _START + 4] != _DELIVER or buffer[header - 1] != _END:
        return None
    kind, same, size = _frame(buffer, header)
    body = header + _AROUND + size
    if kind != _HEADER or same != number or buffer[body - 1] != _END:
        return None
    content = buffer[header + _START:body - 1]
    (length,) = _size(content, _BEFORE_SIZE)
    end = body
    if length:
        kind, same, size = _frame(buffer, body)
        end = body + _AROUND + size
        if kind != _BODY or same != number or size != length or buffer[end - 1] != _END:
            return None
    consumer, at = _name(buffer, at + _START + 4)
    delivery, redelivered = _tag(buffer, at)
    exchange, at = _name(buffer, at + 9)
    routing_key, at = _name(buffer, at)
    channel = channels.get(number)
    properties = read_properties(content)
    if channel is None or consumer not in channel.callbacks or properties is None:
        return None
    message = amqp.Message(buffer[body + _START:end - 1] if length else b"", channel=channel)
    message.properties = properties
    message.delivery_info = {
        "consumer_tag": consumer, "delivery_tag": delivery, "redelivered": bool(redelivered), "exchange": exchange,
        "routing_key": routing_key,
    }
    return message, end


def _name(buffer: bytes, at: int) -> tuple[str, int]:
    """A short text, and where it ends. Raises UnicodeDecodeError."""
    end = at + 1 + buffer[at]
    return buffer[at + 1:end].decode(), end
