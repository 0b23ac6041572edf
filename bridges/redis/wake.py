"""Waking a thread that waits for sockets."""

from __future__ import annotations

import os
import threading


class Wake:
    """A pipe that becomes readable when it is set, until it is cleared. Thread-safe."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._is_set = False
        self._closed = False

    def fileno(self) -> int:
        """What to wait for."""
        return self._read

    def set(self) -> None:
        """Wake the thread, now or when it waits the next time."""
        with self._lock:
            if not self._is_set and not self._closed:
                self._is_set = True
                os.write(self._write, b"!")

    def clear(self) -> None:
        """Only what is set after this wakes again."""
        with self._lock:
            if self._is_set and not self._closed:
                self._is_set = False
                os.read(self._read, 1)

    def close(self) -> None:
        """Nobody waits any more; ``set`` does nothing from now on."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._read)
                os.close(self._write)
