"""What is published to a queue and its copies, as it goes over the wire, and what becomes of it."""

import time
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from amqp.exceptions import NotFound

from bridges.amqp.dialects.qpid import Qpid
from bridges.amqp.dialects.rabbitmq import RabbitMQ
from bridges.amqp.naming import beside
from bridges.amqp.publisher import Publisher
from bridges.base import Envelope
from bridges.errors import QueueFull, QueueMissing, Unroutable
from tests.test_amqp_deadlines import FakeConnection, bridge_with

TWO = [Envelope(b"1"), Envelope(b"2")]


def publisher(*nacked: int, returned: int = 0) -> Any:
    """A publisher whose broker confirms everything but these tags, and returns so many messages."""
    publisher = Publisher.__new__(Publisher)
    publisher.dialect = RabbitMQ()
    publisher.blocked, publisher._published = False, 0
    publisher.channel = SimpleNamespace(channel_id=1)
    written: list[bytes] = []
    publisher._amqp = SimpleNamespace(
        frame_max=131072, bytes_sent=0, transport=SimpleNamespace(write=written.append)
    )

    def await_confirms(deadline: float) -> None:
        for _ in range(returned):
            publisher._on_return(SimpleNamespace(reply_code=312), "", "q", None)  # type: ignore[arg-type]
        for tag in sorted(publisher._unconfirmed):
            (publisher._on_nack if tag in nacked else publisher._on_ack)(tag, False)

    publisher._await_confirms = await_confirms  # type: ignore[method-assign]
    publisher.written = written  # type: ignore[attr-defined]
    return publisher


def publishes(data: bytes) -> list[tuple[str, str, bool, bytes]]:
    """Exchange, routing key, mandatory, and body of what is published."""
    found: list[Any] = []
    while data:
        used, frame = pika.frame.decode_frame(data)
        data = data[used:]
        if isinstance(frame, pika.frame.Method):
            found.append([frame.method.exchange, frame.method.routing_key, frame.method.mandatory])
        elif isinstance(frame, pika.frame.Body):
            found[-1].append(frame.fragment)
    return [tuple(one) for one in found]


def test_copies_come_first_in_the_same_write_and_may_reach_nobody() -> None:
    ours = publisher()
    ours.publish("", "q", TWO, 0.0, True, "q.~copies")
    (data,) = ours.written
    assert publishes(data) == [
        ("q.~copies", "", False, b"1"), ("q.~copies", "", False, b"2"), ("", "q", True, b"1"), ("", "q", True, b"2"),
    ]
    assert (ours._published, ours._unconfirmed) == (4, set())
    ours.publish("", "q", TWO, 0.0, True)
    assert publishes(ours.written[1]) == [("", "q", True, b"1"), ("", "q", True, b"2")]
    assert ours._published == 6


def test_what_any_queue_does_not_take_is_no_success() -> None:
    with pytest.raises(QueueFull, match="1 of 4") as caught:
        publisher(2).publish("", "q", TWO, 0.0, True, "q.~copies")
    assert caught.value.partly
    with pytest.raises(Unroutable, match="2 of 2"):
        publisher(returned=2).publish("", "q", TWO, 0.0, True, "q.~copies")


def test_missing_exchange_is_a_missing_queue() -> None:
    bridge = bridge_with(lambda _: FakeConnection(error=NotFound("no exchange 'q.~copies'")))
    start = time.monotonic()
    with pytest.raises(QueueMissing, match="^q$"):
        bridge.publish("q", TWO[:1], copied=True)
    assert time.monotonic() - start < bridge.timeout


def test_exchange_for_native_producers_has_a_name_that_hides_no_queue() -> None:
    assert (RabbitMQ().native_exchange("q"), Qpid().native_exchange("q")) == ("q", "q.~in")


@pytest.mark.parametrize("length", [1, 200, 255])
def test_exchanges_of_a_queue_have_names_that_no_queue_has(length: int) -> None:
    queues = ["q" * length, "r" + "q" * (length - 1)]
    names = {beside(queue, purpose) for queue in queues for purpose in ("copies", "in")}
    assert len(names) == 4
    assert all(len(name) <= 255 and "~" in name for name in names)
