"""Receivers of notifications as they are met in the wild: HTTP servers on localhost, each with its habit."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: Seconds that a hanging receiver hangs: longer than an attempt may take.
HANGING = 30.0


@dataclass
class Request:
    """One request; headers by their names in lower case, `at` in monotonic seconds."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def message(self) -> Any:
        """The body of the message that it tells of."""
        return json.loads(self.body)["body"]

    @property
    def id(self) -> str:
        """The same in all attempts for one message."""
        return self.headers["webhook-id"]

    @property
    def attempt(self) -> int:
        return int(self.headers["marconi-attempt"])


class Handler(BaseHTTPRequestHandler):
    """Reads a request and leaves the answer to the habit."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        receiver: Receiver = self.server.receiver  # type: ignore[attr-defined]
        receiver.note(request)
        receiver.habit(self, request)

    do_GET = do_PUT = do_OPTIONS = do_POST

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that go away are part of the tests


Habit = Callable[[Handler, Request], None]


class Receiver:
    """A server with a habit, which may be changed. `certificate` makes it one of TLS."""

    def __init__(self, habit: Habit, certificate: tuple[Path, Path] | None = None) -> None:
        self.habit = habit
        self._requests: list[Request] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.receiver = self  # type: ignore[attr-defined]
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.url = f"https://localhost:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def note(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    @property
    def requests(self) -> list[Request]:
        with self._lock:
            return list(self._requests)

    @property
    def messages(self) -> list[Any]:
        """The bodies of the messages, in the order in which they came."""
        return [request.message for request in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(habit: Habit, certificate: tuple[Path, Path] | None = None) -> Iterator[Receiver]:
    receiver = Receiver(habit, certificate)
    try:
        yield receiver
    finally:
        receiver.close()


# Habits


def fast(handler: Handler, request: Request) -> None:
    handler.answer(204)


def slow(handler: Handler, request: Request) -> None:
    time.sleep(0.3)
    handler.answer(200)


def hangs(handler: Handler, request: Request) -> None:
    time.sleep(HANGING)


def resets(handler: Handler, request: Request) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()
    handler.close_connection = True


def redirects(handler: Handler, request: Request) -> None:
    handler.answer(302, {"Location": "/elsewhere"})


def never_ends(handler: Handler, request: Request) -> None:
    """An answer of 500 without an end."""
    handler.send_response(500)
    handler.send_header("Content-Type", "text/plain")
    handler.end_headers()
    while True:
        handler.wfile.write(b"a" * 65536)


def gone(handler: Handler, request: Request) -> None:
    handler.answer(410)


def answers(*statuses: int, then: int = 204, headers: dict[str, str] | None = None) -> Habit:
    """These statuses, one after the other, with the headers."""
    left = list(statuses)

    def habit(handler: Handler, request: Request) -> None:
        if left:
            handler.answer(left.pop(0), headers)
        else:
            handler.answer(then)

    return habit
