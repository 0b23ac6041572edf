"""``marconi serve``: the listening socket, and one process that serves on it or several."""

from __future__ import annotations

import logging
import signal
import socket
from functools import partial
from typing import Any

from gateway.access.exposure import check_exposure
from gateway.config.consistency import check_settings
from gateway.config.machine import check_trusted_proxy, unknown_options
from gateway.config.options import all_opts
from gateway.config.refused import CannotServe
from gateway.observe.logs import configure
from gateway.server.application import Application
from gateway.server.listening import listen, remove_file
from gateway.server.monitor import open_listener
from gateway.server.supervisor import Supervisor
from gateway.server.worker import Again, work

LOG = logging.getLogger(__name__)


def serve(conf: Any, again: Again | None = None) -> int:
    """Serve until a signal ends it; the exit status. ``again``: what reads the configuration once more on SIGHUP."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until somebody knows what to do with it
    configure(conf)
    check_settings(conf)
    check_trusted_proxy(conf.wsgi.trusted_proxy)
    for unknown in unknown_options(conf, all_opts()):
        LOG.warning("%s", unknown)
    check_exposure(conf)
    checked = None if again is None else partial(_read_again, again, conf.wsgi.bind)
    listener = _listen(conf.wsgi.bind, conf.wsgi.port, conf.wsgi.reuse_port, int(conf.wsgi.socket_mode, 8))
    open_listener(conf)
    try:
        if conf.wsgi.workers == 1:
            work(conf, listener, build, checked)
            return 0
        return Supervisor(conf, listener, build, checked).run()
    finally:
        if listener is not None and listener.fileno() >= 0:
            remove_file(listener)


def build(conf: Any) -> Application:
    """See gateway.app.build, which a process imports when it has to serve."""
    from gateway.app import build

    return build(conf)


def _read_again(again: Again, bind: str) -> Any:
    """``bind``: where the service has listened from its start."""
    conf = again()
    check_exposure(conf, bind)
    return conf


def _listen(host: str, port: int, reuse_port: bool = False, mode: int = 0o660) -> socket.socket:
    try:
        return listen(host, port, reuse_port, mode)
    except OSError as error:
        where = host if host.startswith("unix:") else f"{host} port {port}"
        raise CannotServe(f"can't listen on {where}: {error.strerror or error}") from error
