"""Clients that send slowly, never read, vanish, or open too many connections; others are served meanwhile."""

import contextlib
import http.client
import resource
import socket
import struct
import threading
import time

import psutil
import pytest

from functional.api.helpers import create, post
from functional.http import Api
from functional.overload.clients import Memory, Producer, running
from functional.test_metrics import value_of
from functional.wait import wait_until

#: Seconds of [wsgi] client_timeout.
CLIENT_TIMEOUT = 2.0

#: Seconds within which a client's connection is closed: the timeout, two looks, and what the machine takes.
PATIENCE = CLIENT_TIMEOUT + 10

#: Seconds for an answer to a polite client on a machine that is busy with the rude ones: 4 to 5 on two cores, as those
#: who send are on them too. A gateway that lets itself be stopped by them takes 20 and more, or never answers.
POLITE = 10.0

#: What the gateway keeps: see gateway/server/loop.py.
MAX_CONNECTIONS = 2000
MAX_BUFFERED = 128

THREADS = 2

HEAD = b"POST /v2/queues/rude/messages HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"

RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def gateway(start_gateway):
    return start_gateway(wsgi={"threads": THREADS, "client_timeout": CLIENT_TIMEOUT})


@pytest.fixture
def api(gateway, queue):
    client = Api(gateway.url)
    create(client, queue)
    return client


@pytest.fixture
def connect(gateway):
    """Open raw connections to the gateway: `connect()`."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE))


@pytest.fixture
def polite(gateway, api, queue):
    """Two clients that post during the test, one of them on a new connection each time; both must be served."""
    producers = [Producer([gateway.port], api.project, queue, keep, pause=0.02) for keep in (True, False)]
    with running(producers):
        yield
    for producer in producers:
        assert producer.failures == []
        assert set(producer.statuses) == {201}
        assert max(producer.seconds) < POLITE


def closed(api, reason):
    """How many connections the metrics say were closed for a reason.

    The look takes a new connection: one that was kept would be the one idle longest.
    """
    text = api.get("/metrics", headers={"Connection": "close"}).text
    return value_of(text, f'marconi_closed_connections_total{{reason="{reason}"}}')


def trickle(connection, data, ended):
    """Send byte by byte till the gateway hangs up."""
    with contextlib.suppress(OSError):
        for byte in data:
            connection.sendall(bytes([byte]))
            if ended.wait(0.1):
                break


@pytest.mark.usefixtures("polite")
@pytest.mark.parametrize("fast, slow", [
    (b"", HEAD * 100),
    (HEAD + b"Content-Length: 1000\r\n\r\n", b"x" * 1000),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
], ids=["headers", "body", "chunks"])
def test_request_that_trickles_in_is_408_in_time(connect, api, fast, slow):
    connections = [connect() for _ in range(3 * THREADS)]
    ended = threading.Event()
    start = time.monotonic()
    for connection in connections:
        connection.sendall(fast)
        threading.Thread(target=trickle, args=(connection, slow, ended)).start()

    answers = []
    for connection in connections:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        answers.append((answer.status, answer.headers["Connection"]))
    took = time.monotonic() - start
    ended.set()

    assert answers == [(408, "close")] * len(connections)
    assert took < PATIENCE
    assert closed(api, "slow_request") == len(connections)


@pytest.mark.usefixtures("polite")
def test_client_that_never_reads_holds_no_thread_and_is_closed(gateway, connect, api):
    big = "x" * 250_000  # twenty of them are more than the kernel buffers for a connection
    for _ in range(20):
        post(api, "rude", big)
    memory = Memory(gateway)
    listing = (
        f"GET /v2/queues/rude/messages?limit=20&echo=true HTTP/1.1\r\nHost: gateway\r\n"
        f"Client-ID: {api.client_id}\r\nX-Project-ID: {api.project}\r\n\r\n"
    ).encode()
    connections = [connect() for _ in range(4 * THREADS)]

    start = time.monotonic()
    for connection in connections:
        connection.sendall(10 * listing)
    wait_until(lambda: memory.look() and closed(api, "slow_answer") == len(connections), PATIENCE, "all to be closed")

    assert time.monotonic() - start >= CLIENT_TIMEOUT
    assert memory.growth < 150


@pytest.mark.usefixtures("polite")
def test_clients_that_vanish_leave_nothing_behind(gateway, connect, api):
    memory = Memory(gateway)
    names = f"Client-ID: {api.client_id}\r\nX-Project-ID: p\r\n"
    body = b'{"messages":[{"body":1}]}'
    whole = HEAD + f"{names}Content-Length: {len(body)}\r\n\r\n".encode() + body
    parts = [b"", whole[:20], whole[:-5], whole, 5 * whole]

    for number in range(500):
        connection = connect()
        connection.sendall(parts[number % len(parts)])
        if number % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()
        memory.look()

    process = psutil.Process(gateway.pid)
    wait_until(lambda: len(process.net_connections()) < 10, PATIENCE, "the connections to be gone")
    assert memory.growth < 50


@pytest.fixture
def many_files():
    """Let this process open as many connections as the gateway has, and more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS
    if soft < wanted:
        if hard < wanted:
            pytest.skip(f"a process may open only {hard} files here; raise that: `ulimit -Hn {wanted}`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files", "polite")
def test_flood_of_connections_pushes_out_the_idle_ones(gateway, connect, api):
    memory = Memory(gateway)

    flood = [connect() for _ in range(MAX_CONNECTIONS + 300)]
    for connection in flood:
        with contextlib.suppress(OSError):
            connection.sendall(HEAD)
    wait_until(lambda: memory.look() and closed(api, "too_many") >= 200, PATIENCE, "room for others")

    assert len(psutil.Process(gateway.pid).net_connections()) < MAX_CONNECTIONS + 10
    assert memory.growth < 100


@pytest.mark.usefixtures("many_files", "polite")
def test_half_sent_bodies_take_a_bounded_amount_of_memory(gateway, connect, api):
    memory = Memory(gateway)
    part = HEAD + b"Content-Length: 250000\r\n\r\n" + b"x" * 200_000
    count = MAX_CONNECTIONS - 100

    for _ in range(count):
        with contextlib.suppress(OSError):
            connect().sendall(part)
        memory.look()
    wait_until(lambda: closed(api, "slow_request") + closed(api, "too_much") == count, 2 * PATIENCE, "all to be closed")

    assert closed(api, "too_much") > 0
    # Python's buffers take more than what is in them, and some come between two looks; 362 MiB have been sent.
    assert memory.look().growth < 2 * MAX_BUFFERED + 50


#: Half-sent requests whose bytes are none of a body, and whether they are refused at once.
LINES = {
    "short headers": (HEAD + b"abc: d\r\n" * 8000 + b"Content-Length: 9\r\n\r\n", True),
    "headers as many and as long as may be": (
        HEAD + (b"abc: " + b"x" * 310 + b"\r\n") * 95 + b"Content-Length: 9\r\n\r\n", False
    ),
    "headers without an end": (HEAD + b"x" * 30_000, False),
    "long query": (HEAD.replace(b" HTTP", b"?" + b"x" * 60_000 + b" HTTP") + b"Content-Length: 9\r\n\r\n", False),
    "long path": (HEAD.replace(b" HTTP", b"x" * 60_000 + b" HTTP") + b"Content-Length: 9\r\n\r\n", False),
    "lines of chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 60_000, True),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 10_000, True),
    "tiny chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 10_000, True),
}


@pytest.mark.usefixtures("many_files", "polite")
@pytest.mark.parametrize("part, refused", LINES.values(), ids=LINES)
def test_what_is_no_body_takes_a_bounded_amount_of_memory_too(gateway, connect, api, part, refused):
    """A thousand connections with three-letter headers took a gigabyte, and nobody was closed."""
    memory = Memory(gateway)

    connections = [connect() for _ in range(1000)]
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.sendall(part)
        memory.look()
    if refused:
        for connection in connections:
            with contextlib.suppress(ConnectionError):
                assert b" 4" in connection.recv(100)
    else:
        wait_until(
            lambda: closed(api, "slow_request") + closed(api, "too_much") == len(connections), 2 * PATIENCE, "an end"
        )

    # 64 MiB have been sent; a path is kept twice, and some come between two looks.
    assert memory.look().growth < 1.25 * MAX_BUFFERED
