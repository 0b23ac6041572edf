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

from gateway.affinity import pin
from gateway.exposure import check_exposure
from gateway.listening import shown
from gateway.logs import configure
from gateway.refused import REFUSALS, CannotServe, reason

if TYPE_CHECKING:  # imported when a worker starts: a supervisor has no need of it
    from gateway.core.core import Core
    from gateway.dispatch import App
    from gateway.server import Server

LOG = logging.getLogger(__name__)

#: Reads the configuration from where it was read at the start.
Again = Callable[[], Any]

#: Options of [wsgi] that count from the next start on.
AT_START = ("bind", "port", "socket_mode", "workers", "threads", "reuse_port", "pin_workers", "drain_timeout")

#: Seconds that requests get that began under the configuration before, and between two looks at them.
LEFT = 60.0
LOOK = 0.05


def build(conf: Any) -> tuple[Core, App]:
    """All that a configuration decides. Raises CannotServe if it is refused."""
    try:
        return _build(conf)
    except REFUSALS as error:
        refusal = reason(error)
    # Not inside the except: a traceback would show what the reason leaves out.
    raise CannotServe(refusal)


def _build(conf: Any) -> tuple[Core, App]:
    from gateway.app import make_app, make_core

    core = make_core(conf)
    try:
        return core, make_app(conf, core)
    except BaseException:
        core.close()
        raise


def work(
    conf: Any, listener: socket.socket, again: Again | None, bind: str | None = None, alone: bool = True
) -> None:
    """Serve until a signal ends it. Raises CannotServe if the configuration is refused.

    ``bind``: where the listener listens, if not where ``conf`` says. ``alone``: no other process has it.
    """
    reloader = Reloader(again or (lambda: conf), bind or conf.wsgi.bind)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, frame: reloader.ask())
    if conf.wsgi.pin_workers:
        pin()
    core, app = build(conf)
    from gateway.app import max_body
    from gateway.monitor import serve_metrics
    from gateway.server import Server

    server = Server(app, listener, conf.wsgi, max_body(conf))
    serve_metrics(server)
    reloader.start(conf, core, server)
    LOG.info("serving on %s", shown(listener))
    server.run(conf.wsgi.drain_timeout, alone=alone)
    reloader.core.close()
    LOG.info("stopped")


class Reloader:
    """Puts another configuration in place of the present one, which stays if the other is refused.

    Requests in progress end with what they began with. Connections of clients are kept.
    """

    core: Core

    def __init__(self, again: Again, bind: str):
        self._again = again
        self._bind = bind
        #: Its put() may interrupt itself, which a signal handler needs.
        self._asked: SimpleQueue[bool] = SimpleQueue()

    def ask(self) -> None:
        """Have it done, by a thread of its own; a signal handler calls."""
        self._asked.put(True)

    def start(self, conf: Any, core: Core, server: Server) -> None:
        """From now on do what was asked for, and is."""
        self._conf = conf
        self.core = core
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
        from gateway.app import max_body

        conf = self._again()
        check_exposure(conf, self._bind)
        core, app = build(conf)
        try:
            configure(conf)
        except BaseException:
            configure(self._conf)
            core.close()
            raise
        before, core_before = self._conf, self.core
        self._conf, self.core = conf, core
        left = self._server.adopt(app, conf.wsgi, max_body(conf))
        LOG.info("serving with the configuration as it is now")
        if changed := [name for name in AT_START if conf.wsgi[name] != before.wsgi[name]]:
            LOG.warning("a restart is needed for changes of [wsgi] %s", ", ".join(changed))
        deadline = time.monotonic() + LEFT
        while left() and time.monotonic() < deadline:
            time.sleep(LOOK)
        core_before.close()
