"""Listeners beside that of the service, in each worker, with threads of their own: for metrics and for WebSocket."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

from gateway.server.application import WSGI

LOG = logging.getLogger(__name__)

#: Seconds between two rounds if one has failed unexpectedly.
PAUSE = 1.0


def serve_beside(
    name: str, server: Any, app: WSGI, listener: socket.socket, options: Any, max_connections: int
) -> None:
    """Answer on a socket in a thread of that name, until the process ends.

    ``options``: in place of the section [wsgi]. Whoever connects while ``server`` drains is told so.
    """
    from gateway.server.loop import Listener  # not above: it imports prometheus_client, which must wait for serve()

    beside = Listener(app, listener, options, 0, max_connections, server.application.error_body)
    threading.Thread(target=_run, args=(beside, server), name=name, daemon=True).start()


def _run(beside: Any, server: Any) -> None:
    from gateway.server.loop import SWEEP_STEP

    while True:
        try:
            beside.turn(SWEEP_STEP)
            beside.draining = server.draining
        except Exception:  # the service must not notice, and the next request may be fine
            LOG.exception("answering on another listener failed")
            time.sleep(PAUSE)
