"""A request's body that comes in chunks (RFC 9112, 7.1)."""

from __future__ import annotations

import re

from waitress.buffers import OverflowableBuffer
from waitress.utilities import BadRequest, Error, RequestEntityTooLarge, RequestHeaderFieldsTooLarge

#: Longest line with a chunk's size, and longest trailer section, in bytes.
MAX_LINE = 1024
MAX_TRAILERS = 8 * 1024

#: The lines with sizes may take twice the bytes of the body, and this many more: tiny chunks cost more than they carry.
SLACK = 16 * 1024

#: Chunks that are read before other connections get their turn.
AT_ONCE = 256

#: A size, and extensions, which are ignored. Nobody sends a body whose size has more digits.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")

#: A field of the trailer section, which is checked and dropped.
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class ChunkedBody:
    """Stands in for waitress' ChunkedReceiver: strict about line ends, with a limit on everything that it keeps.

    It looks at each byte once; waitress copies the rest of the input for each chunk.
    """

    completed = False
    error: Error | None = None

    def __init__(self, buffer: OverflowableBuffer, max_body: int):
        """``max_body``: a body of this many bytes is too large."""
        self._buffer = buffer
        self._max_body = max_body
        self._line = b""  # an incomplete line
        self._left = 0  # bytes of the present chunk that are still to come
        self._ends = False  # is the present chunk's line end next?
        self._last = False  # have all chunks been received?
        self._size = self._overhead = self._trailers = 0

    def __len__(self) -> int:
        return int(self._buffer.__len__())

    @property
    def kept(self) -> int:
        """Bytes that are kept in addition to the body."""
        return len(self._line)

    def getfile(self) -> object:
        """The body as a file."""
        return self._buffer.getfile()

    def getbuf(self) -> OverflowableBuffer:
        """The buffer with the body."""
        return self._buffer

    def received(self, data: bytes) -> int:
        """Take what has arrived; the number of bytes taken. Pass the rest again if the body is not complete."""
        before = len(self._line)
        data = self._line + data
        self._line = b""
        pieces: list[bytes] = []
        at = self._take(data, pieces)
        if pieces:
            self._buffer.append(b"".join(pieces))
        return at - before

    def _take(self, data: bytes, pieces: list[bytes]) -> int:
        """Read to the end of the body or of the data, or AT_ONCE chunks; where it stopped."""
        at = 0
        for _ in range(AT_ONCE):
            if self._left:
                piece = data[at:at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    return at
                self._ends = True
            if self._ends:
                end = data[at:at + 2]
                if end != b"\r\n":
                    if b"\r\n".startswith(end):  # the rest has not come yet
                        self._line = end
                        return len(data)
                    return self._fail(BadRequest("A chunk does not end where its size says"), at)
                at += 2
                self._ends = False
            longest = MAX_TRAILERS if self._last else MAX_LINE
            end_at = data.find(b"\r\n", at, at + longest + 2)
            if end_at < 0:
                if len(data) - at > longest + 1:
                    return self._fail(_too_long(self._last), at)
                self._line = data[at:]
                return len(data)
            line = data[at:end_at]
            at = end_at + 2
            error = self._trailer(line) if self._last else self._begin(line)
            if error is not None:
                return self._fail(error, at)
            if self.completed:
                return at
        return at

    def _begin(self, line: bytes) -> Error | None:
        """Take the line with a chunk's size."""
        found = _SIZE.fullmatch(line)
        if found is None:
            return BadRequest("A chunk's size is not a hexadecimal number")
        self._left = int(found[1], 16)
        self._last = not self._left
        self._size += self._left
        self._overhead += len(line) + 4
        if self._size >= self._max_body:
            return RequestEntityTooLarge(f"exceeds max_body of {self._max_body}")
        if self._overhead > 2 * self._size + SLACK:
            return BadRequest("The chunks are too small, or their extensions too long, for what they carry")
        return None

    def _trailer(self, line: bytes) -> Error | None:
        """Take a line after the last chunk: a trailer field, or the empty line at the end."""
        self._trailers += len(line) + 2
        if not line:
            self.completed = True
        elif not _TRAILER.fullmatch(line):
            return BadRequest("What follows the last chunk is no header")
        elif self._trailers > MAX_TRAILERS:
            return _too_long(True)
        return None

    def _fail(self, error: Error, at: int) -> int:
        self.error = error
        return at


def _too_long(trailer: bool) -> Error:
    if trailer:
        return RequestHeaderFieldsTooLarge(f"The trailers are longer than {MAX_TRAILERS} bytes")
    return BadRequest(f"A chunk's size and extensions are longer than {MAX_LINE} bytes")
