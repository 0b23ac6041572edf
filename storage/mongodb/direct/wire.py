"""A connection that speaks MongoDB's wire protocol: one OP_MSG out, one back.

Source: MongoDB manual, "MongoDB Wire Protocol". BSON is the driver's.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import bson
from bson import Binary, Int64
from bson.binary import UUID_SUBTYPE
from bson.codec_options import CodecOptions, DatetimeConversion

#: Decode dates as milliseconds, because Python's dates end with the year 9999.
DATES: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)

#: Length of the message, its number, the number of the one it answers, and the kind of message.
_HEADER = struct.Struct("<iiii")

#: The header; flags; and the kind of the only section, which is one document.
_PREFIX = struct.Struct("<iiiiIB")

_OP_MSG = 2013

#: Initial size of the receive buffer in bytes. Most answers fit.
_RECEIVED = 64 * 1024

#: Maximum size of a message in bytes (MongoDB limits: maxMessageSizeBytes).
_LONGEST = 48_000_000

#: Options for TCP keepalive, with the values that MongoDB's specification for drivers gives: seconds of silence until
#: the first probe, seconds between probes, and how many unanswered probes end the connection. Not every system has
#: them.
_KEEPALIVE = {"TCP_KEEPIDLE": 120, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 9}


class Connection:
    """A connection for one thread at a time, of no use any more after an exception."""

    def __init__(
        self, address: tuple[str, int], timeout: float, tls: ssl.SSLContext | None, connecting: float | None = None
    ):
        """Connect within ``connecting`` or ``timeout`` seconds; each command may take ``timeout``. Raises OSError."""
        self.address = address
        self.used = time.monotonic()
        self._usual = self._timeout = timeout
        #: Whether commands have a shorter timeout at the moment.
        self.limited = False
        self._number = 0
        self._session = {"id": Binary(uuid4().bytes, UUID_SUBTYPE)}
        self._writes = 0
        self._buffer = bytearray(_RECEIVED)
        self._socket = socket.create_connection(address, connecting or timeout)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE.items():
                if hasattr(socket, option):
                    self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=address[0])
            self._wait(timeout)
        except BaseException:
            self._socket.close()
            raise

    def limit(self, seconds: float) -> None:
        """Let each command take so long from now on."""
        self._wait(seconds)
        self.limited = seconds != self._usual

    def _wait(self, seconds: float) -> None:
        self._timeout = seconds
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket.settimeout(seconds)
            return
        # With a timeout of Python's each call would be two system calls, and let go of the GIL twice.
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._socket.settimeout(None)

    @property
    def alive(self) -> bool:
        """Has the other end neither closed it nor said anything that nobody asked for?"""
        poll = select.poll()  # select() takes no file number beyond 1023
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def next_write(self) -> tuple[Mapping[str, Any], Int64]:
        """Session and number for a write that the server is to do once, however often it is sent."""
        self._writes += 1
        return self._session, Int64(self._writes)

    def command(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The server's answer to a command, whatever it is.

        Raises TimeoutError when it does not come in time, OSError when the connection is broken, and ValueError for
        what is no answer.
        """
        deadline = time.monotonic() + self._timeout
        body = bson.encode(document)
        self._number = self._number + 1 & 0x7FFF_FFFF
        try:
            self._socket.sendall(
                _PREFIX.pack(_PREFIX.size + len(body), self._number, 0, _OP_MSG, 0, 0) + body
            )
            answer = self._receive(deadline)
        except BlockingIOError as error:  # how the kernel says that the time is up
            raise TimeoutError(f"no answer from {self.address[0]}:{self.address[1]} in {self._timeout} s") from error
        self.used = time.monotonic()
        _, _, answered, kind, flags, section = _PREFIX.unpack_from(answer)
        if (answered, kind, flags, section) != (self._number, _OP_MSG, 0, 0):
            raise ValueError("that is no answer to the command")
        try:
            return bson.decode(answer[_PREFIX.size:], codec_options=DATES)
        except bson.InvalidBSON as error:
            raise ValueError(str(error)) from error

    def _receive(self, deadline: float) -> memoryview:
        """A whole message. Raises as command does."""
        buffer = memoryview(self._buffer)
        count, length = 0, _HEADER.size
        while count < length:
            received = self._socket.recv_into(buffer[count:])
            if not received:
                raise ConnectionResetError("the server has closed the connection")
            count += received
            if count >= _HEADER.size and length == _HEADER.size:
                length, *_ = _HEADER.unpack_from(buffer)
                if not _PREFIX.size <= length <= _LONGEST:
                    raise ValueError(f"an answer of {length} bytes")
                if length > len(buffer):
                    larger = memoryview(bytearray(length))
                    larger[:count] = buffer[:count]
                    buffer = larger
            if count < length and time.monotonic() > deadline:
                raise TimeoutError("the answer did not come in time")
        if count > length:
            raise ValueError("an answer, and something more")
        return buffer[:length]
