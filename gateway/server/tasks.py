"""What a thread does with one request: waitress' tasks, with the application's error bodies and kept connections."""

from __future__ import annotations

from waitress.task import ErrorTask, WSGITask

from gateway.environ import DRAINING
from gateway.observe.logs import new_request_id
from gateway.server.errors import ServiceUnavailable

#: Seconds after which a client may try again when all threads are busy.
RETRY_AFTER = 2


class ApplicationErrorTask(ErrorTask):
    """Answers a request that never reaches the application, with an error body in the application's format."""

    def execute(self) -> None:
        error = self.request.error
        body, media_type = self.channel.server.error_body(error.reason, error.body.strip() or error.reason)
        # The application answers 400 to a body that is too large, so the server does the same above its own limit.
        code = 400 if error.code == 413 else error.code
        self.status = f"{code} {'Bad Request' if code == 400 else error.reason}"
        self.response_headers += [
            ("Content-Type", media_type), ("X-Openstack-Request-Id", new_request_id()),
        ]
        self.content_length = len(body)
        if self.request.command == "HEAD":
            body = b""
        if isinstance(error, ServiceUnavailable):
            self.response_headers.append(("Retry-After", str(RETRY_AFTER)))
        # A request that is refused with 503 has been read completely, so the connection can be kept: a new one would
        # cost more.
        if not isinstance(error, ServiceUnavailable) or self.channel.server.draining:
            self.set_close_on_finish()
        self.write(body)


class Task(WSGITask):
    """Keeps the connection open after an answer without a body, where waitress would close it."""

    def set_close_on_finish(self) -> None:
        asked = self.version == "1.0" or self.request.headers.get("CONNECTION", "").lower() == "close"
        if asked or self.has_body or self.channel.server.draining:
            super().set_close_on_finish()

    def start(self) -> None:
        super().start()
        if self.channel.server.draining:
            super().set_close_on_finish()
            self.get_environment()[DRAINING] = True
