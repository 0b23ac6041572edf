"""Request lines and headers: waitress' parser with strict framing (RFC 9112) and a limit on everything that it keeps.

A request is refused if two servers could understand it in two ways: a proxy in front of the gateway must not see
another request, or another number of requests. After a refusal the connection is closed, as nobody knows where the next
request begins.
"""

from __future__ import annotations

import re

from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, unquote_bytes_to_wsgi
from waitress.receiver import FixedStreamReceiver
from waitress.utilities import (
    BadRequest,
    Error,
    RequestEntityTooLarge,
    RequestHeaderFieldsTooLarge,
    ServerNotImplemented,
)

from gateway.server.chunks import ChunkedBody
from gateway.server.errors import ExpectationFailed, URITooLong, VersionNotSupported

#: Most headers of a request, and most bytes of them: a Keystone token may have 8 KiB. The request line may take the
#: rest of MAX_HEAD bytes: a list of ids is long.
MAX_FIELDS = 100
MAX_FIELDS_SIZE = 32 * 1024
MAX_HEAD = 64 * 1024

#: Most bytes of empty lines before a request: some clients send one after a body.
MAX_BLANK = 16

#: Bytes that a header takes in memory in addition to its text.
FIELD_COST = 200

_START_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Z]+) ([!-~\x80-\xff]+) HTTP/([0-9])\.([0-9])")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_ABSOLUTE = re.compile(rb"https?://([^/?]+)(.*)", re.I | re.S)
_HOST = re.compile(r"(?:[0-9A-Za-z\-._~!$&'()*+;=%]*|\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\])(?::[0-9]*)?\Z", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,18}\Z", re.ASCII)


class _Refused(Exception):
    """The request is not served."""

    def __init__(self, error: Error):
        super().__init__(error.body)
        self.error = error


class Parser(HTTPRequestParser):
    """One request. Attributes that other modules read have waitress' names."""

    completed: bool = False
    command = ""
    path = ""

    #: The target as it arrived, without scheme and host: what a proxy in front of the gateway sees.
    request_uri = ""

    #: What follows the path in the target; set when the request is complete, since it is a copy.
    query = ""

    #: The start line and the headers that have arrived, as long as they are incomplete.
    _head: bytearray | None = None

    #: Bytes that the parsed head takes.
    _parsed = 0

    @property
    def buffered(self) -> int:
        """Bytes that are kept of this request."""
        total = self._parsed
        if self._head is not None:
            total += len(self._head)
        if self.body_rcv is not None:
            total += len(self.body_rcv)
            if self.chunked:
                total += self.body_rcv.kept
        return total

    def received(self, data: bytes) -> int:
        """Take what has arrived; the number of bytes taken. Pass the rest again if the request is not complete."""
        if self.completed:
            return 0
        try:
            if self.body_rcv is not None:
                return self._receive_body(data)
            taken = self._receive_head(data)
            if self.body_rcv is not None and taken < len(data):
                taken += self._receive_body(data[taken:])
            return taken
        except _Refused as refused:
            self.error = refused.error
            self._head = None
            self.expect_continue = False
            self.completed = True
            return len(data)

    def _receive_head(self, data: bytes) -> int:
        before = 0
        if self._head is not None:
            before = len(self._head)
            if before > 1:
                self._head += data
                return self._go_on(before, len(data))
            data = bytes(self._head) + data  # an empty line may have come in two parts
        start = 0
        while data.startswith(b"\r\n", start):
            start += 2
        if start > MAX_BLANK:
            raise _Refused(BadRequest("There are empty lines in place of a request"))
        if start and start == len(data):
            self.empty = self.completed = True
            return start - before
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            self._head = bytearray(data[start:])
            self._check_partial(0)
            return len(data) - before
        self._finish(data[start:end + 2])
        return end + 4 - before

    def _go_on(self, before: int, added: int) -> int:
        """Look for the end of the head in the ``added`` bytes at its end; how many of them belong to it."""
        head = self._head
        assert head is not None  # nosec B101  # for the type checker
        end = head.find(b"\r\n\r\n", max(0, before - 3))
        if end >= 0:
            self._head = None
            self._finish(bytes(head[:end + 2]))
            return end + 4 - before
        self._check_partial(before)
        return added

    def _check_partial(self, before: int) -> None:
        """Refuse an incomplete head that is too long. ``before``: the number of bytes that were checked before."""
        head = self._head
        assert head is not None  # nosec B101  # for the type checker
        if len(head) > MAX_FIELDS_SIZE or head.count(b"\n", before) > MAX_FIELDS:
            self._check_size(head)

    def _check_size(self, head: bytes | bytearray) -> None:
        """Raise _Refused if a head, complete or not, is too long."""
        end = head.find(b"\r\n")
        if end > MAX_HEAD or (end < 0 and len(head) > MAX_HEAD):
            raise _Refused(URITooLong(f"The request line is longer than {MAX_HEAD} bytes"))
        if end >= 0 and (len(head) > MAX_HEAD or len(head) - end > MAX_FIELDS_SIZE):
            raise _Refused(RequestHeaderFieldsTooLarge(
                f"The headers are longer than {MAX_FIELDS_SIZE} bytes, or with the request line than {MAX_HEAD}"
            ))
        if head.count(b"\n") > MAX_FIELDS + 1:
            raise _Refused(RequestHeaderFieldsTooLarge(f"There are more than {MAX_FIELDS} headers"))

    def _finish(self, head: bytes) -> None:
        """Parse the start line and the headers, each with its line end."""
        self._check_size(head)
        self.parse_header(head)
        self._parsed = len(head) + len(self.path) + FIELD_COST * len(self.headers)
        self.headers_finished = True
        if self.body_rcv is None:
            self.query = self.request_uri.partition("?")[2]
            self.completed = True
        elif self.content_length >= self.adj.max_request_body_size:
            raise _Refused(_too_large(self.adj.max_request_body_size))

    def parse_header(self, header_plus: bytes) -> None:
        """The start line and the headers. Raises _Refused."""
        lines = header_plus.split(b"\r\n")
        lines.pop()
        if header_plus.count(b"\n") != len(lines) or header_plus.count(b"\r") != len(lines):
            raise _Refused(BadRequest("A line ends in CR or LF alone, or has one in it"))
        if _CONTROL.search(header_plus):
            raise _Refused(BadRequest("There is a control character in the request line or in a header"))
        self._read_start_line(lines[0])
        self._read_fields(lines)
        headers = self.headers
        if "HOST" in headers:
            if not _HOST.match(headers["HOST"]):
                raise _Refused(BadRequest("Host is not the name of a host"))
        elif self.version == "1.1":
            raise _Refused(BadRequest("HTTP/1.1 needs a Host header"))
        self._read_connection()
        self._frame()

    def _read_start_line(self, line: bytes) -> None:
        found = _START_LINE.fullmatch(line)
        if found is None:
            raise _Refused(BadRequest("The request line is not of the form METHOD TARGET HTTP/1.1"))
        method, target, major, minor = found.groups()
        if major != b"1" or minor not in b"01":
            raise _Refused(VersionNotSupported("Only HTTP/1.1 and HTTP/1.0 are served"))
        self.command = method.decode()
        self.version = "1.1" if minor == b"1" else "1.0"
        if not target.startswith(b"/"):
            target = self._origin(target)
        path = target.partition(b"?")[0]
        if b"#" in target:
            raise _Refused(BadRequest("A request has no fragment (#)"))
        if _NOT_ASCII.search(path):
            raise _Refused(BadRequest("A path has ASCII characters only; others are percent-encoded"))
        self.request_uri = target.decode("latin-1")
        self.path = unquote_bytes_to_wsgi(path) if b"%" in path else path.decode()
        self.proxy_scheme = self.proxy_netloc = self.fragment = ""
        self.url_scheme = self.adj.url_scheme

    def _origin(self, target: bytes) -> bytes:
        """The path and query of a target in another form (RFC 9112, 3.2)."""
        if target == b"*" and self.command == "OPTIONS":
            return target
        found = _ABSOLUTE.fullmatch(target)
        if found is None or not _HOST.match(found[1].decode("latin-1")) or self.command == "CONNECT":
            raise _Refused(BadRequest("The target of a request is a path, or an http:// or https:// URI"))
        rest = found[2]
        return rest if rest.startswith(b"/") else b"/" + rest

    def _read_fields(self, lines: list[bytes]) -> None:
        headers = self.headers
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not _NAME.fullmatch(name):
                raise _Refused(BadRequest("A header is not of the form Name: value, or goes on in a second line"))
            if b"_" in name:  # would be the same as one with dashes to an application
                continue
            key = name.upper().replace(b"-", b"_").decode()
            text = value.strip(b" \t").decode("latin-1")
            if key not in headers:
                headers[key] = text
            elif key == "HOST":
                raise _Refused(BadRequest("There are two Host headers"))
            else:  # RFC 9110, 5.3
                headers[key] = f"{headers[key]}, {text}"

    def _read_connection(self) -> None:
        """Whether the client wants the connection closed. The header becomes the word in it that waitress looks for.

        Other words stay: with ``Upgrade`` browsers send ``keep-alive``, which says nothing in HTTP/1.1.
        """
        is_old = self.version == "1.0"
        connection = self.headers.get("CONNECTION")
        if connection is not None:
            words = {word.strip(" \t") for word in connection.lower().split(",")}
            known = "close" if "close" in words else "keep-alive" if is_old and "keep-alive" in words else None
            if known is not None:
                self.headers["CONNECTION"] = connection = known
        self.connection_close = connection == "close" or (is_old and connection != "keep-alive")

    def _frame(self) -> None:
        """Find out where the request ends (RFC 9112, 6.3)."""
        headers = self.headers
        length = headers.get("CONTENT_LENGTH")
        if length is not None and not _LENGTH.match(length):
            raise _Refused(BadRequest("Content-Length is not one number of bytes"))
        coding = headers.pop("TRANSFER_ENCODING", None)  # the application gets the body without it
        if coding is not None:
            self._check_coding(coding.lower(), length)
            self.chunked = True
            self.body_rcv = ChunkedBody(OverflowableBuffer(self.adj.inbuf_overflow), self.adj.max_request_body_size)
        elif length is not None:
            self.content_length = int(length)
            if self.content_length:
                buffer = OverflowableBuffer(self.adj.inbuf_overflow)
                self.body_rcv = FixedStreamReceiver(self.content_length, buffer)
        expected = headers.get("EXPECT")
        if expected is not None and self.version == "1.1":
            if any(word.strip(" \t") != "100-continue" for word in expected.lower().split(",")):
                raise _Refused(ExpectationFailed("Only Expect: 100-continue can be met"))
            self.expect_continue = self.body_rcv is not None

    def _check_coding(self, coding: str, length: str | None) -> None:
        if self.version == "1.0":
            raise _Refused(BadRequest("HTTP/1.0 has no Transfer-Encoding; send Content-Length"))
        if length is not None:
            raise _Refused(BadRequest("Send either Transfer-Encoding or Content-Length"))
        if coding != "chunked":
            words = [word.strip(" \t") for word in coding.split(",")]
            if set(words) <= {"chunked", ""}:
                raise _Refused(BadRequest("Transfer-Encoding must say chunked, once"))
            raise _Refused(ServerNotImplemented("No other Transfer-Encoding than chunked is understood"))

    def _receive_body(self, data: bytes) -> int:
        body = self.body_rcv
        consumed: int = body.received(data)
        self.body_bytes_received += consumed
        if body.error:
            raise _Refused(body.error)
        if body.completed:
            self.query = self.request_uri.partition("?")[2]
            self.completed = True
            if self.chunked:
                self.headers["CONTENT_LENGTH"] = str(len(body))
        return consumed


def _too_large(limit: int) -> Error:
    return RequestEntityTooLarge(f"exceeds max_body of {limit}")
