"""The listening socket, TCP or Unix: how it begins, and how it ends without a reset."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator

from gateway.config.address import UNIX

#: Most connections that wait to be accepted.
BACKLOG = 1024

#: Seconds that a process which listens on a Unix socket gets to take a connection.
TAKEN_IN = 1.0

#: Linux's SO_ATTACH_FILTER, and a filter (classic BPF: code, jump if true, jump if false, operand) that drops the
#: first packet of new connections: byte 13 of a TCP segment has the flags, and a SYN without ACK is 2 of 0x12.
SO_ATTACH_FILTER = 26
NO_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))

#: Device and inode of the Unix sockets that this process or its parent has created, by path.
_created: dict[str, tuple[int, int]] = {}


def listen(host: str, port: int, reuse_port: bool = False, mode: int = 0o660) -> socket.socket:
    """A socket that listens. ``mode``: the permissions of a Unix socket. Raises OSError."""
    if host.startswith(UNIX):
        return _listen_unix(host.removeprefix(UNIX), mode)
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_unix(path: str, mode: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone_in(os.path.dirname(path)):
            _remove_stale(path)
            before = os.umask(0o777 & ~mode)  # bind creates the file: it never has another mode
            try:
                listener.bind(path)
            finally:
                os.umask(before)
            created = os.stat(path)
            _created[path] = created.st_dev, created.st_ino
            listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Keep out other gateways that start in the same folder at this moment, where the file system has such locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: str) -> None:
    """Remove a socket on which nobody listens, left by a gateway that was killed. Raises OSError for anything else."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(TAKEN_IN)
        try:
            other.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except (BlockingIOError, TimeoutError):  # too many wait to be accepted: somebody listens
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def shown(listener: socket.socket) -> str:
    """Where it listens, for the operator."""
    if listener.family == socket.AF_UNIX:
        return f"{UNIX}{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def remove_file(listener: socket.socket) -> None:
    """Remove the file of a Unix socket, unless another process owns it by now; then no new connection comes in."""
    if listener.family != socket.AF_UNIX:
        return
    path = listener.getsockname()
    with contextlib.suppress(OSError):
        found = os.stat(path)
        if _created.get(path) == (found.st_dev, found.st_ino):
            os.unlink(path)


def drop_new_connections(listener: socket.socket) -> None:
    """Ignore new attempts to connect; the client's system tries again after a second.

    Closing the socket resets connections that nobody has accepted yet, and without this some may arrive between the
    last accept and the close; on systems other than Linux those few are reset. See filter.rst in the kernel's
    networking documentation. It works on the socket, so on all processes that share it. For a Unix socket its file is
    removed instead.
    """
    remove_file(listener)
    if listener.family == socket.AF_UNIX:
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in NO_SYN))
    with contextlib.suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(NO_SYN), ctypes.addressof(program))
        )
