"""A process that serves HTTP, from its configuration and listening socket to its end; SIGHUP has it read the former."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from gateway.config.refused import reason
from gateway.observe.logs import configure
from gateway.server.application import Application, Build
from gateway.server.listening import shown
from gateway.server.pinning import pin_process

if TYPE_CHECKING:  # imported when a worker starts: a supervisor does not need it
    from gateway.server.serving import Server

LOG = logging.getLogger(__name__)

#: Reads the configuration from where it was read at the start. Raises CannotServe if it must not be served.
ReadConfiguration = Callable[[], Any]

#: Options of [wsgi] that are read at the start only.
AT_START = (
    "bind", "port", "socket_mode", "workers", "threads", "reuse_port", "pin_workers", "direct_syscalls",
    "drain_timeout",
)

#: Seconds that requests get to end that began under the configuration before, and between two looks at them.
OLD_REQUESTS_TIMEOUT = 60.0
OLD_REQUESTS_STEP = 0.05


def work(
    conf: Any,
    listener: socket.socket,
    build: Build,
    read_again: ReadConfiguration | None,
    alone: bool = True,
) -> None:
    """Serve until a signal ends it. Raises CannotServe if the configuration is refused.

    ``alone``: no other process has the listener.
    """
    reloader = Reloader(build, read_again or (lambda: conf))
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, frame: reloader.ask())
    if conf.wsgi.pin_workers:
        pin_process()
    application = build(conf)
    from gateway.server.monitor import serve_metrics
    from gateway.server.serving import Server
    from gateway.server.websocket_port import serve_port

    server = Server(application, listener, conf.wsgi)
    serve_metrics(server)
    serve_port(server, conf.wsgi)
    reloader.start(conf, application, server)
    LOG.info("serving on %s", shown(listener))
    server.run(conf.wsgi.drain_timeout, alone=alone)
    reloader.application.close()
    LOG.info("stopped")


class Reloader:
    """Replaces the configuration; the present one stays if the new one is refused.

    Requests in progress end under the configuration they began with. Clients keep their connections.
    """

    application: Application

    def __init__(self, build: Build, read_again: ReadConfiguration):
        self._build = build
        self._read_again = read_again
        #: A SimpleQueue, as a signal handler may interrupt its put() with another.
        self._asked: SimpleQueue[bool] = SimpleQueue()

    def ask(self) -> None:
        """Have a thread reload the configuration; a signal handler may call."""
        self._asked.put(True)

    def start(self, conf: Any, application: Application, server: Server) -> None:
        """Start the thread, which first does what was asked for already."""
        self._conf = conf
        self.application = application
        self._server = server
        threading.Thread(target=self._run, name="reload", daemon=True).start()

    def _run(self) -> None:
        while self._asked.get():
            while not self._asked.empty():
                self._asked.get()
            refusal = None
            try:
                self.reload()
            except Exception as error:
                refusal = reason(error)
            if refusal is not None:  # not inside the except: oslo.log would append the error once more
                LOG.error("the configuration is refused, going on with the one before: %s", refusal)
            gc.collect()  # the old application refers to itself, and may have files open

    def reload(self) -> None:
        """Read the configuration and serve with it. Raises what is wrong with it."""
        conf = self._read_again()
        application = self._build(conf)
        try:
            configure(conf)
        except BaseException:
            configure(self._conf)
            application.close()
            raise
        before, application_before = self._conf, self.application
        self._conf, self.application = conf, application
        left = self._server.adopt(application, conf.wsgi)
        LOG.info("serving with the configuration as it is now")
        if changed := [name for name in AT_START if conf.wsgi[name] != before.wsgi[name]]:
            LOG.warning("a restart is needed for changes of [wsgi] %s", ", ".join(changed))
        application_before.drain()
        deadline = time.monotonic() + OLD_REQUESTS_TIMEOUT
        while left() and time.monotonic() < deadline:
            time.sleep(OLD_REQUESTS_STEP)
        application_before.close()
