"""send(2) and recv(2) without letting go of the GIL, for sockets that never block.

Python lets go of the GIL around each system call. With several busy threads another one takes it meanwhile, and this
one has to wait for it: two context switches for a call that takes some microseconds. These two keep it.
"""

from __future__ import annotations

import ctypes
import os
import socket

#: Bytes that are received in one go at the most.
RECEIVED = 64 * 1024

#: MSG_DONTWAIT in case the socket is one that blocks; MSG_NOSIGNAL since Python ignores SIGPIPE only by default.
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

_libc = ctypes.PyDLL(None, use_errno=True)
_send, _recv = _libc.send, _libc.recv
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_send.restype = _recv.restype = ctypes.c_ssize_t


def send(sock: socket.socket, data: bytes) -> int:
    """Bytes that were sent. Raises OSError, BlockingIOError if none can be sent now."""
    sent = _send(sock.fileno(), data, len(data), _FLAGS)
    if sent < 0:
        _fail()
    return int(sent)


class Receiver:
    """Receives for one thread."""

    def __init__(self) -> None:
        self._storage = bytearray(RECEIVED)
        self._view = memoryview(self._storage)
        self._address = ctypes.addressof((ctypes.c_char * RECEIVED).from_buffer(self._storage))

    def receive(self, sock: socket.socket) -> bytes:
        """What has arrived, RECEIVED bytes at the most; nothing if the other end has closed. Raises OSError."""
        count = _recv(sock.fileno(), self._address, RECEIVED, _FLAGS)
        if count < 0:
            _fail()
        return bytes(self._view[:count])


def _fail() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
