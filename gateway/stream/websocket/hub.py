"""All WebSocket connections of a process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from websockets.frames import CloseCode

from gateway.observe.metrics import WEBSOCKETS
from gateway.stream.loop import StreamLoop
from gateway.stream.websocket.connection import TRY_AGAIN, Connection
from gateway.stream.websocket.requests import Requests
from gateway.stream.websocket.session import Session
from gateway.stream.websocket.settings import WebSocketSettings

if TYPE_CHECKING:
    from gateway.stream.websocket.pushes import Pushes

#: Bytes that are read at once. They are parsed before the next connection is read.
READ = 64 * 1024

#: Most bytes that are kept for all connections: of requests that are not complete or wait, and of what clients don't
#: read.
MAX_HELD = 64 * 1024 * 1024

#: Seconds that connections have to end, and their subscriptions with them, when the process does.
ENDING = 5.0


class Hub:
    """Keeps what connections hold within limits, and ends them. Methods belong to the loop unless they say otherwise.

    ``pushes``: the subscriptions of connections.
    """

    def __init__(self, streams: StreamLoop, settings: WebSocketSettings, requests: Requests, pushes: Pushes):
        self.settings = settings
        self.buffer = memoryview(bytearray(READ))
        self._streams = streams
        self._requests = requests
        self._pushes = pushes
        self._connections: set[Connection] = set()
        #: How many there are, those on their way included.
        self._places = 0
        self._lock = threading.Lock()
        self._is_draining = False
        self._held = 0
        self._ended = threading.Event()
        self._ended.set()

    # -- any thread ---------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """May one more connection begin?"""
        return not self._is_draining and self._places < self.settings.max_connections

    def take(
        self, accepted: bytes, session: Session, sock: socket.socket, ahead: bytes, closed: Callable[[], None]
    ) -> None:
        """Serve a connection; ``accepted`` is the answer to its handshake, still to be sent.

        See gateway.server.suspending.Take for the last three.
        """
        with self._lock:
            self._places += 1
            self._ended.clear()

        def gone() -> None:
            closed()
            with self._lock:
                self._places -= 1
                if not self._places:
                    self._ended.set()

        connection = Connection(self, accepted, session, ahead, gone)
        self._streams.take(lambda: connection, sock, b"", gone)

    def drain(self) -> None:
        """End all connections, each after the answer under way. Does not block."""
        with self._lock:
            self._is_draining = True
        if not self._ended.is_set():
            self._streams.call(self._close_all)

    def close(self) -> None:
        """Wait for the end of all connections and of their subscriptions, ``ENDING`` seconds at most."""
        self.drain()
        self._ended.wait(ENDING)
        self._pushes.close(ENDING)

    # -- the loop -----------------------------------------------------------------------------------------------

    def _close_all(self) -> None:
        for connection in list(self._connections):
            self._say_goodbye(connection)

    @staticmethod
    def _say_goodbye(connection: Connection) -> None:
        connection.close_soon(CloseCode.SERVICE_RESTART, "The gateway is being restarted.")

    def join(self, connection: Connection) -> None:
        """A connection has begun."""
        self._connections.add(connection)
        WEBSOCKETS.set(len(self._connections))
        if self._is_draining:  # since its handshake
            self._say_goodbye(connection)

    def leave(self, connection: Connection, is_serving: bool) -> None:
        """A connection has ended. ``is_serving``: a request of it is under way; ``forget`` follows."""
        self._connections.discard(connection)
        WEBSOCKETS.set(len(self._connections))
        self.account(connection, 0)
        if not is_serving:
            self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """Nothing of a connection is left: end its subscriptions."""
        self._pushes.end(connection)

    def serve(self, session: Session, data: bytes, is_binary: bool) -> asyncio.Future[bytes]:
        """The answer to a request. Raises RuntimeError if the process ends."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._streams.hands, self._requests.serve, session, data, is_binary)

    def settle(self, connection: Connection) -> None:
        """A request has been answered: it may have subscribed the connection."""
        self._pushes.settle(connection)

    def push(self, connection: Connection) -> None:
        """Send notifications that wait for a connection."""
        self._pushes.push(connection)

    def account(self, connection: Connection, held: int) -> None:
        """A connection keeps ``held`` bytes now. If all of them keep too many, the one with most of them is closed."""
        self._held += held - connection.held
        connection.held = held
        if self._held > MAX_HELD and self._connections:
            largest = max(self._connections, key=lambda each: each.held)
            self._held -= largest.held
            largest.held = 0
            largest.cut(TRY_AGAIN, "The gateway keeps too much for its clients now; try again.")
