"""Serving until a signal, and an end that loses no request."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from gateway.server.application import Application
from gateway.server.listening import drop_new_connections
from gateway.server.loop import SWEEP_STEP, Listener

LOG = logging.getLogger(__name__)

#: Seconds between two looks at what is left to drain.
DRAIN_STEP = 0.05

#: Seconds that a draining worker still accepts connections whose handshake had begun: a round trip, and some more.
ACCEPT_GRACE = 0.25

#: Seconds that a draining worker waits for the next request on an idle connection, to tell the client to close it.
IDLE_GRACE = 2.0


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
        self.application.drain()
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
                for connection in list(listener.active_channels.values()):
                    if connection.idle:
                        connection.close_if_silent()
            if not (listener.accepting or listener.active_channels or listener.elsewhere):
                break
            listener.turn(DRAIN_STEP)
            now = time.monotonic()
