"""Deliveries parsed past py-amqp: the same as it makes of them, and what is not for this is left to it."""

import struct
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from amqp.method_framing import frame_handler

from bridges.amqp.consuming.deliveries import take
from bridges.amqp.consuming.waking import WakingConnection
from bridges.amqp.fast_confirms import Fallbacks

CONSUMER = "marconi-1"
HEADERS = {"marconi-client": "c", "n": 1, "list": [1, "two"]}


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(channel: int = 1, consumer: str = CONSUMER, tag: int = 7, routing_key: bytes = b"k\xc3\xbc") -> bytes:
    text = consumer.encode()
    return frame(1, channel, b"".join((
        b"\0\x3c\0\x3c", bytes((len(text),)), text, struct.pack(">QB", tag, 1), b"\1x",
        bytes((len(routing_key),)), routing_key,
    )))


def header(size: int, channel: int = 1, **properties: Any) -> bytes:
    message = amqp.Message(**({"application_headers": HEADERS, "message_id": "m", "timestamp": 5} | properties))
    return frame(2, channel, struct.pack(">HHQ", 60, 0, size) + message._serialize_properties())


def body(text: bytes, channel: int = 1) -> bytes:
    return frame(3, channel, text)


def whole(text: bytes = b"abc", channel: int = 1, **more: Any) -> bytes:
    return method(channel, **more) + header(len(text), channel) + (body(text, channel) if text else b"")


def channels(*numbers: int) -> dict[int, Any]:
    return {number: SimpleNamespace(channel_id=number, callbacks={CONSUMER: print}) for number in numbers or (1,)}


def by_py_amqp(data: bytes) -> list[Any]:
    """What py-amqp makes of these frames: the arguments of the method, and the message."""
    found: list[Any] = []
    handle = frame_handler(
        SimpleNamespace(bytes_recv=0), lambda channel, sig, payload, content: found.append((payload, content))
    )
    while data:
        kind, channel, size = struct.unpack_from(">BHI", data)
        handle((kind, channel, data[7:7 + size]))
        data = data[8 + size:]
    return found


def test_the_same_as_py_amqp_makes_of_it() -> None:
    data = whole() + whole(b"", tag=8)
    messages, size = take(data, channels(), 10)
    assert size == len(data) and len(messages) == 2
    for message, (_, theirs) in zip(messages, by_py_amqp(data), strict=True):
        assert message.properties == theirs.properties
        assert message.body in (theirs.body, b"")  # py-amqp has a text where there is none
        assert message.channel.channel_id == 1
    assert messages[0].body == b"abc" and messages[1].body == b""
    assert messages[0].delivery_info == {
        "consumer_tag": CONSUMER, "delivery_tag": 7, "redelivered": True, "exchange": "x", "routing_key": "kü",
    }
    assert messages[0].properties["application_headers"] == HEADERS


def test_no_more_than_asked_for_and_several_channels() -> None:
    data = whole() + whole(b"d", channel=2) + whole(b"e")
    messages, size = take(data, channels(1, 2), 2)
    assert [message.body for message in messages] == [b"abc", b"d"]
    assert [message.channel.channel_id for message in messages] == [1, 2]
    assert data[size:] == whole(b"e")


def test_a_message_that_is_cut_anywhere_waits() -> None:
    first, second = whole(), whole(b"second", tag=8)
    for end in range(len(second)):
        messages, size = take(first + second[:end], channels(), 10)
        assert (len(messages), size) == (1, len(first)), end
        assert take(second[:end], channels(), 10) == ([], 0), end


@pytest.mark.parametrize("data", [
    b"",
    frame(8, 0, b""),  # a heartbeat
    frame(1, 1, b"\0\x3c\0\x15\0"),  # another method
    header(3) + body(b"abc"),  # py-amqp has the method already
    method() + header(6) + body(b"abc") + body(b"def"),  # two body frames
    method() + frame(8, 0, b"") + header(3) + body(b"abc"),
    method() + header(3, channel=2) + body(b"abc"),
    whole(consumer="another"),
    whole(channel=3),
    whole(routing_key=b"\xff"),
    method() + frame(2, 1, struct.pack(">HHQ", 60, 0, 3) + b"\0\x80\1\xff") + body(b"abc"),  # its id is no UTF-8
    whole()[:-1] + b"\0",
])
def test_all_else_is_left_to_py_amqp(data: bytes) -> None:
    assert take(data, channels(), 10) == ([], 0)


def connection_with(data: bytes, of: Any, reads_fast: bool) -> WakingConnection:
    """A connection that has received ``data``, without a broker."""
    connection = object.__new__(WakingConnection)
    connection._reads_ahead, connection._reads_fast = True, reads_fast
    connection._amqp = SimpleNamespace(
        transport=SimpleNamespace(_read_buffer=data, _quick_recv=lambda size: b""), channels=of, bytes_recv=0
    )
    return connection


@pytest.mark.parametrize(("reads_fast", "taken"), [(True, 1), (False, 0)])
def test_option_switches_it_off(reads_fast: bool, taken: int) -> None:
    of = channels()
    of[1].is_closing = False
    connection = connection_with(whole(), of, reads_fast)
    assert connection._take_deliveries(10) == taken
    assert bool(connection._amqp.transport._read_buffer) is not reads_fast


def test_py_amqp_reads_what_is_not_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    fallbacks = Fallbacks()
    monkeypatch.setattr("bridges.amqp.consuming.waking.FALLBACKS", fallbacks)
    connection = connection_with(whole(), None, True)
    assert [connection._take_deliveries(10), connection._take_deliveries(10)] == [0, 0]
    assert connection._amqp.transport._read_buffer == whole()
    assert fallbacks.count == 1
