"""One process that serves: from a configuration and a listening socket to the end; SIGHUP changes the configuration."""

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
from gateway.server.pinning import pin

if TYPE_CHECKING:  # imported when a worker starts: a supervisor has no need of it
    from gateway.server.loop import Server

LOG = logging.getLogger(__name__)

#: Reads the configuration from where it was read at the start. Raises CannotServe if it must not be served.
Again = Callable[[], Any]

#: Options of [wsgi] that count from the next start on.
AT_START = ("bind", "port", "socket_mode", "workers", "threads", "reuse_port", "pin_workers", "drain_timeout")

#: Seconds that requests get that began under the configuration before, and between two looks at them.
LEFT = 60.0
LOOK = 0.05


def work(
    conf: Any,
    listener: socket.socket,
    build: Build,
    again: Again | None,
    alone: bool = True,
) -> None:
    """Serve until a signal ends it. Raises CannotServe if the configuration is refused.

    ``alone``: no other process has the listener.
    """
    reloader = Reloader(build, again or (lambda: conf))
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, frame: reloader.ask())
    if conf.wsgi.pin_workers:
        pin()
    application = build(conf)
    from gateway.server.loop import Server
    from gateway.server.monitor import serve_metrics

    server = Server(application, listener, conf.wsgi)
    serve_metrics(server)
    reloader.start(conf, application, server)
    LOG.info("serving on %s", shown(listener))
    server.run(conf.wsgi.drain_timeout, alone=alone)
    reloader.application.close()
    LOG.info("stopped")


class Reloader:
    """Puts another configuration in place of the present one, which stays if the other is refused.

    Requests in progress end with what they began with. Connections of clients are kept.
    """

    application: Application

    def __init__(self, build: Build, again: Again):
        self._build = build
        self._again = again
        #: Its put() may interrupt itself, which a signal handler needs.
        self._asked: SimpleQueue[bool] = SimpleQueue()

    def ask(self) -> None:
        """Have it done, by a thread of its own; a signal handler calls."""
        self._asked.put(True)

    def start(self, conf: Any, application: Application, server: Server) -> None:
        """From now on do what was asked for, and is."""
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
            gc.collect()  # the application that is not needed refers to itself, and may have files open

    def reload(self) -> None:
        """Raises what is wrong with the new configuration."""
        conf = self._again()
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
        deadline = time.monotonic() + LEFT
        while left() and time.monotonic() < deadline:
            time.sleep(LOOK)
        application_before.close()
