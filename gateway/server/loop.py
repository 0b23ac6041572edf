"""waitress, with what the gateway needs besides: limits on what clients may hold, and an end that loses no request."""

from __future__ import annotations

import heapq
import logging
import resource
import selectors
import signal
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
from gateway.server.application import WSGI, Application, ErrorBody, plain
from gateway.server.connection import Channel
from gateway.server.listening import drop_new_connections
from gateway.server.parser import MAX_HEAD
from gateway.server.sockets import Receiver
from gateway.server.threads import Dispatcher

LOG = logging.getLogger(__name__)

#: Connections that one worker process keeps at the most.
MAX_CONNECTIONS = 2000

#: Bytes that one worker process keeps of incomplete requests and of answers that clients don't take.
MAX_BUFFERED = 128 * 1024 * 1024

#: Part of that after whose receipt the connections are looked at, however short the time.
RECEIVED_STEP = 0.125

#: Part of the connections that is closed when there are too many: so many that it is not done for each newcomer.
EVICTED = 0.02

#: Seconds after which a connection is closed on which nothing happens.
IDLE_TIMEOUT = 75

#: Seconds between two looks at the connections, and at the longest between two rounds of the main thread.
SWEEP_STEP = 0.5

#: Seconds between two looks at what is left to drain.
DRAIN_STEP = 0.05

#: Seconds that a draining worker still accepts connections whose handshake had begun: a round trip, and some more.
ACCEPT_GRACE = 0.25

#: Seconds that a draining worker waits for the next request on an idle connection, to tell the client to close it.
IDLE_GRACE = 2.0


#: Address of clients that connect to a Unix socket, as waitress has it.
LOCAL = "localhost"


class Listener(TcpWSGIServer):
    """Accepts connections, and keeps what they hold within limits."""

    channel_class = Channel
    draining = False

    #: For what the selector watches it: EVENT_READ or nothing.
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
        error_body: ErrorBody = plain,
    ):
        self.error_body = error_body
        self._max_connections = max_connections or _max_connections()
        self._max_queue_time = options.max_queue_time
        self._client_timeout = options.client_timeout
        self._next_sweep = 0.0
        self._selector = selectors.DefaultSelector()
        self._attended: deque[Channel] = deque()
        #: For the channels' use in the main thread.
        self.receiver = Receiver()
        super().__init__(
            app,
            map={},
            _sock=listener,
            dispatcher=Dispatcher(options.threads, options.max_queued_requests),
            adj=_adjustments(options, max_body),
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )
        self._selector.register(self.trigger.socket.fd, selectors.EVENT_READ, self.trigger)

    def adopt(self, app: WSGI, options: Any, max_body: int) -> Callable[[], bool]:
        """Serve the requests that come from now on with another application and other options, but for ``threads``.

        Returns what tells whether requests are left that began before.
        """
        adjustments = _adjustments(options, max_body)
        self._max_queue_time = options.max_queue_time
        self._client_timeout = options.client_timeout
        self.task_dispatcher.allow(options.max_queued_requests)
        self.adj = adjustments
        for channel in list(self.active_channels.values()):
            channel.adj = adjustments
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
        """Have the main thread told of a channel's events, or of the listener's, in place of those it was told of."""
        if events == watched.watched:
            return
        if not events:
            self._selector.unregister(watched.socket)
        elif not watched.watched:
            self._selector.register(watched.socket, events, watched)
        else:
            self._selector.modify(watched.socket, events, watched)
        watched.watched = events

    def attend(self, channel: Channel) -> None:
        """Have the main thread look after a channel on which a thread has worked; the thread calls."""
        self._attended.append(channel)
        self.pull_trigger()

    def turn(self, timeout: float) -> None:
        """One round of the main thread: wait ``timeout`` seconds at the most, and handle what has happened.

        Connections are closed between the rounds: within one, a new one could get the file number of one that was
        closed, and then its events.
        """
        self.watch(self, selectors.EVENT_READ if self.readable() else 0)
        for key, events in self._selector.select(timeout):
            if isinstance(key.data, Channel):
                self._handle(key.data, events)
            else:
                wasyncore.read(key.data)
        while self._attended:
            channel = self._attended.popleft()
            channel.parked = False
            self._handle(channel, selectors.EVENT_WRITE)
        if len(self.active_channels) >= self._max_connections:
            self._make_room()
        now = time.monotonic()
        if now >= self._next_sweep or self.received > MAX_BUFFERED * RECEIVED_STEP:
            self._next_sweep = now + SWEEP_STEP
            self.received = 0
            self._sweep(now)

    def _handle(self, channel: Channel, events: int) -> None:
        """Do what a channel's events allow, and watch it for what comes next."""
        if events & selectors.EVENT_WRITE and channel.writable():
            wasyncore.write(channel)
        if events & selectors.EVENT_READ and channel.connected:
            if channel.readable():
                wasyncore.read(channel)
            elif channel.park():
                self.watch(channel, 0)
                return
        if channel.connected and not channel.parked:
            writing = channel.writable() and not channel.requests
            self.watch(channel, selectors.EVENT_WRITE if writing else selectors.EVENT_READ)

    def readable(self) -> bool:
        return self.accepting and len(self.active_channels) < self._max_connections

    def handle_accept(self) -> None:
        # A round costs more the more connections there are, so it then has to accept more than one.
        for _ in range(1 + int(len(self.active_channels) * EVICTED)):
            if not self._accept_one():
                break

    def _accept_one(self) -> bool:
        """Accept a connection; False if there is none."""
        before = len(self.active_channels)
        super().handle_accept()
        return len(self.active_channels) > before

    def _sweep(self, now: float) -> None:
        """Enforce the limits on times and on memory."""
        for channel in self.task_dispatcher.take_late(now - self._max_queue_time):
            channel.refuse("late", "The gateway was too busy to serve the request in time; try again.")
        if self.refused:
            LOG.warning("too many requests, or too slow ones: refused %d", self.refused)
            self.refused = 0
        buffered = 0
        for channel in list(self.active_channels.values()):
            waited = now - channel.since
            if channel.requests:
                continue
            if channel.idle:
                if waited > IDLE_TIMEOUT:
                    channel.close_if_silent()
            elif waited > self._client_timeout:
                if channel.request and not channel.total_outbufs_len:
                    channel.give_up()
                else:
                    channel.abort("slow_answer")
            else:
                buffered += channel.buffered
        if buffered > MAX_BUFFERED:
            self._free(buffered - MAX_BUFFERED)

    def _waiting(self) -> list[Channel]:
        """The connections on which a client is awaited."""
        return [channel for channel in self.active_channels.values() if not channel.requests]

    def _make_room(self) -> None:
        """Close the connections on which a client has been awaited longest, but for those with a request to read."""
        count = 1 + int(len(self.active_channels) * EVICTED)
        for channel in heapq.nsmallest(count, self._waiting(), key=lambda channel: channel.since):
            if not (channel.idle and channel.unread):
                channel.abort("too_many")

    def _free(self, excess: int) -> None:
        """Close the connections with the oldest buffers until ``excess`` bytes are free."""
        for channel in sorted(self._waiting(), key=lambda channel: channel.since):
            if excess <= 0:
                break
            if channel.buffered:
                excess -= channel.buffered
                channel.abort("too_much")

    def stop(self) -> None:
        """Accept what has connected, and nothing more."""
        self.accepting = False
        while self._accept_one():
            pass
        self.watch(self, 0)
        self.del_channel()
        self.socket.close()


class Server:
    """Serves an application on a listening socket until a signal ends it."""

    def __init__(self, application: Application, listener: socket.socket, options: Any):
        """``options``: the section [wsgi]."""
        self.application = application
        self._listener = Listener(
            application.app, listener, options, application.max_body, error_body=application.error_body
        )

    @property
    def draining(self) -> bool:
        """Is it about to end?"""
        return self._listener.draining

    def adopt(self, application: Application, options: Any) -> Callable[[], bool]:
        """See Listener.adopt; any thread may call."""
        self.application = application
        return self._listener.adopt(application.app, options, application.max_body)

    def run(self, drain_timeout: float, alone: bool = True) -> None:
        """Serve until SIGTERM or SIGINT, then finish the requests in progress, ``drain_timeout`` seconds at most.

        ``alone``: no other process has the listening socket, so nobody may connect after the signal.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        while not self._listener.draining:
            self._listener.turn(SWEEP_STEP)
        LOG.info("stopping: %d connections are left", len(self._listener.active_channels))
        if alone:
            drop_new_connections(self._listener.socket)
        self._drain(drain_timeout)
        self._listener.task_dispatcher.shutdown(timeout=0)

    def _end(self, number: int, frame: Any) -> None:
        self._listener.draining = True
        self._listener.pull_trigger()

    def _drain(self, timeout: float) -> None:
        """Serve those who have connected: a connection closed under a request is a request that fails."""
        listener = self._listener
        start = now = time.monotonic()
        while now < start + timeout:
            if listener.accepting and now >= start + ACCEPT_GRACE:
                listener.stop()
            if now >= start + IDLE_GRACE:
                for channel in list(listener.active_channels.values()):
                    if channel.idle:
                        channel.close_if_silent()
            if not (listener.accepting or listener.active_channels):
                break
            listener.turn(DRAIN_STEP)
            now = time.monotonic()


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


def _max_connections() -> int:
    """MAX_CONNECTIONS, or half of the files that may be open: databases, brokers and large bodies need some too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with beside("more open files"):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
        return soft // 2
    return MAX_CONNECTIONS
