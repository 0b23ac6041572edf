"""A connection's socket, read and written past py-amqp so that every wait has an end, and few calls are needed.

Python polls before each call on a socket that has a timeout. Each of these calls lets go of the GIL, and has to wait
for it again; and py-amqp reads the three parts of a frame one by one. So the kernel keeps the time, and what has
arrived is read in one go. For that a transport's ``_quick_recv`` and ``_write`` are replaced; what is read and not yet
used stays in its ``_read_buffer``, which py-amqp's own reads begin with. TLS keeps Python's way, with a shorter wait
where time is short.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

#: A wait for the broker looks at the clock at this interval, in seconds, and may take this much too long.
SLICE = 0.1

#: Shortest wait in seconds, used when no time is left. To a socket 0 would mean non-blocking.
LEAST_WAIT = 0.001

#: How many bytes a read asks for, unless more are needed.
READ_AHEAD = 64 * 1024


class Waiting(Protocol):
    """Who waits: each wait ends after ``timeout`` seconds, or at ``until`` (monotonic seconds) if that is set."""

    timeout: float
    until: float | None


def end_waits(transport: Any, waiting: Waiting) -> bool:
    """Have the reads and writes of py-amqp's ``transport`` end in time; True if it reads what has arrived in one go."""
    sock: socket.socket = transport.sock
    sock.settimeout(waiting.timeout)
    if type(sock) is not socket.socket:
        _end_reads_through_tls(transport, sock, waiting)
        return False
    sock.settimeout(None)
    for direction in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, direction, _timeval(min(SLICE, waiting.timeout)))

    def receive(wanted: int) -> bytes:
        until = waiting.until or time.monotonic() + waiting.timeout
        while True:
            try:
                return sock.recv(max(wanted, READ_AHEAD))
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise TimeoutError("timed out") from None

    def write(data: bytes) -> None:
        sent = 0
        until = None
        while True:
            with suppress(BlockingIOError):
                sent += sock.send(memoryview(data)[sent:] if sent else data)
            if sent == len(data):
                return
            # A broker that is short of something may take a little now and then, and go on so for long.
            until = until or waiting.until or time.monotonic() + waiting.timeout
            if time.monotonic() >= until:
                raise TimeoutError("timed out")

    transport._quick_recv = receive
    transport._write = write
    return True


def _end_reads_through_tls(transport: Any, sock: socket.socket, waiting: Waiting) -> None:
    """Each read would wait for its own timeout."""
    read: Callable[[int], bytes] = transport._quick_recv

    def receive(wanted: int) -> bytes:
        usual = sock.gettimeout()
        left = waiting.until - time.monotonic() if waiting.until is not None else waiting.timeout
        if usual is None or left >= usual:
            return read(wanted)
        sock.settimeout(max(left, LEAST_WAIT))
        try:
            return read(wanted)
        finally:
            sock.settimeout(usual)

    transport._quick_recv = receive


def _timeval(seconds: float) -> bytes:
    """As the kernel wants it: a struct timeval."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
