"""HTTP/1.1 as a load generator needs it: one connection, one request at a time, and as little work as possible."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

#: Seconds until a connection must stand.
CONNECT_TIMEOUT = 5.0

#: Bytes that are asked for at once: a page of twenty messages of 1 KiB fits.
RECEIVE = 65536

#: Bytes of an answer's head at the most; what is longer is no HTTP.
MAX_HEAD = 65536

DEFAULT_PORTS = {"http": 80, "https": 443}


class BadAddress(ValueError):
    """Not a URL that can be measured; the text says why."""


class BadAnswer(Exception):
    """What came is no HTTP answer, or ended too early."""


@dataclass(frozen=True)
class Address:
    """Where a server is, taken from its URL."""

    host: str
    port: int
    tls: bool
    prefix: str

    @classmethod
    def of(cls, url: str) -> Address:
        """From ``http[s]://host[:port][/prefix]``; BadAddress if it is anything else."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadAddress(f"{url}: {error}") from error
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise BadAddress(f"{url}: a URL like http://host:8888 is needed")
        if parts.username is not None:
            raise BadAddress(f"{parts.hostname}: give credentials as a header, not in the URL")
        if parts.query or parts.fragment:
            raise BadAddress(f"{url}: the root of the server is needed, without ? and #")
        host = unquote(parts.hostname)
        return cls(host, port or DEFAULT_PORTS[parts.scheme], parts.scheme == "https", parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """As in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """A whole answer. ``closes``: the server ends the connection with it."""

    status: int
    body: bytes
    closes: bool


@dataclass(frozen=True)
class Place:
    """Where an address leads: what a socket needs."""

    family: int
    target: tuple[str | int, ...]

    @classmethod
    def of(cls, address: Address) -> Place:
        """The first place of a name that accepts a connection; OSError if there is none within CONNECT_TIMEOUT."""
        with socket.create_connection((address.host, address.port), CONNECT_TIMEOUT) as probe:
            return cls(probe.family, probe.getpeername())


class Connection:
    """A keep-alive connection that makes nobody wait.

    Once it can be written to, ``establish`` it and ``send``; when there is something to read, ``receive``.
    """

    established = False

    def __init__(self, address: Address, place: Place):
        """Begin to connect; OSError if that fails at once."""
        self._address = address
        self.socket = socket.socket(place.family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self._buffer = bytearray()
        code = self.socket.connect_ex(place.target)
        if code not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(code, os.strerror(code))

    def establish(self) -> None:
        """OSError if it could not connect. TLS is negotiated here, which takes its time."""
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._address.tls:
            self.socket.settimeout(CONNECT_TIMEOUT)
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=self._address.host)
            self.socket.setblocking(False)
        self.established = True

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def send(self, request: bytes) -> None:
        """Send a whole request; OSError if the connection is gone, or takes nothing for CONNECT_TIMEOUT."""
        try:
            sent = self.socket.send(request)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sent = 0
        if sent < len(request):
            self.socket.settimeout(CONNECT_TIMEOUT)
            self.socket.sendall(request[sent:])
            self.socket.setblocking(False)

    def receive(self) -> Answer | None:
        """Read what is there; the answer once it is complete.

        OSError or BadAnswer if the connection is of no more use.
        """
        while True:
            try:
                part = self.socket.recv(RECEIVE)
            except (BlockingIOError, ssl.SSLWantReadError):
                return None
            ended = not part
            self._buffer += part
            answer = parse(self._buffer, ended)
            if answer is not None:
                self._buffer.clear()
                return answer
            if ended:
                raise BadAnswer("the connection was closed before the answer was complete")


def parse(data: bytes | bytearray, ended: bool = False) -> Answer | None:
    """The answer that ``data`` is, None while it is incomplete. ``ended``: the connection is, nothing more will come.

    The framing is that of RFC 9112, section 6.3. BadAnswer if it is broken.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > MAX_HEAD:
            raise BadAnswer("the answer has no end of its head")
        return None
    lines = bytes(data[:end]).split(b"\r\n")
    if not lines[0].startswith(b"HTTP/1.") or not lines[0][9:12].isdigit():
        raise BadAnswer("the answer is not HTTP/1")
    status = int(lines[0][9:12])
    closes = lines[0].startswith(b"HTTP/1.0")
    length, chunked = None, False
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-length":
            if not value.strip().isdigit():
                raise BadAnswer("the answer has a Content-Length that is no number")
            length = int(value)
        elif name == b"connection":
            closes = b"close" in value.lower()
        elif name == b"transfer-encoding":
            chunked = b"chunked" in value.lower()
    start = end + 4
    if status in (204, 304):
        return Answer(status, b"", closes)
    if chunked:
        body = _dechunk(bytes(data[start:]))
        return None if body is None else Answer(status, body, closes)
    if length is None:
        return Answer(status, bytes(data[start:]), True) if ended else None
    if len(data) - start < length:
        return None
    return Answer(status, bytes(data[start:start + length]), closes)


def _dechunk(data: bytes) -> bytes | None:
    """The body out of its chunks, None while the last one is missing (RFC 9112, section 7.1)."""
    body: list[bytes] = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        try:
            size = int(data[at:end].partition(b";")[0], 16)
        except ValueError as error:
            raise BadAnswer("the answer has a chunk without a size") from error
        if size == 0:
            return b"".join(body) if data.endswith(b"\r\n\r\n") else None
        body.append(data[end + 2:end + 2 + size])
        at = end + 2 + size + 2
    return None
