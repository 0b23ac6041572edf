"""``[metrics] bind``: a listener of its own for what monitoring asks, so that the service's needs to show none of it.

The socket is opened once and each worker process answers on it, with threads that no client of the service can occupy:
whichever answers, metrics are those of all workers, and a worker that dies takes nothing along.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from types import SimpleNamespace
from typing import Any

from gateway.server.listening import listen, shown

LOG = logging.getLogger(__name__)

#: What a listener takes of [wsgi], and the most connections of a worker.
OPTIONS = SimpleNamespace(
    threads=2, max_queued_requests=16, max_queue_time=5.0, client_timeout=10.0, trusted_proxy=None,
    direct_syscalls=False,
)
MAX_CONNECTIONS = 64

#: Seconds between two tries when something goes wrong that must not.
PAUSE = 1.0

#: The socket, shared with the workers that this process becomes.
_listening: list[socket.socket] = []


def check(conf: Any) -> str:
    """Where metrics are, in words. Raises ValueError for what can't work."""
    options = conf.metrics
    if options.bind is None:
        return "at /metrics of the service, for whoever can reach it"
    if options.port == conf.wsgi.port:
        raise ValueError(f"[metrics] port is that of [wsgi], {options.port}: choose another")
    return f"on {options.bind} port {options.port}"


def open_listener(conf: Any) -> None:
    """Listen as [metrics] says. The service does without if that fails. Raises ValueError for what can't work."""
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
    """Answer on the socket, if there is one, in a thread, as the server's application says, until the server ends."""
    from gateway.server.loop import Listener  # not above: it imports prometheus_client, which must wait for serve()

    for listener in _listening:
        monitor = Listener(
            lambda *call: server.application.monitor(*call), listener, OPTIONS, 0, MAX_CONNECTIONS,
            server.application.error_body,
        )
        LOG.info("metrics on %s/metrics", shown(listener))
        threading.Thread(target=_run, args=(monitor, server), name="metrics", daemon=True).start()


def _run(monitor: Any, server: Any) -> None:
    from gateway.server.loop import SWEEP_STEP

    while True:
        try:
            monitor.turn(SWEEP_STEP)
            monitor.draining = server.draining
        except Exception:  # the service must not notice, and the next scrape may be fine
            LOG.exception("answering for metrics failed")
            time.sleep(PAUSE)
