"""One deadline for each call to a broker: the waits for a connection, its opening and the work on it share it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from bridges.amqp import AMQPBridge
from bridges.amqp.pool import Pool
from bridges.amqp.publishing import FIRST_TRY, LEAST_LEFT, SECOND_TRY
from bridges.amqp.sockets import SLICE, end_waits
from bridges.base import Envelope
from bridges.errors import BridgeUnavailable, OutcomeUnknown

TIMEOUT = 0.4

#: Seconds that a busy machine may add.
SLACK = 0.3

#: Seconds that a call may end late on a busy machine. What has no end takes longer.
LATE = 2.0


class FakeConnection:
    """A connection that notes what it is asked to publish, and till when; `takes` seconds pass meanwhile."""

    def __init__(self, takes: float = 0.0, error: Exception | None = None):
        self.takes, self.error = takes, error
        self.blocked = False
        self.is_open = True
        self.until: float | None = None
        self.published: list[float] = []
        self.closed = False

    def check(self) -> None:
        pass

    def publish(
        self, exchange: str, key: str, envelopes: Any, deadline: float, mandatory: bool, copies: str | None = None
    ) -> None:
        self.published.append(deadline)
        time.sleep(self.takes)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True


def bridge_with(connect: Callable[[float], Any], size: int = 1) -> AMQPBridge:
    class Bridge(AMQPBridge):
        def _open_publisher(self, until: float) -> Any:
            return connect(until)

        _open_fetcher = _open_publisher

    options = {option.dest: option.default for option in AMQPBridge.OPTS} | {"timeout": TIMEOUT, "pool_size": size}
    return Bridge("amqp://guest:guest@127.0.0.1:1/", SimpleNamespace(**options))


def publish(bridge: AMQPBridge) -> None:
    bridge.publish("q", [Envelope(b"1")])


def test_publish_that_gets_no_connection_in_time_has_sent_nothing() -> None:
    connection = FakeConnection()
    bridge = bridge_with(lambda _: connection)
    held = bridge._publishers.take()
    start = time.monotonic()
    with pytest.raises(BridgeUnavailable) as caught:
        publish(bridge)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert TIMEOUT / 2 < time.monotonic() - start < TIMEOUT + LATE
    assert connection.published == []
    bridge._publishers.put(held)


def test_publish_that_gets_a_connection_late_is_not_begun_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = FakeConnection()
    bridge = bridge_with(lambda _: connection)

    def take(deadline: float) -> Any:
        time.sleep(deadline - time.monotonic())
        return connection

    monkeypatch.setattr(bridge._publishers, "take", take)
    bridge._publishers._free.acquire()
    with pytest.raises(BridgeUnavailable, match="nothing was sent") as caught:
        publish(bridge)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert (connection.published, connection.closed) == ([], False)


def test_wait_for_a_connection_counts_and_leaves_no_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = FakeConnection(TIMEOUT * (1 - SECOND_TRY), OutcomeUnknown("slow"))
    connections = [FakeConnection(), slow, FakeConnection()]
    made = iter(connections)
    bridge = bridge_with(lambda _: next(made), size=2)
    start = time.monotonic()
    holders = [bridge._publishers.take(), bridge._publishers.take()]
    threading.Timer(TIMEOUT * 0.2, bridge._publishers.put, [holders[1]]).start()
    with pytest.raises(OutcomeUnknown):
        publish(bridge)
    assert (len(connections[1].published), connections[2].published) == (1, [])
    assert connections[1].published[0] <= start + TIMEOUT * (0.2 + FIRST_TRY) + SLACK
    bridge._publishers.put(holders[0])


def test_second_try_has_what_the_first_has_left() -> None:
    connections = [FakeConnection(TIMEOUT * FIRST_TRY, OutcomeUnknown("slow")), FakeConnection()]
    made = iter(connections)
    bridge = bridge_with(lambda _: next(made))
    start = time.monotonic()
    publish(bridge)
    assert connections[0].published[0] == pytest.approx(start + TIMEOUT * FIRST_TRY, abs=SLACK / 3)
    assert connections[1].published[0] == pytest.approx(start + TIMEOUT, abs=SLACK / 3)
    assert (connections[0].closed, connections[1].closed) == (True, False)


def test_second_try_that_sends_nothing_leaves_the_outcome_unknown() -> None:
    connections = iter([FakeConnection(0.0, OutcomeUnknown("broke"))])

    def connect(_: float) -> Any:
        try:
            return next(connections)
        except StopIteration:
            raise OSError("refused") from None

    with pytest.raises(OutcomeUnknown, match="broke"):
        publish(bridge_with(connect))


def test_connecting_counts() -> None:
    asked: list[float] = []

    def connect(deadline: float) -> Any:
        asked.append(deadline)
        time.sleep(TIMEOUT)
        return connection

    connection = FakeConnection()
    start = time.monotonic()
    with pytest.raises(BridgeUnavailable, match="nothing was sent"):
        publish(bridge_with(connect))
    assert asked[0] == pytest.approx(start + TIMEOUT * (1 - LEAST_LEFT), abs=SLACK / 3)
    assert connection.published == []


@pytest.mark.parametrize(
    "call",
    [lambda b: b.create("q"), lambda b: b.delete("q"), lambda b: b.purge("q"), lambda b: b.depth("q"),
     lambda b: b.exists("q"), lambda b: b.fetch("q", 1), lambda b: b.fetch("q", 10), lambda b: b.fetch_foreign("q", 5),
     lambda b: b.peek("q", 5, lambda _: True), publish, lambda b: b.ping()],
    ids=["create", "delete", "purge", "depth", "exists", "get", "fetch", "foreign", "peek", "publish", "ping"],
)
def test_every_call_hands_its_deadline_to_the_connection(call: Callable[[AMQPBridge], Any]) -> None:
    asked: list[float] = []

    def connect(deadline: float) -> Any:
        asked.append(deadline)
        raise TimeoutError("timed out")

    start = time.monotonic()
    with suppress(BridgeUnavailable):
        call(bridge_with(connect))
    assert asked and max(asked) <= start + TIMEOUT + SLACK / 3


def test_attempt_that_had_little_time_says_nothing_of_the_broker() -> None:
    def connect(deadline: float) -> Any:
        raise TimeoutError("timed out")

    pool = Pool(connect, 4, TIMEOUT)
    with pytest.raises(BridgeUnavailable, match="too little time"):
        pool.take(time.monotonic() + TIMEOUT / 10)
    assert pool._failed is None
    with pytest.raises(BridgeUnavailable, match="cannot connect"):
        pool.take()
    assert pool._failed is not None


def test_connection_in_the_pool_has_no_deadline() -> None:
    connection = FakeConnection()
    pool = Pool(lambda _: connection, 1, TIMEOUT)
    with pool.lent():
        pass
    for deadline in (None, time.monotonic() + 60):
        with pool.lent(deadline) as taken:
            assert taken.until is not None and taken.until == (deadline or taken.until)
        assert connection.until is None


@pytest.fixture
def wired() -> Iterator[tuple[SimpleNamespace, socket.socket, Any]]:
    """Who waits on a transport with a real socket, the other end of it, and the transport."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    waiting = SimpleNamespace(timeout=5.0, until=None)
    transport = SimpleNamespace(sock=ours)
    assert end_waits(transport, waiting)
    yield waiting, theirs, transport
    ours.close()
    theirs.close()


def test_write_to_a_broker_that_takes_a_little_now_and_then_ends(wired: Any) -> None:
    waiting, theirs, transport = wired
    stop = threading.Event()

    def sip() -> None:
        while not stop.wait(0.02):
            theirs.recv(100)

    sipping = threading.Thread(target=sip)
    sipping.start()
    try:
        waiting.until = time.monotonic() + TIMEOUT
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            transport._write(bytes(20_000_000))
        assert time.monotonic() - start < TIMEOUT + SLICE + LATE
    finally:
        stop.set()
        sipping.join()


def test_write_in_pieces_is_whole(wired: Any) -> None:
    waiting, theirs, transport = wired
    data = bytes(range(256)) * 300
    got = bytearray()

    def read() -> None:
        while len(got) < len(data):
            got.extend(theirs.recv(3000))

    reading = threading.Thread(target=read)
    reading.start()
    transport._write(data)
    reading.join()
    assert bytes(got) == data


def test_read_ends_at_the_deadline_though_something_comes(wired: Any) -> None:
    waiting, theirs, transport = wired
    waiting.until = time.monotonic() + TIMEOUT
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        while True:
            if time.monotonic() - start < TIMEOUT / 2:
                theirs.send(b"x")
            transport._quick_recv(1)
    assert time.monotonic() - start < TIMEOUT + SLICE + LATE


def test_second_try_is_possible_after_a_first_that_began_at_once() -> None:
    assert 0 < LEAST_LEFT < SECOND_TRY <= 1 - FIRST_TRY
