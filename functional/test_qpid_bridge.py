"""The bridge to Qpid Broker-J, and what is different there from RabbitMQ."""

import gzip
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pika
import pytest
from pika.spec import BasicProperties

from bridges.amqp import AMQPBridge
from bridges.amqp.consuming import connection as consuming_connection
from bridges.amqp.dialects.qpid import TTL
from bridges.amqp.naming import beside
from bridges.base import Envelope
from bridges.bridging import Binding
from bridges.errors import (
    BrokerRefused,
    ExchangeMissing,
    MessageTooLarge,
    QueueFull,
    QueueMissing,
    SourceUnreadable,
    Unroutable,
)
from bridges.suite import BridgeSuite, bodies, consuming, drain, envelopes, together
from functional.services.qpid import Qpid
from functional.test_amqp_bridge import SETTLED, break_off, made, opened
from functional.wait import wait_until

#: Messages that wait while some of them are in other hands, and rounds in which time is taken.
MANY, ROUNDS = 60, 30

#: Seconds in which all those rounds are done; each waits in vain if it waits for what others hold.
QUICKLY = ROUNDS * 0.04

#: Bytes of the largest message that the broker takes, as it has it when nobody changes it.
LARGEST = 100 * 1024 * 1024

#: Channels that a connection may have.
CHANNEL_MAX = 256

#: Seconds after which the broker closes a channel that publishes while it is stopped, and some more.
UNTIL_CLOSED = 6.0

Connect = Callable[[], pika.BlockingConnection]


@pytest.fixture
def bridge(qpid: Qpid) -> Iterator[AMQPBridge]:
    with opened(qpid.uri) as bridge:
        yield bridge


@pytest.fixture
def queue(qpid: Qpid, bridge: AMQPBridge) -> Iterator[str]:
    name = f"marconi.test.{uuid4().hex}"
    bridge.create(name)
    yield name
    with qpid.connect() as connection, opened(qpid.uri) as cleaner:  # a test may have closed the bridge
        if cleaner.exists(name):
            connection.channel().queue_delete(name)


@pytest.fixture
def connect(qpid: Qpid) -> Iterator[Connect]:
    """Open native connections: `connect()`."""
    opened: list[pika.BlockingConnection] = []

    def connect() -> pika.BlockingConnection:
        opened.append(qpid.connect())
        return opened[-1]

    yield connect
    for connection in opened:
        if connection.is_open:
            connection.close()


class TestQpid(BridgeSuite):
    """The promises of every bridge."""

    @pytest.fixture
    def other(self, qpid: Qpid) -> Iterator[AMQPBridge]:
        with opened(qpid.uri) as bridge:
            yield bridge

    def lose(self, bridge: AMQPBridge, batch: Any) -> None:
        break_off(bridge, batch)


# -- messages ---------------------------------------------------------------------------------------------------


def test_native_consumer_reads_when_a_message_ends(bridge: AMQPBridge, queue: str, connect: Connect) -> None:
    before = int(1000 * time.time())
    bridge.publish(queue, [Envelope(b'{"a":1}', "the-id", 60_000, 1_700_000_000, headers={"marconi-client": "c"})])
    channel = connect().channel()
    method, properties, body = channel.basic_get(queue)
    channel.basic_ack(method.delivery_tag)
    assert (body, properties.message_id, properties.timestamp) == (b'{"a":1}', "the-id", 1_700_000_000)
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert before + 60_000 <= int(properties.expiration) <= int(1000 * time.time()) + 60_000
    assert properties.headers == {"marconi-client": "c", TTL: "60000"}


@pytest.mark.parametrize("limit", [1, 10])
def test_bridge_reads_what_a_native_producer_publishes(
    bridge: AMQPBridge, queue: str, connect: Connect, limit: int
) -> None:
    channel = connect().channel()
    channel.confirm_delivery()
    now = int(time.time())
    headers = {"text": "x", "number": 7, "nested": {"list": [1, "two", None, True]}}
    channel.basic_publish("", queue, b"bare")
    channel.basic_publish("", queue, b"\xff\x00", BasicProperties(
        content_type="image/png", content_encoding="gzip", expiration=str(1000 * now + 60_000), message_id="their id",
        timestamp=now, headers=headers, priority=3, correlation_id="c", reply_to="r", type="t", app_id="a",
        user_id="guest", delivery_mode=1,
    ))
    assert drain(bridge, queue, limit) == [
        Envelope(b"bare", content_type=None),
        Envelope(b"\xff\x00", "their id", 60_000, now, "image/png", "gzip", headers, 3, "c", "r", "t", "a"),
    ]


def test_broker_decompresses_gzip_alone_and_only_what_is_gzip(bridge: AMQPBridge, queue: str) -> None:
    packed = gzip.compress(b"text")
    bridge.publish(queue, [
        Envelope(packed, content_encoding="gzip"), Envelope(packed[:-9], content_encoding="gzip"),
        Envelope(packed, content_encoding="x-gzip"), Envelope(packed, headers={"compression": "application/x-gzip"}),
    ])
    received = [(envelope.body, envelope.content_encoding) for envelope in drain(bridge, queue)]
    assert received == [(b"text", None), (packed[:-9], "gzip"), (packed, "x-gzip"), (packed, None)]


def test_message_past_its_time_is_gone(bridge: AMQPBridge, queue: str) -> None:
    bridge.publish(queue, [Envelope(b"short", ttl=100), Envelope(b"long", ttl=60_000)])
    time.sleep(0.2)
    assert bodies(drain(bridge, queue)) == ["long"]


@pytest.mark.parametrize("count", [1, 3])
def test_message_that_is_too_large_is_refused_with_the_limit(bridge: AMQPBridge, queue: str, count: int) -> None:
    sent = [*envelopes(*"ab"[:count - 1]), Envelope(bytes(LARGEST + 1))]
    with pytest.raises(MessageTooLarge) as caught:
        bridge.publish(queue, sent)
    assert caught.value.limit == LARGEST
    assert drain(bridge, queue) == []
    with pytest.raises(MessageTooLarge, match=str(LARGEST)):  # remembered
        bridge.publish(queue, sent)


# -- what others hold -------------------------------------------------------------------------------------------


def test_nothing_is_in_hand_when_the_broker_counts_nothing(bridge: AMQPBridge, queue: str) -> None:
    """It counts what waits and what is in hand together, so that of some of them it can't be told."""
    assert bridge.in_hand(queue) == 0
    bridge.publish(queue, envelopes("1"))
    assert bridge.in_hand(queue) is None
    batch = bridge.fetch(queue, 1)
    assert bridge.in_hand(queue) is None
    bridge.settle(batch)
    wait_until(lambda: bridge.in_hand(queue) == 0, SETTLED, "the acknowledgement")
    assert bridge.in_hand(f"{queue}-missing") == 0


def test_fetch_does_not_wait_for_what_others_hold(qpid: Qpid, bridge: AMQPBridge, queue: str) -> None:
    """The broker's count of a queue has it in it."""
    posted = [f"{number:03}" for number in range(MANY)]
    bridge.publish(queue, envelopes(*posted))
    with opened(qpid.uri) as other:
        held = other.fetch(queue, MANY - ROUNDS)
        assert bridge.depth(queue) == MANY
        got: list[str] = []
        start = time.monotonic()
        for _ in range(ROUNDS // 3):
            batch = bridge.fetch(queue, 50)
            bridge.requeue(batch)
            batch = bridge.fetch(queue, 3)
            got += bodies(batch.envelopes)
            bridge.settle(batch)
        for _ in range(ROUNDS):
            assert bridge.fetch(queue, 10).envelopes == []
        assert time.monotonic() - start < 2 * QUICKLY
        assert got == posted[-ROUNDS:]
        other.requeue(held)
        assert bodies(drain(bridge, queue)) == posted[:-ROUNDS]


def test_what_is_published_while_a_batch_is_in_hand_goes_to_others(qpid: Qpid, bridge: AMQPBridge, queue: str) -> None:
    bridge.publish(queue, envelopes("a", "b", "c"))
    with opened(qpid.uri) as other:
        held = other.fetch(queue, 1)
        batch = bridge.fetch(queue, 10)
        assert bodies(batch.envelopes) == ["b", "c"]
        bridge.publish(queue, envelopes("d"))
        assert bodies(drain(other, queue)) == ["d"]
        other.settle(held)
        bridge.settle(batch)


def test_unsettled_messages_are_given_back_when_a_connection_breaks(
    qpid: Qpid, bridge: AMQPBridge, queue: str
) -> None:
    bridge.publish(queue, envelopes("a", "b", "c"))
    with opened(qpid.uri) as dying:
        batch = dying.fetch(queue, 2)
        assert bodies(batch.envelopes) == ["a", "b"]
        dying._fetchers.drop(batch.fetcher)  # type: ignore[attr-defined]
    seen: list[Envelope] = []
    wait_until(lambda: len(_looked(bridge, queue, seen)) == 3, SETTLED, "the messages to be back")
    assert bodies(drain(bridge, queue)) == ["a", "b", "c"]


def test_lock_of_a_queue_in_order_goes_with_it(bridge: AMQPBridge, queue: str) -> None:
    bridge.create(fifo := f"{queue}.fifo", in_order=True)
    bridge.publish(fifo, envelopes("a"))
    assert bodies(drain(bridge, fifo, in_order=True)) == ["a"]
    assert bridge.exists(beside(fifo, "lock"))
    bridge.delete(fifo)
    assert not bridge.exists(beside(fifo, "lock"))


def test_any_queue_is_adopted_for_order(qpid: Qpid, bridge: AMQPBridge, queue: str, connect: Connect) -> None:
    bridge.create(queue, in_order=True)
    channel = connect().channel()
    for body in (b"a", b"b"):
        channel.basic_publish("", queue, body)
    wait_until(lambda: bridge.depth(queue) == 2, SETTLED, "the native messages")
    bridge.publish(queue, envelopes("c"))
    batch = bridge.fetch(queue, 2, in_order=True)
    assert bodies(batch.envelopes) == ["a", "b"]
    with opened(qpid.uri) as other:
        assert other.fetch(queue, 10, in_order=True).envelopes == []
        bridge.requeue(batch)
        assert bodies(drain(other, queue, in_order=True)) == ["a", "b", "c"]


def _looked(bridge: AMQPBridge, queue: str, seen: list[Envelope], limit: int = 100) -> list[Envelope]:
    seen.clear()
    bridge.peek(queue, limit, lambda envelope: seen.append(envelope) is None)
    return seen


# -- queues that are not there, or are full ---------------------------------------------------------------------


def test_queue_that_is_deleted_again_and_again_is_an_empty_one_or_missing(qpid: Qpid, bridge: AMQPBridge) -> None:
    """A get from a queue that there is not closes the connection; so does one that is deleted at that moment."""
    name = f"marconi.test.{uuid4().hex}"
    with opened(qpid.uri) as other:

        def make_and_delete() -> None:
            for _ in range(40):
                other.create(name)
                other.delete(name)

        def fetch() -> int:
            return sum(len(bridge.fetch(name, limit).envelopes) for limit in (1, 10) for _ in range(60))

        assert together(make_and_delete, fetch, fetch) == [None, 0, 0]
    assert not bridge.exists(name)


def test_full_queue_is_no_missing_one(bridge: AMQPBridge, queue: str, connect: Connect) -> None:
    full, exchange = f"full-{uuid4().hex}", f"x-{uuid4().hex}"
    channel = connect().channel()
    channel.queue_declare(
        full, durable=True, arguments={"maximumQueueDepthMessages": 2, "overflowPolicy": "REJECT"}
    )
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.queue_bind(full, exchange, "full")
    channel.queue_bind(queue, exchange, "free")
    for _ in range(3):
        with pytest.raises(QueueFull) as caught:
            bridge.publish(full, envelopes("a", "b", "c", "d"))
        bridge.publish(queue, envelopes("e"))  # what the broker has said of one batch is not taken for the next one
        with pytest.raises(Unroutable):
            bridge.publish_to(exchange, "nowhere", envelopes("f"), mandatory=True)
        with pytest.raises(QueueFull):
            bridge.publish_to(exchange, "full", envelopes("g"), mandatory=True)
        bridge.publish_to(exchange, "free", envelopes("h"), mandatory=True)
        bridge.publish_to(exchange, "nowhere", envelopes("i"), mandatory=False)
    assert not caught.value.partly
    assert bridge.connections() == 2
    assert bodies(drain(bridge, queue)) == ["e", "h"] * 3
    assert bodies(drain(bridge, full)) == ["a", "b"]
    channel.queue_delete(full)
    channel.exchange_delete(exchange)


def test_queue_that_stops_its_publishers_stops_no_others(bridge: AMQPBridge, queue: str, connect: Connect) -> None:
    """It asks by channel.flow, and closes channels that go on after five seconds."""
    slow = f"slow-{uuid4().hex}"
    channel = connect().channel()
    channel.queue_declare(slow, durable=True, arguments={
        "maximumQueueDepthMessages": 2, "overflowPolicy": "PRODUCER_FLOW_CONTROL",
    })
    bridge.publish(slow, envelopes("a", "b", "c"))
    start, count = time.monotonic(), 0
    while time.monotonic() - start < UNTIL_CLOSED:
        bridge.publish(queue, envelopes("free"))
        bridge.publish(slow, envelopes("more"))
        bridge.ping()
        count += 1
        time.sleep(0.2)
    assert bodies(drain(bridge, queue)) == ["free"] * count
    assert len(drain(bridge, slow, 50)) == 3 + count
    channel.queue_delete(slow)


# -- queues and exchanges of others -----------------------------------------------------------------------------


def test_look_takes_nothing_and_marks_nothing(bridge: AMQPBridge, queue: str, connect: Connect) -> None:
    bridge.publish(queue, envelopes(*"abcde"))
    seen: list[Envelope] = []
    for limit in (3, 5, 100, 1):
        assert bodies(_looked(bridge, queue, seen, limit)) == list("abcde")[:limit]
    assert not any(envelope.redelivered for envelope in drain(bridge, queue))
    assert connect().channel().queue_declare(queue, passive=True).method.consumer_count == 0


def test_look_at_a_queue_that_ends_with_its_last_consumer_leaves_it(bridge: AMQPBridge, connect: Connect) -> None:
    name = f"auto-{uuid4().hex}"
    channel = connect().channel()
    channel.queue_declare(name, auto_delete=True)
    bridge.publish(name, envelopes("a", "b"))
    seen: list[Envelope] = []
    assert bodies(_looked(bridge, name, seen)) == ["a", "b"]
    bridge.peek(name, 10, lambda envelope: False)
    batch = bridge.fetch_foreign(name, 1)
    assert bodies(batch.envelopes) == ["a"]
    bridge.settle(batch)
    batch = bridge.fetch_foreign(name, 5)
    assert bodies(batch.envelopes) == ["b"]
    bridge.settle(batch)
    assert bridge.exists(name)
    channel.queue_delete(name)


def test_source_that_is_not_there_is_not_created_by_asking(bridge: AMQPBridge) -> None:
    name = f"missing-{uuid4().hex}"
    bridge.check_source(name)
    assert bridge.fetch_foreign(name, 5).envelopes == []
    bridge.peek(name, 5, lambda envelope: pytest.fail("there is nothing to see"))
    assert not bridge.exists(name)


def test_exclusive_queue_is_unreadable(bridge: AMQPBridge, connect: Connect) -> None:
    name = f"exclusive-{uuid4().hex}"
    connect().channel().queue_declare(name, exclusive=True)
    with pytest.raises(SourceUnreadable, match="another connection"):
        bridge.check_source(name)
    with pytest.raises(SourceUnreadable, match="another connection"):
        bridge.exists(name)


def test_queue_with_an_exclusive_consumer_is_refused_with_advice(
    bridge: AMQPBridge, queue: str, connect: Connect
) -> None:
    bridge.publish(queue, envelopes("a"))
    connect().channel().basic_consume(queue, lambda *_: None, exclusive=True)
    with pytest.raises(BrokerRefused, match="bridge a queue that is not exclusive"):
        bridge.fetch_foreign(queue, 1)


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout", "headers"])
def test_exchange_is_bound_if_it_is_of_the_type(
    bridge: AMQPBridge, queue: str, connect: Connect, kind: str
) -> None:
    channel = connect().channel()
    name = f"x-{uuid4().hex}"
    arguments: dict[str, Any] = {"x-match": "all", "colour": "red"} if kind == "headers" else {}
    binding = Binding(name, ("key",) if kind in ("direct", "topic") else (), arguments, kind)
    bridge.check_exchange(binding)
    with pytest.raises(ExchangeMissing):
        bridge.bind(queue, binding)
    channel.exchange_declare(name, kind, durable=True)
    bridge.check_exchange(binding)
    for _ in range(2):
        bridge.bind(queue, binding)
    channel.confirm_delivery()
    channel.basic_publish(name, "key", b"hit", BasicProperties(headers={"colour": "red"}), mandatory=True)
    assert bodies(drain(bridge, queue)) == ["hit"]
    other = "fanout" if kind != "fanout" else "topic"
    with pytest.raises(SourceUnreadable, match=f"{name} is {kind}, not {other}"):
        bridge.check_exchange(Binding(name, (), {}, other))
    bridge.publish(queue, envelopes("a"))
    assert bodies(drain(bridge, queue)) == ["a"]
    channel.exchange_delete(name)


def test_exchange_is_declared_where_it_is_missing(bridge: AMQPBridge, queue: str, connect: Connect) -> None:
    name = f"x-{uuid4().hex}"
    for durable in (True, False):
        bridge.bind(queue, Binding(name, ("#",), {}, "topic", declare=True, durable=durable))
    bridge.publish_to(name, "any.key", envelopes("a"), mandatory=True)
    assert bodies(drain(bridge, queue)) == ["a"]
    with pytest.raises(ExchangeMissing):
        bridge.publish_to(f"no-{name}", "k", envelopes("b"), mandatory=True)
    connect().channel().exchange_delete(name)


@pytest.mark.parametrize(
    ("change", "advice"),
    [(("guest:guest", "guest:wrong"), "authentication provider"), (("%2F", "nowhere"), "the virtual host")],
    ids=["password", "virtual host"],
)
def test_refused_connection_says_what_to_do(qpid: Qpid, change: tuple[str, str], advice: str) -> None:
    with opened(qpid.uri.replace(*change)) as bridge, pytest.raises(BrokerRefused, match=advice) as caught:
        bridge.ping()
    assert "rabbitmqctl" not in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_queue_of_either_type_is_the_same(qpid: Qpid) -> None:
    for queue_type in ("quorum", "classic"):
        with opened(qpid.uri, queue_type=queue_type) as bridge, made(bridge) as queue:
            bridge.publish(queue, envelopes("a"))
            assert bodies(drain(bridge, queue)) == ["a"]


# -- copies and consumers ---------------------------------------------------------------------------------------


def test_native_producer_reaches_queue_and_copies_by_an_exchange(
    bridge: AMQPBridge, queue: str, connect: Connect
) -> None:
    bridge.add_copy(queue, f"{queue}.1")
    channel = connect().channel()
    channel.confirm_delivery()
    channel.basic_publish(f"{queue}.~in", "any", b"by the exchange")
    channel.basic_publish("", queue, b"past it")
    assert bodies(drain(bridge, queue)) == ["by the exchange", "past it"]
    assert bodies(drain(bridge, f"{queue}.1")) == ["by the exchange"]
    bridge.remove_copy(queue, f"{queue}.1")


def test_without_the_exchange_for_copies_nothing_is_enqueued(bridge: AMQPBridge, queue: str, connect: Connect) -> None:
    bridge.add_copy(queue, f"{queue}.1")
    connect().channel().exchange_delete(f"{queue}.~copies")
    for batch in ("a", "bc"):
        with pytest.raises(QueueMissing):
            bridge.publish(queue, envelopes(*batch), copied=True)
    bridge.add_copy(queue, f"{queue}.1")
    bridge.publish(queue, envelopes("d"), copied=True)
    assert bodies(drain(bridge, queue)) == bodies(drain(bridge, f"{queue}.1")) == ["d"]
    bridge.remove_copy(queue, f"{queue}.1")


def test_more_queues_than_channels_are_on_several_connections(
    bridge: AMQPBridge, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming_connection, "SPARE_CHANNELS", CHANNEL_MAX - 2)
    names = [f"{queue}.{number}" for number in range(5)]
    for name in names:
        bridge.create(name)
    with consuming(bridge, 2, *names) as inbox:
        for name in names:
            bridge.publish(name, envelopes(*"abc"))
        inbox.wait(10)
        assert [inbox.bodies(name) for name in names] == [["a", "b"]] * 5
        for delivery in inbox.arrived():
            inbox.consumer.settle(delivery)
        inbox.wait(15)
    for name in names:
        bridge.delete(name)


def test_consumer_whose_connection_breaks_gets_the_unsettled_again(
    bridge: AMQPBridge, queue: str
) -> None:
    bridge.publish(queue, envelopes("a", "b"))
    with consuming(bridge, 1, queue) as inbox:
        (first,) = inbox.expect("a")
        first.tag.connection._amqp.transport.sock.shutdown(socket.SHUT_RDWR)
        _, again = inbox.wait(2)
        assert (again.envelope.body, again.envelope.redelivered) == (b"a", True)
        inbox.consumer.settle(first)
        inbox.consumer.settle(again)
        inbox.expect("a", "a", "b")
