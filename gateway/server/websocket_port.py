"""``[websocket] bind``: a listener for WebSocket alone. Its connections are handed over, as those of the service are.

The socket is opened once, and each worker process accepts connections on it.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gateway.config.refused import CannotServe
from gateway.server.beside import serve_beside
from gateway.server.listening import listen, shown

if TYPE_CHECKING:
    import socket

LOG = logging.getLogger(__name__)

#: Threads that answer handshakes, and connections that are in one at the same time, in each worker.
THREADS = 4
MAX_HANDSHAKES = 256

#: The socket, if there is one; forked workers inherit it.
_listening: list[socket.socket] = []


def check(conf: Any) -> str:
    """Where it listens, for the operator. Raises ValueError if the options contradict each other."""
    options = conf.websocket
    for section in ("wsgi", "metrics"):
        if options.port == conf[section].port:
            raise ValueError(f"[websocket] port is that of [{section}], {options.port}: choose another")
    return f"on {options.bind} port {options.port}"


def open_port(conf: Any) -> None:
    """Listen as [websocket] says. Raises ValueError if options contradict each other, CannotServe if that fails."""
    options = conf.websocket
    if options.bind is None:
        return
    check(conf)
    try:
        _listening.append(listen(options.bind, options.port, conf.wsgi.reuse_port))
    except OSError as error:
        raise CannotServe(
            f"can't listen on {options.bind} port {options.port} for WebSocket: {error.strerror or error}"
        ) from error


def close_port() -> None:
    """Listen no more in this process."""
    while _listening:
        _listening.pop().close()


def serve_port(server: Any, wsgi: Any) -> None:
    """If there is a socket, answer on it with the WebSocket application of the server. ``wsgi``: the section [wsgi]."""
    options = SimpleNamespace(**{**wsgi, "threads": THREADS})
    for listener in _listening:
        serve_beside(
            "websocket", server, lambda *call: server.application.websocket(*call), listener, options, MAX_HANDSHAKES
        )
        LOG.info("WebSocket on %s", shown(listener).replace("http", "ws", 1))
