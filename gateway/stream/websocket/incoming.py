"""What a client sends, from bytes to complete messages."""

from __future__ import annotations

from collections import deque

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

#: Complete messages that wait, after which nothing more is parsed.
AHEAD = 16

#: Bytes that are parsed at once: they are less than a thousand frames.
PIECE = 4096


class Incoming:
    """Parses as much as there is room for; the rest waits as it came. ``protocol`` is open."""

    def __init__(self, protocol: ServerProtocol, ahead: bytes):
        self._protocol = protocol
        self._raw = bytearray(ahead)
        self._message: bytearray | None = None
        self._is_binary = False
        #: Complete messages, and whether they were binary ones.
        self.messages: deque[tuple[bytes, bool]] = deque()
        #: How many have been complete so far, and frames that have completed none since somebody has set this to 0.
        self.count = 0
        self.idle_frames = 0

    @property
    def has_room(self) -> bool:
        """May more messages come?"""
        return len(self.messages) < AHEAD

    @property
    def has_rest(self) -> bool:
        """Are there bytes that have not been parsed?"""
        return bool(self._raw)

    @property
    def is_unfinished(self) -> bool:
        """Has a message begun whose end has not come yet?"""
        return self._message is not None or bool(self._protocol.reader.buffer)

    @property
    def is_idle(self) -> bool:
        """Is there nothing at all?"""
        return not (self.messages or self._raw or self.is_unfinished)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        waiting = sum(len(data) for data, _ in self.messages)
        begun = len(self._message) if self._message is not None else 0
        return len(self._raw) + len(self._protocol.reader.buffer) + begun + waiting

    def add(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._raw += data

    def clear(self) -> None:
        """Forget everything."""
        self._raw.clear()
        self._message = None
        self.messages.clear()

    def parse_some(self) -> None:
        """Parse a piece of what has arrived. The protocol may have something to send then, or be closing."""
        piece = bytes(self._raw[:PIECE])
        del self._raw[:PIECE]
        self._protocol.receive_data(piece)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)

    def _take(self, frame: Frame) -> None:
        self.idle_frames += 1
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_binary = frame.opcode is Opcode.BINARY
            self._message = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._message is not None:
            self._message += frame.data
        else:  # the protocol itself answers pings and closes
            return
        if frame.fin:
            message, self._message = bytes(self._message), None
            self._complete(message)

    def _complete(self, message: bytes) -> None:
        if self._protocol.state is not OPEN:
            return
        if not self._is_binary:
            try:
                message.decode()
            except UnicodeDecodeError as error:
                self._protocol.fail(CloseCode.INVALID_DATA, f"{error.reason} at position {error.start}")
                return
        self.count += 1
        self.idle_frames -= 1
        self.messages.append((message, self._is_binary))
