"""A bounded pool of links with strict check-out, and the keeper that keeps idle ones alive."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kombu.exceptions import OperationalError

from bridges.amqp.link import LINK_ERRORS, Link
from bridges.amqp.refusals import refusal
from bridges.errors import BridgeUnavailable, BrokerRefused

#: What a connection attempt raises; kombu wraps some of it.
CONNECT_ERRORS: tuple[type[Exception], ...] = (*LINK_ERRORS, OperationalError)

#: Seconds for which a failed connection attempt answers for those that come right after it.
FAIL_FAST = 0.2

#: Share of the timeout that an attempt must have had for its timing out to say something of the broker.
TELLING = 0.5


class Pool:
    """At most ``size`` links made by ``connect``; the one used last goes out first, so that surplus ones idle.

    A link that the broker blocks goes out before all others: it knows when that is over.
    """

    def __init__(self, connect: Callable[[float], Link], size: int, timeout: float):
        """``connect`` gets a deadline (monotonic seconds); ``timeout``: seconds from take to put if none is given."""
        self._connect = connect
        self._timeout = timeout
        self._free = threading.Semaphore(size)
        self._idle: list[Link] = []
        self._open = 0
        self._lock = threading.Lock()
        self._closed = False
        self._failed: tuple[float, BridgeUnavailable] | None = None
        #: Exchanges that went well: as long as there are some the broker is there, whatever became of one connection.
        self._exchanges = 0
        self._trial = threading.Lock()

    @property
    def open(self) -> int:
        """Links that are connected now."""
        return self._open

    def take(self, deadline: float | None = None) -> Link:
        """A link that was alive a moment ago. Raises BridgeUnavailable; end it with put or drop.

        The wait for it, its opening, and what is then done with it all end at ``deadline`` (monotonic seconds).
        """
        now = time.monotonic()
        if deadline is None:
            deadline = now + self._timeout
        if not self._free.acquire(timeout=max(0.0, deadline - now)):
            raise BridgeUnavailable("all connections to the broker have been busy for too long")
        try:
            while (link := self._pop()) is not None:
                try:
                    link.check()
                except LINK_ERRORS:
                    self._discard(link)
                else:
                    link.until = deadline
                    return link
            return self._new(deadline)
        except BaseException:
            self._free.release()
            raise

    def put(self, link: Link) -> None:
        """Give a link back that is in good order."""
        link.until = None
        with self._lock:
            self._exchanges += 1
            self._failed = None
            if not self._closed:
                self._idle.append(link)
                link = None  # type: ignore[assignment]
        if link is not None:
            self._discard(link)
        self._free.release()

    def drop(self, link: Link) -> None:
        """Give a link back that is broken, or may be."""
        self._discard(link)
        self._free.release()

    @contextmanager
    def link(self, deadline: float | None = None) -> Iterator[Link]:
        """A link for one exchange, as from take; dropped when the exchange fails."""
        link = self.take(deadline)
        with self.returning(link):
            yield link

    @contextmanager
    def returning(self, link: Link) -> Iterator[None]:
        """Give a link back that was taken: put it, or drop it when what is done with it fails."""
        try:
            yield
        except BaseException:
            self.drop(link)
            raise
        self.put(link)

    def tick(self) -> None:
        """Send and take heartbeats on the idle links; drop dead ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            # While it is ticked a link is in nobody's list, so no thread can take it.
            try:
                link.tick()
            except LINK_ERRORS:
                self._discard(link)
                continue
            with self._lock:
                self._idle.insert(0, link)

    def close(self) -> None:
        """Close idle links now and the others as they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for link in idle:
            self._discard(link)

    def _pop(self) -> Link | None:
        with self._lock:
            for place, link in enumerate(self._idle):
                if link.blocked:
                    return self._idle.pop(place)
            return self._idle.pop() if self._idle else None

    def _new(self, deadline: float) -> Link:
        """Connect. Once that has failed only one thread at a time tries: not every request waits for its timeout."""
        failed = self._failed
        if failed is None:
            return self._try(deadline)
        failed_at, why = failed
        if not self._trial.acquire(blocking=False):
            raise type(why)(str(why))
        try:
            if time.monotonic() - failed_at < FAIL_FAST:
                raise type(why)(str(why))
            return self._try(deadline)
        finally:
            self._trial.release()

    def _try(self, deadline: float) -> Link:
        before = self._exchanges
        left = deadline - time.monotonic()
        if left <= 0:
            raise BridgeUnavailable("all connections to the broker have been busy for too long")
        try:
            link = self._connect(deadline)
        except CONNECT_ERRORS as error:
            if left < self._timeout * TELLING and isinstance(error.__cause__ or error, TimeoutError):
                raise BridgeUnavailable("too little time was left to connect to the broker") from error
            # Of TLS 1.3's alerts, which come after the handshake, often only the end of the connection is seen.
            hung_up = isinstance(error.__cause__ or error, ssl.SSLEOFError)
            hint = "; does it take the gateway's certificate?" if hung_up else ""
            refused = refusal(error)
            why = BridgeUnavailable(f"cannot connect to the broker: {error}{hint}")
            if isinstance(refused, BrokerRefused):
                why = refused
            with self._lock:
                self._failed = (time.monotonic(), why) if self._exchanges == before else None
            raise type(why)(str(why)) from error
        self._failed = None
        with self._lock:
            self._open += 1
        return link

    def _discard(self, link: Link) -> None:
        with self._lock:
            self._open -= 1
        link.close()
