"""``marconi notify``: processes that deliver notifications and serve nobody."""

from __future__ import annotations

import gc
import logging
import signal
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

from gateway.config.consistency import check_settings
from gateway.config.machine import unknown_options
from gateway.config.options import all_opts
from gateway.config.refused import reason
from gateway.observe.logs import configure
from gateway.server.application import Application
from gateway.server.monitor import open_listener
from gateway.server.role import Role
from gateway.server.supervisor import Supervisor
from gateway.server.worker import ReadConfiguration

LOG = logging.getLogger(__name__)

#: Allocations between two looks for garbage, and how many of these make one at older and at all objects, ten times as
#: many as by default: a look at those of a thousand subscriptions takes a tenth of a second, in which all of them wait.
GARBAGE = 7000, 10, 10


def notify(conf: Any, processes: int = 1, read_again: ReadConfiguration | None = None) -> int:
    """Deliver until a signal ends it; the exit status.

    ``read_again``: what reads the configuration on SIGHUP; None: it stays as it is. Raises CannotServe or another of
    REFUSALS if the configuration is refused.
    """
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something that can handle it
    configure(conf)
    check_settings(conf)
    for unknown in unknown_options(conf, all_opts()):
        LOG.warning("%s", unknown)
    open_listener(conf)
    role = Role(name="notify", processes=processes, run=lambda conf: work(conf, read_again))
    return Supervisor(conf, [role], lambda new: build(new).close(), read_again).run()


def work(conf: Any, read_again: ReadConfiguration | None) -> None:
    """What each process does. Raises CannotServe if the configuration is refused."""
    came: SimpleQueue[int] = SimpleQueue()  # a signal handler may interrupt its put() with another
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: came.put(number))
    gc.set_threshold(*GARBAGE)
    server = SimpleNamespace(application=build(conf), draining=False)
    from gateway.server.monitor import serve_metrics

    serve_metrics(server)
    LOG.info("delivering notifications")
    while came.get() == signal.SIGHUP:
        if read_again is not None:
            _reload(server, read_again)
    server.draining = True
    server.application.close()
    LOG.info("stopped")


def _reload(server: Any, read_again: ReadConfiguration) -> None:
    """Go on with the configuration as it is now, or as before if that is refused."""
    refusal = None
    try:
        conf = read_again()
        application = build(conf)
        try:
            configure(conf)
        except BaseException:
            application.close()
            raise
        before, server.application = server.application, application
        before.close()
        LOG.info("delivering with the configuration as it is now")
    except Exception as error:
        refusal = reason(error)
    if refusal is not None:  # not inside the except: oslo.log would append the error once more
        LOG.error("the configuration is refused, going on with the one before: %s", refusal)


def build(conf: Any) -> Application:
    """See gateway.app.build, which a process imports when it has to deliver."""
    from gateway.app import build

    return build(conf, deliver=True)
