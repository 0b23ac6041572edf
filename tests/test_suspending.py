"""Requests that are answered later without a thread, and connections that are handed over."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.environ import HAND_OVER, SUSPEND
from gateway.server.listening import listen
from gateway.server.loop import Listener
from gateway.server.suspending import Suspension
from gateway.web.errors import json_error
from tests.test_server import GET, PATIENCE, Client, until, work, wsgi_options


class Waiting:
    """An application that suspends requests of `/wait`, hands over those of `/take`, and answers others with a path."""

    def __init__(self) -> None:
        self.suspended: list[Suspension] = []
        self.refused = 0
        self.gone = 0
        self.taken: list[tuple[socket.socket, bytes, Callable[[], None]]] = []
        self.meanwhile: Callable[[Suspension], None] = self.suspended.append

    def __call__(self, environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/wait":
            suspension = environ[SUSPEND](environ, self._leave)
            if suspension is not None:
                self.meanwhile(suspension)
                return ()
            self.refused += 1
        if path == "/take" and environ[HAND_OVER](lambda *taken: self.taken.append(taken)):
            return ()
        return answer(path.encode())(environ, start_response)

    def _leave(self) -> None:
        self.gone += 1


def answer(body: bytes) -> Callable[..., Any]:
    """An application that answers so."""

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return (body,)

    return application


@pytest.fixture
def app() -> Waiting:
    return Waiting()


@pytest.fixture
def listener(app: Waiting) -> Iterator[Listener]:
    """A listener with one thread; the test is its main thread."""
    made = Listener(app, listen("127.0.0.1", 0), wsgi_options(), 1000, error_body=json_error)
    yield made
    made.task_dispatcher.shutdown(timeout=PATIENCE)
    for connection in list(made.active_channels.values()):
        connection.handle_close()
    made.close()


def is_serving(listener: Listener) -> bool:
    return any(worker.serving for worker in listener.task_dispatcher._workers)


def suspended(app: Waiting, listener: Listener, sent: bytes = GET % b"/wait") -> Client:
    """A client whose request has been left by its thread."""
    before = len(app.suspended)
    client = Client(listener).send(sent)
    until(listener, lambda: len(app.suspended) > before and not is_serving(listener))
    return client


def test_suspended_request_keeps_no_thread_and_is_answered_when_it_is_resumed(app: Waiting, listener: Listener) -> None:
    waiting = [suspended(app, listener) for _ in range(5)]
    other = Client(listener).send(GET % b"/other")
    until(listener, lambda: other.look().endswith(b"/other"))
    for number, suspension in enumerate(app.suspended):
        assert suspension.resume(answer(b"late-%d" % number))
    for number, client in enumerate(waiting):
        until(listener, lambda client=client, number=number: client.look().endswith(b"late-%d" % number))
        assert client.received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert not listener.suspended


def test_connection_goes_on_after_a_suspended_request(app: Waiting, listener: Listener) -> None:
    client = suspended(app, listener)
    app.suspended[0].resume(answer(b"first"))
    until(listener, lambda: client.look().endswith(b"first"))
    client.send(GET % b"/second")
    until(listener, lambda: client.look().endswith(b"/second"))


def test_next_request_waits_for_the_answer_to_the_suspended_one(app: Waiting, listener: Listener) -> None:
    client = suspended(app, listener, (GET % b"/wait") + (GET % b"/second"))
    work(listener)
    assert client.look() == b""
    app.suspended[0].resume(answer(b"first"))
    until(listener, lambda: client.look().endswith(b"/second"))
    assert b"first" in client.received


def test_request_may_be_suspended_again(app: Waiting, listener: Listener) -> None:
    client = suspended(app, listener)
    app.suspended[0].resume(app)
    until(listener, lambda: len(app.suspended) == 2)
    work(listener)
    assert client.look() == b""
    app.suspended[1].resume(answer(b"at last"))
    until(listener, lambda: client.look().endswith(b"at last"))


def test_request_that_is_resumed_before_its_thread_has_left_it_is_answered(app: Waiting, listener: Listener) -> None:
    app.meanwhile = lambda suspension: suspension.resume(answer(b"at once")) and None
    client = Client(listener).send(GET % b"/wait")
    until(listener, lambda: client.look().endswith(b"at once"))


def test_request_is_resumed_once(app: Waiting, listener: Listener) -> None:
    client = suspended(app, listener)
    assert app.suspended[0].resume(answer(b"first"))
    assert not app.suspended[0].resume(answer(b"second"))
    until(listener, lambda: client.look().endswith(b"first"))
    work(listener)
    assert b"second" not in client.look()


@pytest.mark.parametrize(
    "end", [socket.socket.close, lambda sock: sock.shutdown(socket.SHUT_WR)], ids=["connection", "side"]
)
def test_application_is_told_that_the_client_has_gone(app: Waiting, listener: Listener, end: Any) -> None:
    client = suspended(app, listener)
    end(client.socket)
    until(listener, lambda: app.gone)
    assert app.gone == 1
    assert not app.suspended[0].resume(answer(b"nobody"))
    assert not listener.suspended and not listener.active_channels


def test_client_that_sends_ahead_and_goes_is_answered_into_the_void(app: Waiting, listener: Listener) -> None:
    client = suspended(app, listener)
    client.send(GET % b"/second")
    work(listener)
    client.socket.close()
    work(listener)
    app.suspended[0].resume(answer(b"nobody"))
    until(listener, lambda: not listener.active_channels)


def test_failure_of_a_resumed_request_is_a_500(app: Waiting, listener: Listener) -> None:
    def fail(environ: Any, start_response: Any) -> Any:
        raise RuntimeError("no answer")

    client = suspended(app, listener)
    app.suspended[0].resume(fail)
    until(listener, lambda: client.look().startswith(b"HTTP/1.1 500 "))


def test_no_more_requests_are_suspended_than_there_is_room_for(
    app: Waiting, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_max_waiting", 2)
    waiting = [suspended(app, listener) for _ in range(2)]
    third = Client(listener).send(GET % b"/wait")
    until(listener, lambda: third.look().endswith(b"/wait"))
    assert app.refused == 1
    app.suspended[0].resume(answer(b"done"))
    until(listener, lambda: waiting[0].look().endswith(b"done"))
    suspended(app, listener)


def test_those_who_wait_take_no_room_from_other_connections(
    app: Waiting, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_max_connections", 2)
    for _ in range(3):
        suspended(app, listener)
    other = Client(listener).send(GET % b"/other")
    until(listener, lambda: other.look().endswith(b"/other"))


def test_connection_is_handed_over_with_what_has_been_read(app: Waiting, listener: Listener) -> None:
    client = Client(listener).send((GET % b"/take") + b"other protocol")
    until(listener, lambda: app.taken)
    ((sock, ahead, closed),) = app.taken
    assert ahead == b"other protocol"
    assert not listener.active_channels
    with sock:
        sock.setblocking(True)
        sock.sendall(b"hello")
        until(listener, lambda: client.look() == b"hello")
        client.send(b"more")
        sock.settimeout(PATIENCE)
        assert sock.recv(10) == b"more"
    assert len(listener.elsewhere) == 1
    closed()
    assert not listener.elsewhere


def test_connection_that_ends_is_not_handed_over(app: Waiting, listener: Listener) -> None:
    go = threading.Event()
    take = app.__call__

    def slowly(environ: Any, start_response: Any) -> Any:
        try:
            return take(environ, start_response)
        finally:
            go.wait(PATIENCE)

    listener.application = slowly
    client = Client(listener).send(GET % b"/take")
    until(listener, lambda: is_serving(listener))
    client.socket.close()
    for connection in list(listener.active_channels.values()):
        connection.handle_close()
    go.set()
    work(listener)
    assert not app.taken and not listener.elsewhere


def test_request_that_is_resumed_in_the_moment_of_leaving_is_answered_once(
    app: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Listener(app, listen("127.0.0.1", 0), wsgi_options(threads=2), 1000, error_body=json_error)
    answered = threading.Event()
    leave = Suspension.leave

    def slow(suspension: Suspension) -> bool:
        is_left = leave(suspension)
        suspension.resume(answer(b"late"))
        answered.wait(PATIENCE)  # another thread has answered by the time that this one goes on
        return is_left

    monkeypatch.setattr(Suspension, "leave", slow)
    client = Client(made).send(GET % b"/wait")
    until(made, lambda: client.look().endswith(b"late"))
    answered.set()
    until(made, lambda: not is_serving(made))
    assert client.look().count(b"HTTP/1.1") == 1
    client.send(GET % b"/second")
    until(made, lambda: client.look().endswith(b"/second"))
    made.task_dispatcher.shutdown(timeout=PATIENCE)
    for connection in list(made.active_channels.values()):
        connection.handle_close()
    made.close()
