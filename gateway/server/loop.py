"""The main thread: waitress' server with a selector in place of its loop, and limits on what clients may hold."""

from __future__ import annotations

import heapq
import logging
import resource
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.proxy_headers import proxy_headers_middleware
from waitress.server import TcpWSGIServer

from gateway.observe.beside import beside
from gateway.server.application import WSGI, ErrorBody, text_error
from gateway.server.connection import ClientConnection
from gateway.server.parser import MAX_HEAD
from gateway.server.sockets import choose_sockets
from gateway.server.thread_pool import ThreadPool

LOG = logging.getLogger(__name__)

#: Most connections that one worker process keeps, without those that wait.
MAX_CONNECTIONS = 2000

#: Most requests that are suspended, and connections that have been handed over, in one worker process.
MAX_WAITING = 10_000

#: Most bytes that one worker process keeps of incomplete requests and of answers that clients don't take.
MAX_BUFFERED = 128 * 1024 * 1024

#: Part of MAX_BUFFERED: when so much has been received, the limits are checked at once. A path is kept twice, so up to
#: twice as much is added to what is kept between two checks.
RECEIVED_STEP = 1 / 16

#: Part of the connections that is closed when there are too many, so that not each new connection has to close one.
EVICTED_PART = 0.02

#: Seconds after which an idle connection is closed.
IDLE_TIMEOUT = 75

#: Seconds between two checks of the limits, and the longest time between two rounds of the main thread.
SWEEP_STEP = 0.5

#: Address of clients that connect to a Unix socket, as waitress has it.
LOCAL = "localhost"


class Listener(TcpWSGIServer):
    """Accepts connections, and keeps what they hold within limits."""

    channel_class = ClientConnection
    draining = False

    #: The events that the selector watches it for: EVENT_READ or 0.
    watched = 0

    #: Requests refused, and bytes received, since the last sweep.
    refused = 0
    received = 0

    def __init__(
        self,
        app: WSGI,
        listener: socket.socket,
        options: Any,
        max_body: int,
        max_connections: int | None = None,
        error_body: ErrorBody = text_error,
    ):
        self.error_body = error_body
        connections, self._max_waiting = _room_for_connections()
        self._max_connections = max_connections or connections
        #: Connections whose requests are suspended, and tokens of those that have been handed over.
        self.suspended: set[ClientConnection] = set()
        self.elsewhere: set[object] = set()
        self._max_queue_time = options.max_queue_time
        self._client_timeout = options.client_timeout
        self._next_sweep = 0.0
        self._selector = selectors.DefaultSelector()
        self._attended: deque[ClientConnection] = deque()
        self._resumed: deque[ClientConnection] = deque()
        #: How connections send and receive.
        self.sockets = choose_sockets(options.direct_syscalls)
        super().__init__(
            app,
            map={},
            _sock=listener,
            dispatcher=ThreadPool(options.threads, options.max_queued_requests),
            adj=_adjustments(options, max_body),
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )
        self._selector.register(self.trigger.socket.fd, selectors.EVENT_READ, self.trigger)

    def adopt(self, app: WSGI, options: Any, max_body: int) -> Callable[[], bool]:
        """Serve new requests with another application and other options, except ``threads`` and ``direct_syscalls``.

        Returns a function that tells whether requests that began before are still being served.
        """
        adjustments = _adjustments(options, max_body)
        self._max_queue_time = options.max_queue_time
        self._client_timeout = options.client_timeout
        self.task_dispatcher.allow(options.max_queued_requests)
        self.adj = adjustments
        for connection in list(self.active_channels.values()):
            connection.adj = adjustments
        self.application = proxy_headers_middleware(
            app,
            trusted_proxy=adjustments.trusted_proxy,
            trusted_proxy_count=adjustments.trusted_proxy_count,
            trusted_proxy_headers=adjustments.trusted_proxy_headers,
            clear_untrusted=adjustments.clear_untrusted_proxy_headers,
            log_untrusted=adjustments.log_untrusted_proxy_headers,
            logger=self.logger,
        )
        return self.task_dispatcher.in_progress()

    # A Unix socket has neither an address for each client nor the options of TCP.

    def getsockname(self) -> tuple[str, str]:
        if self.socket.family == socket.AF_UNIX:
            return "localhost", "0"
        host, port = super().getsockname()
        return host, port

    def set_socket_options(self, conn: socket.socket) -> None:
        if self.socket.family != socket.AF_UNIX:
            super().set_socket_options(conn)

    def fix_addr(self, addr: Any) -> Any:
        return (LOCAL, 0) if self.socket.family == socket.AF_UNIX else addr

    def watch(self, watched: Any, events: int) -> None:
        """Have the main thread told of these events of a connection or of the listener, and of no others."""
        if events == watched.watched:
            return
        if not events:
            self._selector.unregister(watched.socket)
        elif not watched.watched:
            self._selector.register(watched.socket, events, watched)
        else:
            self._selector.modify(watched.socket, events, watched)
        watched.watched = events

    def attend(self, connection: ClientConnection) -> None:
        """Have the main thread continue with a connection on which a thread has worked; the thread calls."""
        self._attended.append(connection)
        self.pull_trigger()

    def resume(self, connection: ClientConnection) -> None:
        """Have a thread go on with a suspended request; any thread may call."""
        self._resumed.append(connection)
        self.pull_trigger()

    @property
    def has_room_to_wait(self) -> bool:
        """May one more request be suspended, or one more connection handed over? Any thread may ask."""
        return len(self.suspended) + len(self.elsewhere) < self._max_waiting

    def turn(self, timeout: float) -> None:
        """One round of the main thread: wait up to ``timeout`` seconds, and handle what has happened.

        Connections are closed between the rounds: within one, a new one could get the file number of one that was
        closed, and then its events.
        """
        self.watch(self, selectors.EVENT_READ if self.readable() else 0)
        for key, events in self._selector.select(timeout):
            if isinstance(key.data, ClientConnection):
                self._handle(key.data, events)
            else:
                wasyncore.read(key.data)
        while self._attended:
            connection = self._attended.popleft()
            connection.parked = False
            if connection.is_given_away:
                connection.give_away()
            else:
                self._handle(connection, selectors.EVENT_WRITE)
        while self._resumed:
            connection = self._resumed.popleft()
            connection.since = time.monotonic()
            self.task_dispatcher.offer(connection, again=True)
        if len(self.active_channels) - len(self.suspended) >= self._max_connections:
            self._make_room()
        now = time.monotonic()
        if now >= self._next_sweep or self.received > MAX_BUFFERED * RECEIVED_STEP:
            self._next_sweep = now + SWEEP_STEP
            self.received = 0
            self._sweep(now)

    def _handle(self, connection: ClientConnection, events: int) -> None:
        """Read or write as a connection's events allow, and watch it for what comes next."""
        if events & selectors.EVENT_WRITE and connection.writable():
            wasyncore.write(connection)
        if events & selectors.EVENT_READ and connection.connected:
            if connection.readable():
                wasyncore.read(connection)
            elif connection.has_gone:
                connection.handle_close()
            elif connection.park():
                self.watch(connection, 0)
                return
        if connection.connected and not connection.parked:
            writing = connection.writable() and not connection.requests
            self.watch(connection, selectors.EVENT_WRITE if writing else selectors.EVENT_READ)

    def readable(self) -> bool:
        return self.accepting and len(self.active_channels) - len(self.suspended) < self._max_connections

    def handle_accept(self) -> None:
        # A round costs more the more connections there are, so it then has to accept more than one.
        for _ in range(1 + int(len(self.active_channels) * EVICTED_PART)):
            if not self._accept_one():
                break

    def _accept_one(self) -> bool:
        """Accept a connection; False if there is none."""
        before = len(self.active_channels)
        super().handle_accept()
        return len(self.active_channels) > before

    def _sweep(self, now: float) -> None:
        """Enforce the limits on times and on memory."""
        for connection in self.task_dispatcher.take_late(now - self._max_queue_time):
            connection.refuse("late", "The gateway was too busy to serve the request in time; try again.")
        if self.refused:
            LOG.warning("too many requests, or too slow ones: refused %d", self.refused)
            self.refused = 0
        buffered = 0
        for connection in list(self.active_channels.values()):
            waited = now - connection.since
            if connection.requests:
                continue
            if connection.idle:
                if waited > IDLE_TIMEOUT:
                    connection.close_if_silent()
            elif waited > self._client_timeout:
                if connection.request and not connection.total_outbufs_len:
                    connection.give_up()
                else:
                    connection.abort("slow_answer")
            else:
                buffered += connection.buffered
        if buffered > MAX_BUFFERED:
            self._free(buffered - MAX_BUFFERED)

    def _waiting(self) -> list[ClientConnection]:
        """The connections that wait for their client."""
        return [connection for connection in self.active_channels.values() if not connection.requests]

    def _make_room(self) -> None:
        """Close the connections that have waited longest for their client, except those with a request to read."""
        count = 1 + int(len(self.active_channels) * EVICTED_PART)
        for connection in heapq.nsmallest(count, self._waiting(), key=lambda connection: connection.since):
            if not (connection.idle and connection.unread):
                connection.abort("too_many")

    def _free(self, excess: int) -> None:
        """Close the connections with the oldest buffers until ``excess`` bytes are free."""
        for connection in sorted(self._waiting(), key=lambda connection: connection.since):
            if excess <= 0:
                break
            if connection.buffered:
                excess -= connection.buffered
                connection.abort("too_much")

    def stop(self) -> None:
        """Accept what has connected, and nothing more."""
        self.accepting = False
        while self._accept_one():
            pass
        self.watch(self, 0)
        self.del_channel()
        self.socket.close()


def _adjustments(options: Any, max_body: int) -> Adjustments:
    """waitress' options for those of [wsgi]."""
    trusted = {} if options.trusted_proxy is None else {
        "trusted_proxy": options.trusted_proxy,
        "trusted_proxy_count": options.trusted_proxy_count,
        "trusted_proxy_headers": "x-forwarded-for x-forwarded-proto",
    }
    return Adjustments(
        sockets=[],
        ident=None,
        max_request_header_size=MAX_HEAD,
        max_request_body_size=max_body + 1,  # waitress refuses what is as large as its limit
        # No temporary files: the limits here are about memory, and there may be no folder to write to.
        inbuf_overflow=sys.maxsize,
        outbuf_overflow=sys.maxsize,
        clear_untrusted_proxy_headers=True,
        **trusted,
    )


def _room_for_connections() -> tuple[int, int]:
    """MAX_CONNECTIONS and MAX_WAITING, or less if not so many files may be open.

    Half of those that are left by connections which wait is for databases, brokers and large bodies.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS + MAX_WAITING
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS, MAX_WAITING
    if soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with beside("more open files"):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    connections = min(MAX_CONNECTIONS, soft // 3)
    return connections, min(MAX_WAITING, soft - 2 * connections)
