"""A bounded pool of links with strict check-out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis.exceptions import ResponseError

from bridges.errors import BridgeError, BridgeUnavailable
from bridges.redis.link import FAILURES, Link
from bridges.redis.refusals import failure, is_of_server

#: What is raised when a link can't be opened, or its server is not fit.
OPEN_FAILURES: tuple[type[Exception], ...] = (*FAILURES, BridgeError)

#: Seconds for which a failed attempt to connect answers for those that come right after it.
FAIL_FAST = 0.2

#: Share of the timeout that an attempt to connect must have had, for its failure to say something of Redis.
TELLING = 0.5


class Pool:
    """Up to ``size`` links; the one used last goes out first, so that surplus ones idle. Thread-safe, and fork-safe:
    a process that is forked off opens its own.

    ``open_link`` opens one, and gets a deadline (monotonic seconds) for that; ``timeout``: seconds for one call.
    """

    def __init__(self, open_link: Callable[[float], Link], size: int, timeout: float):
        self._open_link = open_link
        self._timeout = timeout
        self._free = threading.Semaphore(size)
        self._size = size
        self._idle: list[Link] = []
        self._lock = threading.Lock()
        self._trial = threading.Lock()
        self._failed: tuple[float, BridgeError] | None = None
        self._closed = False
        self._pid = os.getpid()
        #: Number of links that are open now.
        self.open = 0

    def take(self, deadline: float) -> Link:
        """A link that was alive a moment ago, whose waits end at ``deadline`` (monotonic seconds); end it with put or
        drop. Raises BridgeUnavailable.
        """
        self._notice_fork()
        if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise BridgeUnavailable("all connections to Redis have been busy for too long")
        try:
            while (link := self._pop()) is not None:
                link.until = deadline
                if link.is_alive():
                    return link
                self._discard(link)
            return self._new(deadline)
        except BaseException:
            self._free.release()
            raise

    def put(self, link: Link) -> None:
        """Give back a link that is in good order."""
        self._failed = None
        with self._lock:
            keep = not self._closed
            if keep:
                self._idle.append(link)
        if not keep:
            self._discard(link)
        self._free.release()

    def drop(self, link: Link) -> None:
        """Give back a link that is broken, or may be."""
        self._discard(link)
        self._free.release()

    def clear(self) -> None:
        """Close all links that idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            self._discard(link)

    def close(self) -> None:
        """Close the links that idle now and the others as they come back."""
        self._closed = True
        self.clear()

    @contextmanager
    def lent(self, deadline: float) -> Iterator[Link]:
        """A link for one exchange, as from take; raises what the exchange does."""
        link = self.take(deadline)
        try:
            yield link
        except ResponseError as error:
            self.refused(link, error)
            raise
        except BaseException:
            self.drop(link)
            raise
        self.put(link)

    def refused(self, link: Link, error: ResponseError) -> None:
        """Give back a link on which Redis has refused something."""
        if is_of_server(error):
            self.drop(link)
            self.clear()
        else:
            self.put(link)

    def _pop(self) -> Link | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _discard(self, link: Link) -> None:
        with self._lock:
            self.open -= 1
        link.close()

    def _new(self, deadline: float) -> Link:
        """Connect. Once that has failed only one thread at a time tries: not every request waits for its timeout."""
        if self._failed is None:
            return self._try(deadline)
        failed_at, why = self._failed
        if not self._trial.acquire(blocking=False):
            raise type(why)(str(why))
        try:
            if time.monotonic() - failed_at < FAIL_FAST:
                raise type(why)(str(why))
            return self._try(deadline)
        finally:
            self._trial.release()

    def _try(self, deadline: float) -> Link:
        left = deadline - time.monotonic()
        if left <= 0:
            raise BridgeUnavailable("all connections to Redis have been busy for too long")
        try:
            link = self._open_link(deadline)
        except OPEN_FAILURES as error:
            why = failure(error)
            if left >= self._timeout * TELLING:
                self._failed = time.monotonic(), why
            raise why from error
        self._failed = None
        with self._lock:
            self.open += 1
        return link

    def _notice_fork(self) -> None:
        """What was open when this process was forked off belongs to its parent."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid == os.getpid():
                return
            idle, self._idle, self.open = self._idle, [], 0
            self._free = threading.Semaphore(self._size)
            self._pid = os.getpid()
        for link in idle:
            link.close()
