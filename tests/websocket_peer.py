"""The client's side of a WebSocket connection, for tests: it can break the protocol as well as keep it."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

#: Seconds that a test waits for a frame.
PATIENCE = 10.0


class Peer:
    """Speaks over a connected socket, after the handshake."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self._protocol = Protocol(Side.CLIENT, state=OPEN, max_size=None)
        self._frames: list[Frame] = []

    def accepted(self) -> bytes:
        """Read the answer to the handshake."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.sock.recv(1)
        return head

    def send(self, data: bytes, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> None:
        """Send a frame."""
        self.raw(Frame(opcode, data, fin).serialize(mask=True))

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(data)

    def ask(self, action: str, headers: dict[str, Any], **body: Any) -> tuple[int, Any]:
        """Status and body of the answer to a request; the next frame must be it."""
        self.send(json.dumps({"action": action, "headers": headers, "body": body}).encode())
        answer = json.loads(self.frame().data)
        assert answer["request"]["action"] == action
        return answer["headers"]["status"], answer["body"]

    def frame(self) -> Frame:
        """The next frame. Pings are answered, and are no frames."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            while self._frames:
                frame = self._frames.pop(0)
                if frame.opcode is not Opcode.PING:
                    return frame
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("closed without a frame")
            self._protocol.receive_data(data)
            for written in self._protocol.data_to_send():
                if written:
                    self.sock.sendall(written)
            self._frames += [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        raise TimeoutError

    def close_code(self) -> int:
        """The code that the gateway closes the connection with; frames before it are passed over."""
        while (frame := self.frame()).opcode is not Opcode.CLOSE:
            pass
        return int.from_bytes(frame.data[:2], "big")
