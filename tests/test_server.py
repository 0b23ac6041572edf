"""The HTTP server: what clients may hold of it, and how it ends."""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import gateway.server.loop
from gateway.observe import metrics
from gateway.server.connection import RESET
from gateway.server.listening import drop_new_connections, listen, shown
from gateway.server.loop import Listener
from gateway.web.errors import json_error

#: Seconds that a test waits for what must happen.
PATIENCE = 10.0

#: Seconds in which nothing must happen.
MOMENT = 0.1

GET = b"GET %s HTTP/1.1\r\nHost: gateway\r\n\r\n"


class App:
    """A WSGI application that answers with the path, and keeps its threads while it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.served: list[str] = []

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.go.wait(PATIENCE)
        self.served.append(environ["PATH_INFO"])
        body = environ["PATH_INFO"].encode() * int(environ["QUERY_STRING"] or 1)
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


def wsgi_options(**options: Any) -> SimpleNamespace:
    """The section [wsgi]."""
    usual = {"threads": 1, "max_queued_requests": 10, "max_queue_time": 60.0, "client_timeout": 60.0}
    usual |= {"trusted_proxy": None, "trusted_proxy_count": 1, "direct_syscalls": True}
    return SimpleNamespace(**usual | options)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def serve(app: App) -> Iterator[Callable[..., Listener]]:
    """Make a listener: `serve(threads=2)`; the test is its main thread and lets it work by `turn`."""
    made: list[Listener] = []

    def make(**options: Any) -> Listener:
        listener = Listener(app, listen("127.0.0.1", 0), wsgi_options(**options), 1000, error_body=json_error)
        made.append(listener)
        return listener

    yield make
    app.go.set()
    for listener in made:
        listener.task_dispatcher.shutdown(timeout=PATIENCE)
        for connection in list(listener.active_channels.values()):
            connection.handle_close()
        listener.close()


def until(listener: Listener, condition: Callable[[], Any]) -> None:
    """Let it work until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        listener.turn(0.01)


def work(listener: Listener) -> None:
    """Let it work for a moment."""
    deadline = time.monotonic() + MOMENT
    until(listener, lambda: time.monotonic() > deadline)


class Client:
    """A connection; it reads what has arrived without waiting for more."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # the system reads ahead
        self.socket.settimeout(PATIENCE)
        self.socket.connect(listener.socket.getsockname())
        self.received = b""
        self.closed = False

    def send(self, data: bytes) -> "Client":
        self.socket.sendall(data)
        return self

    def look(self) -> bytes:
        """What has arrived so far."""
        self.socket.setblocking(False)
        try:
            while data := self.socket.recv(65536):
                self.received += data
            self.closed = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.closed = True
        self.socket.settimeout(PATIENCE)
        return self.received

    def answers(self, count: int) -> list[str]:
        """The start lines of so many answers."""
        until(self._listener, lambda: self.look().count(b"HTTP/1.1 ") >= count)
        return [line.decode() for line in self.received.split(b"\r\n") if b"HTTP/1.1 " in line]

    def until_closed(self) -> None:
        until(self._listener, lambda: self.look() is not None and self.closed)


def count(metric: Any, reason: str) -> float:
    return float(metric.labels(reason)._value.get())


def test_requests_sent_ahead_are_served_one_by_one(serve: Callable[..., Listener], app: App) -> None:
    listener = serve(threads=4)
    client = Client(listener).send(b"".join(GET % path for path in (b"/1", b"/2", b"/3")))

    client.answers(3)

    assert app.served == ["/1", "/2", "/3"]
    assert [body for body in (b"/1", b"/2", b"/3") if body in client.received] == [b"/1", b"/2", b"/3"]


def test_client_that_reads_nothing_holds_no_thread(serve: Callable[..., Listener], app: App) -> None:
    listener = serve(threads=1)
    rude = Client(listener).send((GET % b"/rude?1000000") * 2)
    until(listener, lambda: app.served)

    assert Client(listener).send(GET % b"/polite").answers(1) == ["HTTP/1.1 200 OK"]
    assert app.served == ["/rude", "/polite"]
    assert len(rude.answers(2)) == 2


def test_request_beyond_the_queue_is_refused_and_its_connection_kept(
    serve: Callable[..., Listener], app: App
) -> None:
    listener = serve(threads=1, max_queued_requests=2)
    app.go.clear()
    before = count(metrics.REFUSED, "full")
    served = [Client(listener).send(GET % b"/served") for _ in range(3)]
    work(listener)
    refused = Client(listener).send(GET % b"/refused")

    assert refused.answers(1) == ["HTTP/1.1 503 Service Unavailable"]
    assert b"Retry-After: " in refused.received and b"X-Openstack-Request-Id: req-" in refused.received
    refused.received = b""
    refused.send(b"HEAD /refused HTTP/1.1\r\nHost: gateway\r\n\r\n")
    assert refused.answers(1) == ["HTTP/1.1 503 Service Unavailable"]
    assert refused.received.endswith(b"\r\n\r\n")
    assert count(metrics.REFUSED, "full") == before + 2
    app.go.set()
    for client in served:
        client.answers(1)
    refused.received = b""
    assert refused.send(GET % b"/again").answers(1) == ["HTTP/1.1 200 OK"]
    assert sorted(app.served) == ["/again", "/served", "/served", "/served"]


def test_idle_threads_are_not_counted_as_a_queue(serve: Callable[..., Listener], app: App) -> None:
    listener = serve(threads=4, max_queued_requests=1)
    app.go.clear()

    clients = [Client(listener).send(GET % b"/") for _ in range(5)]
    work(listener)
    app.go.set()

    assert [client.answers(1) for client in clients] == [["HTTP/1.1 200 OK"]] * 5


def test_request_that_waited_too_long_is_refused(serve: Callable[..., Listener], app: App) -> None:
    listener = serve(threads=1, max_queue_time=MOMENT)
    app.go.clear()
    first = Client(listener).send(GET % b"/first")
    work(listener)

    assert Client(listener).send(GET % b"/late").answers(1) == ["HTTP/1.1 503 Service Unavailable"]
    app.go.set()
    first.answers(1)
    assert app.served == ["/first"]


@pytest.mark.parametrize("part", [b"GET /", b"POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\n1234"], ids=["head", "body"])
def test_request_that_does_not_arrive_in_time_is_answered_408(serve: Callable[..., Listener], part: bytes) -> None:
    client = Client(serve(client_timeout=MOMENT)).send(part)

    client.until_closed()

    head, _, body = client.received.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].split(b" ", 1)[1] == b"408 Request Timeout"
    assert b"X-Openstack-Request-Id: req-" in head
    assert set(json.loads(body)) == {"title", "description"}


def test_answer_that_is_not_taken_in_time_is_given_up(serve: Callable[..., Listener], app: App) -> None:
    listener = serve(client_timeout=MOMENT)
    before = count(metrics.CLOSED, "slow_answer")
    client = Client(listener).send(GET % b"/rude?1000000")

    until(listener, lambda: count(metrics.CLOSED, "slow_answer") == before + 1)

    assert not listener.active_channels
    client.until_closed()


def test_idle_connection_is_closed(serve: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.server.loop, "IDLE_TIMEOUT", MOMENT)
    client = Client(serve()).send(GET % b"/")

    client.until_closed()

    assert client.received.startswith(b"HTTP/1.1 200 OK")


def test_client_that_resets_its_connection_is_forgotten_without_a_word(
    serve: Callable[..., Listener], caplog: pytest.LogCaptureFixture
) -> None:
    listener = serve()
    client = Client(listener).send(b"GET /half HTTP/1.1\r\n")
    work(listener)
    assert len(listener.active_channels) == 1

    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.socket.close()

    until(listener, lambda: not listener.active_channels)
    assert caplog.text == ""


def test_newcomer_takes_the_place_of_the_connection_idle_longest(
    serve: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.server.loop, "MAX_CONNECTIONS", 4)
    listener = serve()
    first, second, third = (Client(listener) for _ in range(3))
    until(listener, lambda: len(listener.active_channels) == 3)
    first.send(GET % b"/").answers(1)

    newcomer = Client(listener).send(GET % b"/")

    assert newcomer.answers(1) == ["HTTP/1.1 200 OK"]
    second.until_closed()
    assert [client.look() and client.closed for client in (first, newcomer)] == [False, False]
    third.look()
    assert not third.closed


def test_idle_connection_whose_request_has_just_arrived_keeps_its_place(
    serve: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = serve()
    first, second = (Client(listener) for _ in range(2))
    until(listener, lambda: len(listener.active_channels) == 2)
    monkeypatch.setattr(listener._selector, "select", lambda _: first.send(GET % b"/") and [])  # at the round's end
    monkeypatch.setattr(listener, "_max_connections", 2)

    listener.turn(0)
    monkeypatch.undo()

    assert first.answers(1) == ["HTTP/1.1 200 OK"]
    assert not any(client.look() and client.closed for client in (first, second))


def test_buffers_beyond_the_limit_are_freed_oldest_first(
    serve: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at once: between two looks at a fixed time fast clients could send any amount."""
    monkeypatch.setattr(gateway.server.loop, "MAX_BUFFERED", 1500)
    monkeypatch.setattr(gateway.server.loop, "SWEEP_STEP", 3600)
    listener = serve()
    head = b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n"
    idle = Client(listener)
    clients = []
    for _ in range(2):
        clients.append(Client(listener).send(head + b"x" * 900))
        work(listener)

    clients[0].until_closed()

    assert not any(client.look() or client.closed for client in (idle, clients[1]))


def test_end_serves_who_has_connected(serve: Callable[..., Listener]) -> None:
    listener = serve()
    kept = Client(listener)
    until(listener, lambda: listener.active_channels)
    waiting = [Client(listener).send(GET % b"/") for _ in range(5)]

    listener.draining = True
    listener.stop()

    for client in [*waiting, kept.send(GET % b"/")]:
        assert client.answers(1) == ["HTTP/1.1 200 OK"]
        assert b"Connection: close" in client.received
        client.until_closed()


@pytest.mark.parametrize("direct", [True, False])
def test_either_way_to_send_brings_a_large_answer_to_a_slow_client(
    serve: Callable[..., Listener], direct: bool
) -> None:
    listener = serve(direct_syscalls=direct)
    client = Client(listener).send(GET % b"/large?2000000")
    until(listener, lambda: any(connection.total_outbufs_len for connection in listener.active_channels.values()))
    assert len(client.send(GET % b"/next").answers(2)) == 2
    assert client.received.count(b"/large") == 2_000_000


def test_idle_connection_with_a_request_on_it_is_not_closed(serve: Callable[..., Listener]) -> None:
    listener = serve()
    client = Client(listener)
    until(listener, lambda: listener.active_channels)
    (connection,) = listener.active_channels.values()

    client.send(GET % b"/")
    time.sleep(MOMENT)
    connection.close_if_silent()
    assert client.answers(1) == ["HTTP/1.1 200 OK"]
    connection.close_if_silent()
    client.until_closed()


@pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_nobody_connects_any_more_and_those_who_have_are_not_disturbed(host: str) -> None:
    with listen(host, 0) as listener:
        address = listener.getsockname()[:2]
        client = socket.create_connection(address, timeout=PATIENCE)

        drop_new_connections(listener)

        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=MOMENT)
        accepted, _ = listener.accept()
        client.sendall(b"request")
        assert accepted.recv(100) == b"request"
        accepted.close()
        client.close()


@pytest.mark.parametrize(("host", "start"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_address_in_the_log_is_a_url(host: str, start: str) -> None:
    with listen(host, 0) as listener:
        assert shown(listener) == f"{start}{listener.getsockname()[1]}"


def test_two_listeners_share_a_port_if_both_want_to() -> None:
    with listen("127.0.0.1", 0, reuse_port=True) as first:
        port = first.getsockname()[1]
        with listen("127.0.0.1", port, reuse_port=True), pytest.raises(OSError):
            listen("127.0.0.1", port)


def test_unparsable_request_is_answered_without_a_thread(serve: Callable[..., Listener], app: App) -> None:
    listener = serve(threads=1)
    app.go.clear()
    blocked = Client(listener).send(GET % b"/")
    work(listener)

    client = Client(listener).send(b"nonsense\r\n\r\n")
    client.until_closed()

    assert b" 400 Bad Request\r\n" in client.received
    app.go.set()
    assert blocked.answers(1)
