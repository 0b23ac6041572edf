"""Another application and other options in place of the present ones, while requests come."""

import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.server.listening import listen
from gateway.server.loop import Listener

PATIENCE = 10.0


def app_of(name: bytes, go: threading.Event | None = None) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        if go is not None:
            go.wait(PATIENCE)
        start_response("200 OK", [("Content-Length", str(len(name)))])
        return [name]

    return app


def options(**given: Any) -> Any:
    usual = {"threads": 2, "max_queued_requests": 10, "max_queue_time": 60.0, "client_timeout": 60.0}
    return SimpleNamespace(**usual | {"trusted_proxy": None, "trusted_proxy_count": 1, "direct_syscalls": True} | given)


def until(listener: Listener, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        listener.turn(0.01)


def exchange(listener: Listener, client: socket.socket, request: bytes) -> bytes:
    client.sendall(request)
    received: list[bytes] = []

    def answered() -> bool:
        try:
            received.append(client.recv(65536, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        return True

    until(listener, answered)
    return received[0]


GET = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 50\r\n\r\n" + b"x" * 50


@pytest.mark.parametrize("unix", [True, False])
def test_requests_in_progress_keep_their_application_and_connections_stay(tmp_path: Any, unix: bool) -> None:
    go = threading.Event()
    socket_of = listen(f"unix:{tmp_path}/s", 0) if unix else listen("127.0.0.1", 0)
    listener = Listener(app_of(b"before", go), socket_of, options(), 10)
    try:
        with (
            socket.socket(socket_of.family) as slow, socket.socket(socket_of.family) as quick,
        ):
            for client in (slow, quick):
                client.connect(socket_of.getsockname())
            until(listener, lambda: len(listener.active_channels) == 2)
            slow.sendall(GET)
            until(listener, lambda: any(worker.serving for worker in listener.task_dispatcher._workers))

            left = listener.adopt(app_of(b"after"), options(client_timeout=5.0), 100)
            assert left()
            assert b"after" in exchange(listener, quick, POST)
            assert left()
            go.set()
            assert b"before" in exchange(listener, slow, b"")
            until(listener, lambda: not left())
            assert b"after" in exchange(listener, slow, POST)
            assert listener._client_timeout == 5.0
    finally:
        go.set()
        listener.task_dispatcher.shutdown(timeout=PATIENCE)
        for connection in list(listener.active_channels.values()):
            connection.handle_close()
        listener.close()


def test_proxy_is_trusted_as_the_new_options_say() -> None:
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ["wsgi.url_scheme"])
        start_response("200 OK", [("Content-Length", "0")])
        return []

    listener = Listener(app, listen("127.0.0.1", 0), options(), 10)
    request = b"GET / HTTP/1.1\r\nHost: gateway\r\nX-Forwarded-Proto: https\r\n\r\n"
    try:
        with socket.create_connection(listener.socket.getsockname()) as client:
            exchange(listener, client, request)
            listener.adopt(app, options(trusted_proxy="127.0.0.1"), 10)
            exchange(listener, client, request)
    finally:
        listener.task_dispatcher.shutdown(timeout=PATIENCE)
        for connection in list(listener.active_channels.values()):
            connection.handle_close()
        listener.close()
    assert seen == ["http", "https"]
