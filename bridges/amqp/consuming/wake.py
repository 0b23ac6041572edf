"""Ends a thread's wait on a socket from another thread."""

from __future__ import annotations

import socket
from contextlib import suppress

#: More than ever waits to be read: a byte for each call of ``set`` since the last ``clear``.
_MOST = 4096


class Wake:
    """``set`` may be called by any thread; the other methods are for the one that waits."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """It can be read from since ``set`` was called, until ``clear`` is."""
        return self._reader.fileno()

    def set(self) -> None:
        """End the wait, or the next one."""
        with suppress(OSError):  # full: it is set already; or closed
            self._writer.send(b"\0")

    def clear(self) -> None:
        with suppress(BlockingIOError):
            self._reader.recv(_MOST)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
