"""The threads that serve requests, and the line of bounded length in which requests wait for them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from gateway.server.connection import ClientConnection

LOG = logging.getLogger(__name__)


class ThreadPool:
    """``threads`` threads, and room for ``max_queued`` waiting requests. Only the main thread calls its methods.

    waitress' own pool waits on a condition, for which Python creates a new lock each time that a thread waits.
    """

    def __init__(self, threads: int, max_queued: int):
        self._room = threads + max_queued
        self._line: deque[ClientConnection] = deque()
        self._lock = threading.Lock()
        # A True for each connection that was put into the line, even if it was taken back; a False ends a thread.
        self._calls: SimpleQueue[bool] = SimpleQueue()
        self._taken_in = 0
        # Each thread writes only its own element, so this needs no lock.
        self._served = [0] * threads
        self._serving = [False] * threads
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"worker-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, connection: ClientConnection, again: bool = False) -> bool:
        """Have a connection's request served; False if too many wait already.

        ``again``: it has been let in before, and was suspended.
        """
        if not again and self._taken_in - sum(self._served) >= self._room:
            return False
        self._taken_in += 1
        self._line.append(connection)
        self._calls.put(True)
        return True

    def allow(self, max_queued: int) -> None:
        """Change how many requests may wait for a thread."""
        self._room = len(self._threads) + max_queued

    def in_progress(self) -> Callable[[], bool]:
        """A function that tells whether any of the requests that are being served now is still being served."""
        before = [served if serving else None for serving, served in zip(self._serving, self._served, strict=True)]
        return lambda: any(then == now for then, now in zip(before, self._served, strict=True))

    def take_late(self, before: float) -> list[ClientConnection]:
        """Take back the connections that have been waiting since before a time, in monotonic seconds."""
        late = []
        with self._lock:
            while self._line and self._line[0].since < before:
                late.append(self._line.popleft())
        self._taken_in -= len(late)
        return late

    def shutdown(self, timeout: float) -> None:
        """End the threads; wait ``timeout`` seconds for those that are serving."""
        for _ in self._threads:
            self._calls.put(False)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self, number: int) -> None:
        while self._calls.get():
            with self._lock:
                connection = self._line.popleft() if self._line else None
            if connection is not None:
                self._serving[number] = True
                try:
                    connection.service()
                except Exception:  # the next one must be served whatever happened
                    LOG.exception("serving a request failed")
                self._serving[number] = False
                self._served[number] += 1
