"""A connection for a thread that both reads what comes and does what others ask for."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from contextlib import suppress

import amqp
import kombu

from bridges.amqp.connection import Connection
from bridges.amqp.consuming.deliveries import FRAMES, take
from bridges.amqp.consuming.wake import Wake
from bridges.amqp.fast_confirms import FALLBACKS
from bridges.amqp.refusals import CONNECTION_ERRORS

#: How many frames are read before the thread does something else.
FRAMES_AT_A_TIME = 200

#: Seconds to wait for the rest of a frame, before the thread does something else.
REST_OF_FRAME = 0.01

#: Seconds for the broker to confirm the end of a connection, before it is closed without.
LAST_WAIT = 1.0

#: Bytes of a frame before its payload, and in all besides it (AMQP 0-9-1, 4.2.3).
_FRAME_START, _AROUND_PAYLOAD = 7, 8


class WakingConnection(Connection):
    """``wake`` ends a wait for the broker. What settles messages is collected, and written at once."""

    def __init__(
        self, candidates: Sequence[kombu.Connection], timeout: float, until: float, wake: Wake,
        reads_fast: bool = True,
    ):
        super().__init__(candidates, timeout, until)
        self._reads_fast = reads_fast
        self.until = None
        self._wake = wake
        self._settlements: list[tuple[amqp.Channel, bytes]] = []
        self._next_beat = 0.0
        self._beat_every = (self._amqp.heartbeat or timeout) / 3
        self._socket = self._amqp.transport.sock.fileno()
        self._poll.register(wake, select.POLLIN)

    def _beat(self, now: float) -> float:
        """Send a heartbeat if it is time, and see whether the broker's come. When to call it again (monotonic seconds).

        Raises if the connection is gone.
        """
        if now >= self._next_beat:
            self._amqp.heartbeat_tick()
            self._next_beat = now + self._beat_every
        return self._next_beat

    def _settle_by(self, channel: amqp.Channel, frame: bytes) -> None:
        """Have this frame written on its channel."""
        self._settlements.append((channel, frame))

    def _write_settlements(self) -> None:
        # A frame on a channel that the broker has just closed would make it close the connection.
        frames = b"".join([frame for channel, frame in self._settlements if channel.is_open])
        self._settlements.clear()
        if frames:
            self._amqp.transport.write(frames)
            self._amqp.bytes_sent += 1  # keeps py-amqp's heartbeat from being sent on top

    def read(self, seconds: float) -> None:
        """Handle what the broker sends within so many seconds. Returns when something has come, or at ``wake``."""
        if not self._is_here(seconds):
            return
        left = FRAMES_AT_A_TIME
        while left > 0:
            if taken := self._take_deliveries(left):
                left -= FRAMES * taken
            else:
                left -= 1
                try:
                    # What is here already needs no look at the clock.
                    self._amqp.blocking_read(None if self._has_frame() else REST_OF_FRAME)
                except TimeoutError:
                    return
            if not self._is_here(0.0):
                return

    def _take_deliveries(self, most: int) -> int:
        """Have the consumers take the whole messages that are here; how many there were. Something is here."""
        if not self._reads_ahead or not self._reads_fast:
            return 0
        transport = self._amqp.transport
        if not self._has_frame():
            transport._read_buffer += transport._quick_recv(_FRAME_START)  # all that has arrived
        try:
            messages, size = take(transport._read_buffer, self._amqp.channels, most)
            self._amqp.bytes_recv += FRAMES * len(messages)  # py-amqp's heartbeat sees by it that the broker lives
        except (AttributeError, TypeError) as error:
            # Nothing has left py-amqp's buffer: it reads the same messages.
            self._reads_fast = False
            FALLBACKS.add(error)
            return 0
        if size:
            transport._read_buffer = transport._read_buffer[size:]
        for message in messages:
            if not message.channel.is_closing:
                message.channel.callbacks[message.delivery_info["consumer_tag"]](message)
        return len(messages)

    def _has_frame(self) -> bool:
        """Is there a whole frame in what has been read ahead?"""
        buffer = self._amqp.transport._read_buffer
        return self._reads_ahead and len(buffer) >= _FRAME_START and (
            len(buffer) >= _AROUND_PAYLOAD + int.from_bytes(buffer[3:7], "big")
        )

    def _is_here(self, seconds: float) -> bool:
        """Is there something to read, now or within so many seconds?"""
        if self._has_frame() or not self._reads_ahead and self._amqp.transport.sock.pending():
            return True
        is_here = False
        for descriptor, _ in self._poll.poll(1000 * seconds):
            if descriptor == self._socket:
                is_here = True
            else:
                self._wake.clear()
        return is_here

    def leave(self) -> None:
        """Write what is settled and close the connection: the broker gives back the rest. Never raises."""
        with suppress(*CONNECTION_ERRORS):
            self._write_settlements()
            self.until = time.monotonic() + LAST_WAIT
            for number, channel in self._amqp.channels.items():
                channel.is_closing = number != 0  # nothing is handed out any more; 0 is the connection itself
            self._amqp.close()
        self.close()
