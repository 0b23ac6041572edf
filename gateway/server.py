"""waitress, with what the gateway needs besides: JSON errors, kept connections, an end that drains."""

from __future__ import annotations

import signal
import socket
import time
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask, WSGITask

from gateway.api.errors import error_body
from gateway.logs import new_request_id

#: Bytes of a request's start line and headers at the most.
MAX_HEADER = 64 * 1024

#: Connections that one worker process keeps at the most.
MAX_CONNECTIONS = 2000

#: Seconds after which a connection is closed on which nothing happens.
IDLE_TIMEOUT = 75

#: Seconds between two looks at what is left to drain.
DRAIN_STEP = 0.05


class JSONErrorTask(ErrorTask):
    """waitress answers by itself what it can't parse; the gateway's errors are JSON all the same."""

    def execute(self) -> None:
        error = self.request.error
        body = error_body(error.reason, error.body.strip() or error.reason)
        # A body that is too large is a bad request to clients of this API, as it is below waitress' own limit.
        code = 400 if error.code == 413 else error.code
        self.status = f"{code} {'Bad Request' if code == 400 else error.reason}"
        self.response_headers += [
            ("Content-Type", "application/json"), ("X-Openstack-Request-Id", new_request_id()),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Task(WSGITask):
    """Keeps the connection open behind an answer without a body, where waitress would close it."""

    def set_close_on_finish(self) -> None:
        asked = self.version == "1.0" or self.request.headers.get("CONNECTION", "").lower() == "close"
        if asked or self.has_body or self.channel.server.draining:
            super().set_close_on_finish()

    def start(self) -> None:
        super().start()
        if self.channel.server.draining:
            super().set_close_on_finish()


class Channel(HTTPChannel):
    """A client's connection."""

    task_class = Task
    error_task_class = JSONErrorTask

    def busy(self) -> bool:
        """Is there a request in progress, or an answer on its way?"""
        return bool(self.requests or self.request or self.total_outbufs_len)


class Server:
    """Serves a WSGI application on a listening socket until a signal ends it."""

    def __init__(self, app: Any, listener: socket.socket, threads: int, max_body: int):
        self._server = create_server(
            app,
            sockets=[listener],
            threads=threads,
            ident=None,
            connection_limit=MAX_CONNECTIONS,
            channel_timeout=IDLE_TIMEOUT,
            max_request_header_size=MAX_HEADER,
            max_request_body_size=max_body + 1,  # waitress refuses what is as large as its limit
            asyncore_use_poll=True,
            # The thread that has made an answer sends it, instead of waking the main thread for that.
            send_bytes=1,
        )
        self._server.channel_class = Channel
        self._server.draining = False

    def run(self, drain_timeout: float) -> None:
        """Serve until SIGTERM or SIGINT, then finish the requests in progress, ``drain_timeout`` seconds at most."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        server = self._server
        while not server.draining:
            wasyncore.loop(timeout=1.0, use_poll=True, map=server._map, count=1)
        server.del_channel()
        server.socket.close()  # whoever connects now reaches another worker, or is refused at once
        deadline = time.monotonic() + drain_timeout
        while server.active_channels and time.monotonic() < deadline:
            for channel in list(server.active_channels.values()):
                if not channel.busy():
                    channel.will_close = True
            wasyncore.loop(timeout=DRAIN_STEP, use_poll=True, map=server._map, count=1)
        server.task_dispatcher.shutdown(timeout=0)

    def _stop(self, number: int, frame: Any) -> None:
        self._server.draining = True
        self._server.pull_trigger()
