"""The threads that serve requests, and the line of bounded length in which requests wait for them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from gateway.server.connection import ClientConnection

LOG = logging.getLogger(__name__)


class _Worker:
    """A thread of the pool. ``called`` is released when it has been given a ``connection``, or None to end.

    Only the thread itself writes whether it is ``serving`` a request, and how many it has ``served``.
    """

    __slots__ = ("called", "connection", "serving", "served")

    def __init__(self) -> None:
        self.called = threading.Lock()
        self.called.acquire()
        self.connection: ClientConnection | None = None
        self.serving = False
        self.served = 0


class ThreadPool:
    """``threads`` threads, and room for ``max_queued`` waiting requests. Only the main thread calls its methods.

    A thread that has served a request takes the next one of the line. If there is no line, a request goes to the thread
    that has become idle last, and no other is woken: threads beyond those that are needed cost nothing. With a queue,
    each request wakes another idle thread as well, which takes the GIL to find nothing. waitress' own pool waits on a
    condition, for which Python creates a new lock each time that a thread waits.
    """

    def __init__(self, threads: int, max_queued: int):
        self._max_queued = max_queued
        self._workers = [_Worker() for _ in range(threads)]
        #: Guards the line, which has a None for each thread that is to end, and the idle workers. There is a line only
        #: while no worker is idle.
        self._lock = threading.Lock()
        self._line: deque[ClientConnection | None] = deque()
        self._idle = self._workers.copy()
        self._threads = [
            threading.Thread(target=self._work, args=(worker,), name=f"worker-{number}", daemon=True)
            for number, worker in enumerate(self._workers)
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, connection: ClientConnection, again: bool = False) -> bool:
        """Have a connection's request served; False if too many wait already.

        ``again``: it has been let in before, and was suspended.
        """
        if not self._idle and len(self._line) >= self._max_queued and not again:
            return False
        self._give(connection)
        return True

    def allow(self, max_queued: int) -> None:
        """Change how many requests may wait for a thread."""
        self._max_queued = max_queued

    def in_progress(self) -> Callable[[], bool]:
        """A function that tells whether any of the requests that are being served now is still being served."""
        before = [(worker, worker.served) for worker in self._workers if worker.serving]
        return lambda: any(worker.served == served for worker, served in before)

    def take_late(self, before: float) -> list[ClientConnection]:
        """Take back the connections that have been waiting since before a time, in monotonic seconds."""
        late = []
        with self._lock:
            while self._line and (first := self._line[0]) is not None and first.since < before:
                late.append(first)
                self._line.popleft()
        return late

    def shutdown(self, timeout: float) -> None:
        """End the threads when the line is empty; wait ``timeout`` seconds for those that are serving."""
        for _ in self._threads:
            self._give(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _give(self, connection: ClientConnection | None) -> None:
        with self._lock:
            if not self._idle:
                self._line.append(connection)
                return
            worker = self._idle.pop()
        worker.connection = connection
        worker.called.release()

    def _work(self, worker: _Worker) -> None:
        worker.called.acquire()
        connection = worker.connection
        while connection is not None:
            worker.serving = True
            try:
                connection.service()
            except Exception:  # the next one must be served whatever happened
                LOG.exception("serving a request failed")
            worker.serving = False
            worker.served += 1
            connection = self._next(worker)

    def _next(self, worker: _Worker) -> ClientConnection | None:
        """The next connection, when there is one; None if the thread has to end."""
        with self._lock:
            if self._line:
                return self._line.popleft()
            self._idle.append(worker)
        worker.called.acquire()
        return worker.connection
