"""``[metrics] bind``: a listener for monitoring, so that the one of the service need not show metrics.

The socket is opened once, and each worker process answers on it, with threads that no client of the service can occupy.
Whichever worker answers, the metrics are those of all workers, and those of a worker that has died are kept.
"""

from __future__ import annotations

import logging
import socket
from types import SimpleNamespace
from typing import Any

from gateway.server.beside import serve_beside
from gateway.server.listening import listen, shown

LOG = logging.getLogger(__name__)

#: In place of the options of [wsgi], and the most connections of a worker.
OPTIONS = SimpleNamespace(
    threads=2, max_queued_requests=16, max_queue_time=5.0, client_timeout=10.0, trusted_proxy=None,
    direct_syscalls=False,
)
MAX_CONNECTIONS = 64

#: The socket, if there is one; forked workers inherit it.
_listening: list[socket.socket] = []


def check(conf: Any) -> str:
    """Where metrics are, for the operator. Raises ValueError if the options contradict each other."""
    options = conf.metrics
    if options.bind is None:
        return "at /metrics of the service, for whoever can reach it"
    if options.port == conf.wsgi.port:
        raise ValueError(f"[metrics] port is that of [wsgi], {options.port}: choose another")
    return f"on {options.bind} port {options.port}"


def open_listener(conf: Any) -> None:
    """Listen as [metrics] says; if that fails, the service starts without.

    Raises ValueError if the options contradict each other.
    """
    check(conf)
    options = conf.metrics
    if options.bind is None:
        return
    try:
        _listening.append(listen(options.bind, options.port, conf.wsgi.reuse_port))
    except OSError as error:
        LOG.error(
            "no metrics: can't listen on %s port %d: %s", options.bind, options.port, error.strerror or error
        )


def serve_metrics(server: Any) -> None:
    """If there is a socket, answer on it in a thread with the monitoring application of the server, until that ends."""
    for listener in _listening:
        serve_beside(
            "metrics", server, lambda *call: server.application.monitor(*call), listener, OPTIONS, MAX_CONNECTIONS
        )
        LOG.info("metrics on %s/metrics", shown(listener))
