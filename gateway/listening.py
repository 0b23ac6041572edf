"""The listening socket: how it begins, and how it ends without a reset."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

#: Connections that wait to be accepted at the most.
BACKLOG = 1024

#: Linux's SO_ATTACH_FILTER, and a filter (classic BPF: code, jump if true, jump if false, operand) that drops the
#: first packet of new connections: byte 13 of a TCP segment has the flags, and a SYN without ACK is 2 of 0x12.
SO_ATTACH_FILTER = 26
NO_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def listen(host: str, port: int, reuse_port: bool = False) -> socket.socket:
    """A socket that listens. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(address)
    listener.listen(BACKLOG)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where it listens, for the log."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def drop_new_connections(listener: socket.socket) -> None:
    """Ignore whoever tries to connect from now on; the client's system tries again after a second.

    Closing the socket resets those that nobody has accepted yet, and without this some may come between the last
    accept and the close; on other systems than Linux those few are reset. See filter.rst in the kernel's networking
    documentation. It works on the socket, so on all processes that share it.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in NO_SYN))
    with contextlib.suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(NO_SYN), ctypes.addressof(program))
        )
