"""A client of live feeds, by hand: it reads the bytes of events, and waits for nothing longer than it has patience."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any

#: Seconds that a test waits for what must happen.
PATIENCE = 20.0


@dataclass
class Event:
    """An event as a browser would see it (WHATWG HTML, 9.2.6)."""

    name: str = "message"
    data: str = ""
    id: str | None = None
    retry: int | None = None

    @property
    def value(self) -> Any:
        """The data, which is JSON."""
        return json.loads(self.data)


@dataclass
class FeedClient:
    """A connection on which a feed was asked for. ``buffer``: bytes that the kernel may receive ahead."""

    port: int
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "GET"
    buffer: int | None = None
    timeout: float = PATIENCE

    def __post_init__(self) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(self.timeout)
        if self.buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
        self.socket.connect(("127.0.0.1", self.port))
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: gateway"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._rest = b""
        self.comments = 0
        self.is_over = False
        self.status, self.answered = self._head()

    def _head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._rest:
            self._read()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        return int(first.split()[1]), {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }

    def _read(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            self.is_over = True
            raise EOFError("the feed has ended")
        self._rest += data

    def json(self) -> Any:
        """The body of an ordinary answer."""
        while len(self._rest) < int(self.answered["content-length"]):
            self._read()
        return json.loads(self._rest)

    def next(self) -> Event:
        """The next event that has data. Raises EOFError at the end, TimeoutError when none comes."""
        deadline = time.monotonic() + self.timeout
        while True:
            event = self.next_or_comment()
            if event is not None:
                return event
            if time.monotonic() > deadline:
                raise TimeoutError("no event")

    def next_or_comment(self) -> Event | None:
        """The next event that has data, or None for a comment in front of it."""
        event = Event()
        while True:
            while b"\n" not in self._rest:
                self._read()
            raw, _, self._rest = self._rest.partition(b"\n")
            line = raw.decode()
            if line.startswith(":"):
                self.comments += 1
                return None
            if line:
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "event":
                    event.name = value
                elif name == "data":
                    event.data += value
                elif name == "id":
                    event.id = value
                elif name == "retry":
                    event.retry = int(value)
            elif event.data:
                return event

    def messages(self, count: int) -> list[Event]:
        """The next so many messages."""
        events = [self.next() for _ in range(count)]
        assert {event.name for event in events} <= {"message"}, events
        return events

    def bodies(self, count: int) -> list[Any]:
        """The bodies of the next so many messages."""
        return [event.value["body"] for event in self.messages(count)]

    def is_silent(self, seconds: float) -> bool:
        """Does no event come for so long?"""
        self.socket.settimeout(seconds)
        try:
            self.next()
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(self.timeout)
        return False

    def close(self) -> None:
        """Go away."""
        self.socket.close()
