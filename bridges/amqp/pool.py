"""A bounded pool of connections with strict check-out, whose idle ones are kept alive."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from bridges.amqp.connection import OPEN_ERRORS, Connection
from bridges.amqp.refusals import CONNECTION_ERRORS, refusal
from bridges.errors import BridgeUnavailable, BrokerRefused

C = TypeVar("C", bound=Connection)

#: After a failed attempt to connect, calls fail with the same error for this many seconds, without an attempt of their
#: own.
FAIL_FAST = 0.2

#: An attempt to connect that times out says something about the broker only if it had at least this share of the
#: timeout.
TELLING = 0.5


class Pool(Generic[C]):
    """Up to ``size`` connections; the one used last goes out first, so that surplus ones idle.

    One that the broker blocks goes out before all others: it knows when that is over. Thread-safe.
    """

    def __init__(self, connect: Callable[[float], C], size: int, timeout: float):
        """``connect`` opens a connection, and gets a deadline (monotonic seconds) for that.

        ``timeout``: seconds from take to put, if take is given no deadline.
        """
        self._connect = connect
        self._timeout = timeout
        self._free = threading.Semaphore(size)
        self._idle: list[C] = []
        self._open = 0
        self._lock = threading.Lock()
        self._closed = False
        self._failed: tuple[float, BridgeUnavailable] | None = None
        #: How many exchanges have succeeded. While this rises, the broker is up, even if one connection has failed.
        self._exchanges = 0
        self._trial = threading.Lock()

    @property
    def open(self) -> int:
        """Number of connections that are open now."""
        return self._open

    def take(self, deadline: float | None = None) -> C:
        """A connection that was alive a moment ago. Raises BridgeUnavailable; end it with put or drop.

        The wait for it, its opening, and what is then done with it all end at ``deadline`` (monotonic seconds).
        """
        now = time.monotonic()
        if deadline is None:
            deadline = now + self._timeout
        if not self._free.acquire(timeout=max(0.0, deadline - now)):
            raise BridgeUnavailable("all connections to the broker have been busy for too long")
        try:
            while (connection := self._pop()) is not None:
                try:
                    connection.check()
                except CONNECTION_ERRORS:
                    self._discard(connection)
                else:
                    connection.until = deadline
                    return connection
            return self._new(deadline)
        except BaseException:
            self._free.release()
            raise

    def put(self, connection: C) -> None:
        """Give back a connection that is in good order, or that the broker has closed to refuse something."""
        connection.until = None
        with self._lock:
            self._exchanges += 1
            self._failed = None
            if not self._closed and connection.is_open:
                self._idle.append(connection)
                connection = None  # type: ignore[assignment]
        if connection is not None:
            self._discard(connection)
        self._free.release()

    def drop(self, connection: C) -> None:
        """Give back a connection that is broken, or may be."""
        self._discard(connection)
        self._free.release()

    @contextmanager
    def lent(self, deadline: float | None = None) -> Iterator[C]:
        """A connection for one exchange, as from take; dropped when the exchange fails."""
        connection = self.take(deadline)
        try:
            yield connection
        except BaseException:
            self.drop(connection)
            raise
        self.put(connection)

    def tick(self) -> None:
        """Send and take heartbeats on the idle connections; drop dead ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            # While it is ticked a connection is in nobody's list, so no thread can take it.
            try:
                connection.tick()
            except CONNECTION_ERRORS:
                self._discard(connection)
                continue
            with self._lock:
                self._idle.insert(0, connection)

    def close(self) -> None:
        """Close idle connections now and the others as they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            self._discard(connection)

    def _pop(self) -> C | None:
        with self._lock:
            for place, connection in enumerate(self._idle):
                if connection.blocked:
                    return self._idle.pop(place)
            return self._idle.pop() if self._idle else None

    def _new(self, deadline: float) -> C:
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

    def _try(self, deadline: float) -> C:
        before = self._exchanges
        left = deadline - time.monotonic()
        if left <= 0:
            raise BridgeUnavailable("all connections to the broker have been busy for too long")
        try:
            connection = self._connect(deadline)
        except OPEN_ERRORS as error:
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
        return connection

    def _discard(self, connection: C) -> None:
        with self._lock:
            self._open -= 1
        connection.close()
