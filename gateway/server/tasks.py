"""What a thread does with one request: waitress' tasks, with the application's error bodies and kept connections."""

from __future__ import annotations

from typing import Any

from waitress.task import ErrorTask, WSGITask

from gateway.environ import DRAINING, HAND_OVER, SUSPEND
from gateway.observe.logs import new_request_id
from gateway.server.errors import ServiceUnavailable
from gateway.server.suspending import Suspension

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
    """Keeps the connection open after an answer without a body, where waitress would close it.

    An application that has suspended its request, or had the connection handed over, gives no answer.
    """

    def set_close_on_finish(self) -> None:
        asked = self.version == "1.0" or self.request.headers.get("CONNECTION", "").lower() == "close"
        if asked or self.has_body or self.channel.server.draining:
            super().set_close_on_finish()

    def start(self) -> None:
        super().start()
        environ: dict[str, Any] = self.get_environment()
        environ[SUSPEND] = self.channel.suspend
        environ[HAND_OVER] = self.channel.hand_over
        if self.channel.server.draining:
            super().set_close_on_finish()
            environ[DRAINING] = True

    def finish(self) -> None:
        if self.complete or not self.channel.is_left_open:
            super().finish()


class ResumedTask(Task):
    """Sends the answer to a request that was suspended."""

    def __init__(self, channel: Any, request: Any, suspension: Suspension):
        super().__init__(channel, request)
        self.environ = suspension.environ
        self._application = suspension.application

    def execute(self) -> None:
        body = b"".join(self._application(self.environ, self._start_response))
        if self.complete:
            self.write(body)

    def _start_response(self, status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
        self.complete = True
        self.status = status
        self.response_headers += headers
        for name, value in headers:
            if name.lower() == "content-length":
                self.content_length = int(value)
        return self.write
