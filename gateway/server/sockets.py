"""send(2) and recv(2) for sockets that never block: a fast way that keeps the GIL, and the ordinary one.

Python releases the GIL around each system call. If other threads are busy, one of them takes it meanwhile, and the
caller has to wait for it: two context switches for a call that takes some microseconds. DirectSockets keeps the GIL.
"""

from __future__ import annotations

import ctypes
import os
import socket
from typing import Protocol

from gateway.observe.fast_paths import DIRECT_SYSCALLS, fell_back

#: Most bytes that one call receives.
MAX_RECEIVED = 64 * 1024

#: Bytes with which the direct calls are tried before they are used.
_PROBE = b"a\0b"


class Sockets(Protocol):
    """Sends and receives on sockets that don't block."""

    def send(self, sock: socket.socket, data: bytes) -> int:
        """The number of bytes sent; any thread may call. Raises OSError: BlockingIOError if none can be sent now."""

    def receive(self, sock: socket.socket) -> bytes:
        """What has arrived, up to MAX_RECEIVED bytes; b"" if the other end has closed. Only one thread may call.

        Raises OSError: BlockingIOError if nothing has arrived.
        """


class OrdinarySockets:
    """Python's own calls, which release the GIL."""

    def send(self, sock: socket.socket, data: bytes) -> int:
        """See Sockets."""
        return sock.send(data)

    def receive(self, sock: socket.socket) -> bytes:
        """See Sockets."""
        return sock.recv(MAX_RECEIVED)


class DirectSockets:
    """The C library's calls, which keep the GIL. Raises AttributeError or OSError where the library has none."""

    def __init__(self) -> None:
        libc = ctypes.PyDLL(None, use_errno=True)
        self._send, self._recv = libc.send, libc.recv
        self._send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
        self._recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self._send.restype = self._recv.restype = ctypes.c_ssize_t
        #: DONTWAIT in case a socket blocks after all; NOSIGNAL as Python ignores SIGPIPE only by default.
        self._flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        self._storage = bytearray(MAX_RECEIVED)
        self._view = memoryview(self._storage)
        self._address = ctypes.addressof((ctypes.c_char * MAX_RECEIVED).from_buffer(self._storage))

    def send(self, sock: socket.socket, data: bytes) -> int:
        """See Sockets."""
        sent: int = self._send(sock.fileno(), data, len(data), self._flags)
        if sent < 0:
            _raise_errno()
        return sent

    def receive(self, sock: socket.socket) -> bytes:
        """See Sockets."""
        count = self._recv(sock.fileno(), self._address, MAX_RECEIVED, self._flags)
        if count < 0:
            _raise_errno()
        return bytes(self._view[:count])


def choose_sockets(direct: bool) -> Sockets:
    """The direct calls if they are wanted and work on this system, else the ordinary ones."""
    if not direct:
        return OrdinarySockets()
    try:
        sockets = DirectSockets()
        _try_out(sockets)
    except Exception as error:  # whatever ctypes and foreign systems may raise
        fell_back(DIRECT_SYSCALLS, f"{type(error).__name__}: {error}")
        return OrdinarySockets()
    return sockets


def _try_out(sockets: Sockets) -> None:
    """Raises OSError unless bytes that are sent arrive."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if sockets.send(ours, _PROBE) != len(_PROBE) or sockets.receive(theirs) != _PROBE:
            raise OSError("bytes that were sent did not arrive")


def _raise_errno() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
