"""``marconi serve``: opens the listening socket, and serves on it with one process or several."""

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
from gateway.server.listening import drop_new_connections, listen, remove_file
from gateway.server.monitor import open_listener
from gateway.server.role import Role
from gateway.server.supervisor import Supervisor
from gateway.server.websocket_port import close_port, open_port
from gateway.server.worker import ReadConfiguration, work

LOG = logging.getLogger(__name__)


def serve(conf: Any, read_again: ReadConfiguration | None = None) -> int:
    """Serve until a signal ends it; the exit status.

    ``read_again``: what reads the configuration on SIGHUP; None: it stays as it is. Raises CannotServe or another of
    REFUSALS if the configuration is refused.
    """
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something that can handle it
    configure(conf)
    check_settings(conf)
    check_trusted_proxy(conf.wsgi.trusted_proxy)
    for unknown in unknown_options(conf, all_opts()):
        LOG.warning("%s", unknown)
    check_exposure(conf)
    checked = None if read_again is None else partial(_read_again, read_again, conf.wsgi.bind)
    listener = _listen(conf.wsgi.bind, conf.wsgi.port, conf.wsgi.reuse_port, int(conf.wsgi.socket_mode, 8))
    open_listener(conf)
    open_port(conf)
    try:
        if conf.wsgi.workers == 1:
            work(conf, listener, build, checked)
            return 0
        return Supervisor(conf, [_web(conf, listener, checked)], lambda new: build(new).close(), checked).run()
    finally:
        if listener is not None and listener.fileno() >= 0:
            remove_file(listener)


def _web(conf: Any, listener: socket.socket, read_again: ReadConfiguration | None) -> Role:
    """The role that serves HTTP: several workers on one listening socket."""

    def stop_listening() -> None:
        drop_new_connections(listener)
        listener.close()
        close_port()

    return Role(
        name="web",
        processes=conf.wsgi.workers,
        run=lambda conf: work(conf, listener, build, read_again, alone=False),
        before_stop=stop_listening,
        after_supervisor_died=lambda: remove_file(listener),
    )


def build(conf: Any) -> Application:
    """See gateway.app.build, which a process imports when it has to serve."""
    from gateway.app import build

    return build(conf)


def _read_again(read_again: ReadConfiguration, bind: str) -> Any:
    """``bind``: where the service has listened since its start. Raises CannotServe if it must not listen there."""
    conf = read_again()
    check_exposure(conf, bind)
    return conf


def _listen(host: str, port: int, reuse_port: bool = False, mode: int = 0o660) -> socket.socket:
    try:
        return listen(host, port, reuse_port, mode)
    except OSError as error:
        where = host if host.startswith("unix:") else f"{host} port {port}"
        raise CannotServe(f"can't listen on {where}: {error.strerror or error}") from error
