"""Frames that settle messages, for one write for many: py-amqp writes each by itself. AMQP 0-9-1, 1.8.3.13 and 14."""

from __future__ import annotations

from struct import Struct

_METHOD_FRAME, _FRAME_END = 1, 0xCE
_BASIC, _ACK, _REJECT = 60, 80, 90

#: Type, channel and size of the frame; class and method; delivery tag and flag; end.
_frame = Struct(">BHIHHQBB").pack
_SIZE = 13


def ack(channel: int, delivery: int) -> bytes:
    """Acknowledge one message."""
    return _frame(_METHOD_FRAME, channel, _SIZE, _BASIC, _ACK, delivery, 0, _FRAME_END)


def requeue(channel: int, delivery: int) -> bytes:
    """Give one message back to its queue (basic.reject with requeue)."""
    return _frame(_METHOD_FRAME, channel, _SIZE, _BASIC, _REJECT, delivery, 1, _FRAME_END)
