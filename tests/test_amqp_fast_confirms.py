"""Confirms that are read past py-amqp: on its real transport and connection, so that changes inside of them show."""

import inspect
import socket
import struct
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from amqp.method_framing import frame_handler
from amqp.transport import TCPTransport

from bridges.amqp import AMQPBridge, fast_confirms
from bridges.amqp import bridge as bridge_module
from bridges.amqp.fast_confirms import Fallbacks, FastConfirms
from bridges.amqp.publisher import Publisher
from bridges.amqp.sockets import end_waits

CHANNEL = 1
HEARTBEAT = struct.pack(">BHIB", 8, 0, 0, 0xCE)


def ack(tag: int, multiple: bool = False, channel: int = CHANNEL) -> bytes:
    """The frame of a basic.ack."""
    return struct.pack(">BHIHHQBB", 1, channel, 13, 60, 80, tag, multiple, 0xCE)


@pytest.fixture
def fallbacks(monkeypatch: pytest.MonkeyPatch) -> Fallbacks:
    fresh = Fallbacks()
    monkeypatch.setattr(fast_confirms, "FALLBACKS", fresh)
    return fresh


class Wire:
    """py-amqp's connection on a real socket, without the handshake, and a reader of its confirms."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.connection = amqp.Connection()
        self.transport = TCPTransport("127.0.0.1:1", 1.0)
        self.transport.sock = ours
        self.transport._quick_recv = ours.recv
        self.connection._transport = self.transport
        self.acks: list[tuple[int, bool]] = []
        self.left: list[tuple[int, int, bytes]] = []
        self.connection.on_inbound_frame = self.left.append
        assert end_waits(self.transport, SimpleNamespace(timeout=0.3, until=None))
        self.confirms = FastConfirms(self.connection, CHANNEL, lambda tag, multiple: self.acks.append((tag, multiple)))

    def close(self) -> None:
        self.transport.sock.close()
        self.theirs.close()


@pytest.fixture
def wire(fallbacks: Fallbacks) -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def test_confirms_that_come_next_are_handled(wire: Wire) -> None:
    before = wire.connection.bytes_recv
    wire.theirs.sendall(ack(1) + ack(3, True) + ack(4))
    assert wire.confirms.take() is True
    assert wire.acks == [(1, False), (3, True), (4, False)]
    assert wire.connection.bytes_recv > before, "py-amqp would take the broker for dead"


@pytest.mark.parametrize("other", [HEARTBEAT, ack(7, channel=2)], ids=["heartbeat", "other channel"])
def test_what_else_comes_is_left_to_py_amqp_in_order(wire: Wire, other: bytes) -> None:
    wire.theirs.sendall(ack(1) + other + ack(2))
    assert wire.confirms.take() is True
    assert wire.confirms.take() is False
    wire.connection.blocking_read()
    assert [frame[0] for frame in wire.left] == [other[0]]
    assert wire.confirms.take() is True
    assert wire.acks == [(1, False), (2, False)]


@pytest.mark.parametrize("cut", [1, 7, 12, 20])
def test_half_a_frame_is_left_to_py_amqp(wire: Wire, cut: int) -> None:
    wire.theirs.sendall(ack(1) + ack(2)[:cut])
    assert wire.confirms.take() is True
    assert wire.confirms.take() is False
    wire.theirs.sendall(ack(2)[cut:] + ack(3))
    wire.connection.blocking_read()
    assert wire.left == [(1, CHANNEL, ack(2)[7:-1])]
    assert wire.confirms.take() is True
    assert wire.acks == [(1, False), (3, False)]


def test_frame_that_py_amqp_had_begun_to_read_is_taken_up_again(wire: Wire) -> None:
    wire.theirs.sendall(ack(1)[:9])
    with pytest.raises(TimeoutError):
        wire.connection.blocking_read()
    wire.theirs.sendall(ack(1)[9:])
    wire.connection.blocking_read()
    assert wire.left == [(1, CHANNEL, ack(1)[7:-1])]


def test_end_of_the_connection_is_an_error_and_silence_a_timeout(wire: Wire, fallbacks: Fallbacks) -> None:
    with pytest.raises(TimeoutError):
        wire.confirms.take()
    wire.theirs.close()
    with pytest.raises(OSError, match="closed"):
        wire.confirms.take()
    assert fallbacks.count == 0


def test_py_amqp_that_is_otherwise_inside_reads_by_itself_and_that_is_seen(
    wire: Wire, fallbacks: Fallbacks, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Wire()
    for one in (wire, other):
        del one.transport._read_buffer
        assert one.confirms.take() is False
        assert one.confirms.take() is False
    other.close()
    assert fallbacks.count == 2
    monkeypatch.setattr(bridge_module, "FALLBACKS", fallbacks)
    assert AMQPBridge.fallbacks(None) == 2  # type: ignore[arg-type]
    assert len([record for record in caplog.records if "fast_confirms" in record.getMessage()]) == 1


def test_py_amqp_reads_and_writes_as_is_known_here() -> None:
    """If this fails, py-amqp is otherwise inside: read its source, then adapt sockets.py, fast_confirms.py and this."""
    read = inspect.getsource(TCPTransport._read)
    assert "recv = self._quick_recv" in read and "rbuf = self._read_buffer" in read
    assert "self._read_buffer = rbuf" in read
    assert "self._read_buffer = read_frame_buffer + self._read_buffer" in inspect.getsource(TCPTransport.read_frame)
    assert "self._write(" in inspect.getsource(TCPTransport.write)
    assert "self.transport.read_frame()" in inspect.getsource(amqp.Connection.blocking_read)


def test_py_amqp_counts_what_it_reads_itself(wire: Wire) -> None:
    handled: list[Any] = []
    wire.connection.on_inbound_frame = frame_handler(wire.connection, lambda *call: handled.append(call))
    wire.theirs.sendall(ack(1))
    before = wire.connection.bytes_recv
    wire.connection.blocking_read()
    assert wire.connection.bytes_recv == before + 1
    assert [call[:2] for call in handled] == [(CHANNEL, amqp.spec.Basic.Ack)]


class Broker:
    """Confirms what is published to it: the rest of a publisher's connection is not there."""

    def __init__(self, wire: Wire):
        self.wire = wire

    def publisher(self, fast: bool) -> Publisher:
        publisher = Publisher.__new__(Publisher)
        publisher._amqp = self.wire.connection
        publisher.blocked, publisher._published, publisher._reads_ahead = False, 0, True
        publisher._fast_confirms = FastConfirms(self.wire.connection, CHANNEL, publisher._on_ack) if fast else None

        def on_frame(frame: tuple[int, int, bytes]) -> Any:
            self.wire.left.append(frame)
            publisher._on_ack(*struct.unpack_from(">QB", frame[2], 4))

        self.wire.connection.on_inbound_frame = on_frame
        return publisher


@pytest.mark.parametrize("fast", [True, False], ids=["on", "off"])
def test_switched_off_py_amqp_reads_all_confirms(wire: Wire, fast: bool) -> None:
    publisher = Broker(wire).publisher(fast)
    publisher._unconfirmed = {1, 2, 3}
    threading.Timer(0.05, wire.theirs.sendall, [ack(1) + ack(3, True)]).start()
    publisher._await_confirms(float("inf"))
    assert publisher._unconfirmed == set()
    assert len(wire.left) == (0 if fast else 2)
