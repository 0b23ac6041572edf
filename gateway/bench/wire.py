"""A minimal HTTP/1.1 client: one request at a time per connection, with as little CPU time as possible."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

#: Seconds that connecting, or sending a request, may take.
CONNECT_TIMEOUT = 5.0

#: Bytes read at once: enough for a page of twenty messages of 1 KiB.
RECEIVE = 65536

#: Maximum length of an answer's head in bytes. A longer one is not HTTP.
MAX_HEAD = 65536

DEFAULT_PORTS = {"http": 80, "https": 443}


class BadAddress(ValueError):
    """The URL can't be measured; the text says why."""


class BadAnswer(Exception):
    """The data is no HTTP answer, or the connection ended too early."""


@dataclass(frozen=True)
class Address:
    """Address of a server, from its URL."""

    host: str
    port: int
    tls: bool
    prefix: str

    @classmethod
    def of(cls, url: str) -> Address:
        """From ``http[s]://host[:port][/prefix]``. Raises BadAddress for anything else."""
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
        """Host and port for the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """A complete answer. ``closes``: the server closes the connection after it."""

    status: int
    body: bytes
    closes: bool


@dataclass(frozen=True)
class SocketAddress:
    """A resolved address: what a socket needs to connect."""

    family: int
    address: tuple[str | int, ...]

    @classmethod
    def of(cls, address: Address) -> SocketAddress:
        """The first address of a host that accepts a connection. Raises OSError if none does in CONNECT_TIMEOUT."""
        with socket.create_connection((address.host, address.port), CONNECT_TIMEOUT) as probe:
            return cls(probe.family, probe.getpeername())


class Connection:
    """A non-blocking keep-alive connection.

    When it becomes writable, call ``establish`` and ``send``; when it becomes readable, call ``receive``.
    """

    established = False

    def __init__(self, address: Address, target: SocketAddress):
        """Begin to connect. Raises OSError if that fails at once."""
        self._address = address
        self.socket = socket.socket(target.family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self._buffer = bytearray()
        code = self.socket.connect_ex(target.address)
        if code not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(code, os.strerror(code))

    def establish(self) -> None:
        """Finish connecting, with TLS if needed, which blocks. Raises OSError if the connection failed."""
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
        """Send a whole request. Raises OSError if the connection is lost or blocked for CONNECT_TIMEOUT."""
        try:
            sent = self.socket.send(request)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sent = 0
        if sent < len(request):
            self.socket.settimeout(CONNECT_TIMEOUT)
            self.socket.sendall(request[sent:])
            self.socket.setblocking(False)

    def receive(self) -> Answer | None:
        """Read the data that has arrived. Returns the answer once it is complete, None until then.

        Raises OSError or BadAnswer if the connection can't be used any more.
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
    """The answer in ``data``, None while it is incomplete. ``ended``: the connection has ended, no more data follows.

    Framing follows RFC 9112, section 6.3. Raises BadAnswer if it is violated.
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
    """The body from its chunks (RFC 9112, section 7.1); None while the last chunk is missing."""
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
