"""Confirms of publishes read past py-amqp.

There may be one for each message, and py-amqp spends more on reading one than it costs to publish a message. So the
frames with basic.ack that come next in what has been received are handled here, and anything else is left to py-amqp,
whose ``_read_buffer`` they are taken from. That needs a socket that reads ahead (sockets.py), so it is not done with
TLS.

``[bridge] fast_confirms = false`` switches it off. When py-amqp is not as it is known here, the connection goes on with
py-amqp's own way; FALLBACKS counts that for the metrics, and the log says it once.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable
from typing import Any

import amqp
from amqp import spec

LOG = logging.getLogger(__name__)

#: A frame with basic.ack (AMQP 0-9-1, 4.2.3 and 1.8.3.13): its beginning, its arguments, and the sizes in bytes of its
#: payload and of the whole frame.
_ACK_START = struct.Struct(">BHIHH").pack
_ACK_ARGUMENTS = struct.Struct(">QB").unpack_from
_ACK_PAYLOAD, _ACK_FRAME = 13, 21


class Fallbacks:
    """How many connections of this process had to leave the fast way. Thread-safe."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def add(self, error: Exception) -> None:
        """One more; the first is logged with its reason."""
        with self._lock:
            self.count += 1
            first = self.count == 1
        if first:
            LOG.warning(
                "py-amqp %s is not as it is known here (%s: %s): it reads what the broker sends itself, which takes"
                " more CPU; with [bridge] fast_confirms = false it does so from the start",
                amqp.__version__, type(error).__name__, error,
            )


FALLBACKS = Fallbacks()


class FastConfirms:
    """Reads the confirms of one channel. ``on_ack`` gets a delivery tag, and whether all before it are meant too."""

    def __init__(self, connection: amqp.Connection, channel_id: int, on_ack: Callable[[int, bool], None]):
        self._connection = connection
        self._transport: Any = connection.transport
        self._on_ack = on_ack
        self._start = _ACK_START(1, channel_id, _ACK_PAYLOAD, *spec.Basic.Ack)
        self._works = True

    def take(self) -> bool:
        """Handle the confirms that come next; waits for something to come if nothing has.

        False if something else is next, or if it does not work: then py-amqp has to read. Raises OSError when the
        broker has closed the connection, TimeoutError when nothing comes in time.
        """
        if not self._works:
            return False
        try:
            return self._take()
        except (AttributeError, TypeError, ValueError, struct.error) as error:
            # Nothing has left py-amqp's buffer: it reads the same confirms again, which changes nothing.
            self._works = False
            FALLBACKS.add(error)
            return False

    def _take(self) -> bool:
        transport = self._transport
        received: bytes = transport._read_buffer or transport._quick_recv(0)
        if not received:
            raise OSError("the broker has closed the connection")
        start, at = self._start, 0
        while received.startswith(start, at) and len(received) >= at + _ACK_FRAME:
            tag, multiple = _ACK_ARGUMENTS(received, at + len(start))
            self._on_ack(tag, bool(multiple))
            at += _ACK_FRAME
        transport._read_buffer = received[at:]
        self._connection.bytes_recv += at > 0  # py-amqp counts frames, to see whether the broker is alive
        return at > 0
