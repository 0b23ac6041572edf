"""The bridge to RabbitMQ, with quorum and with classic queues."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pika
import pytest
from pika.spec import BasicProperties

from bridges.amqp import AMQPBridge, fetcher, fetching, vhosts
from bridges.amqp.dialects.rabbitmq import RabbitMQ as Dialect
from bridges.base import Envelope
from bridges.errors import BridgeUnavailable, BrokerBlocked, BrokerRefused, OutcomeUnknown, QueueMissing
from bridges.suite import BridgeSuite, bodies, consuming, drain, envelopes, together
from functional.services.ports import free_port
from functional.services.rabbitmq import RabbitMQ
from functional.wait import wait_until

#: Seconds for the broker to notice, count, or finish something.
SETTLED = 15.0

#: Seconds that a call may take in tests that wait for the timeout, and what a slow machine may add to it.
SHORT_TIMEOUT = 0.5
MARGIN = 2.0

#: Seconds between heartbeats, and how long an idle connection has to live: RabbitMQ drops it after two missed ones.
HEARTBEAT = 2
IDLE = 4 * HEARTBEAT

#: As RabbitMQ has it when nobody changes it.
USUAL_WATERMARK = "0.4"

Connect = Callable[[], pika.BlockingConnection]


def options(**changed: Any) -> SimpleNamespace:
    """The `[bridge]` options with their defaults."""
    defaults = {option.dest: option.default for option in AMQPBridge.OPTS}
    return SimpleNamespace(**defaults | changed)


@contextmanager
def opened(uri: str, **changed: Any) -> Iterator[AMQPBridge]:
    bridge = AMQPBridge(uri, options(**changed))
    yield bridge
    bridge.close()


@contextmanager
def made(bridge: AMQPBridge) -> Iterator[str]:
    """A new queue."""
    name = f"marconi.test.{uuid4().hex}"
    bridge.create(name)
    yield name
    bridge.delete(name)


def break_off(bridge: AMQPBridge, batch: Any) -> None:
    """The connection of a batch is gone, without a word."""
    fetcher, batch.fetcher = batch.fetcher, None
    fetcher._amqp.transport.sock.shutdown(socket.SHUT_RDWR)
    bridge._fetchers.drop(fetcher)


def without_count(headers: Mapping[str, Any]) -> dict[str, Any]:
    """What the producer has set: quorum queues add how often they have delivered a message."""
    return {name: value for name, value in headers.items() if name not in Dialect.delivery_headers}


class AMQPSuite(BridgeSuite):
    """The promises of every bridge, and those of this one, for one type of queues."""

    queue_type = ""

    @pytest.fixture
    def bridge(self, rabbitmq: RabbitMQ) -> Iterator[AMQPBridge]:
        with opened(rabbitmq.uri, queue_type=self.queue_type) as bridge:
            yield bridge

    @pytest.fixture
    def other(self, rabbitmq: RabbitMQ) -> Iterator[AMQPBridge]:
        with opened(rabbitmq.uri, queue_type=self.queue_type) as bridge:
            yield bridge

    @pytest.fixture
    def queue(self, rabbitmq: RabbitMQ, bridge: AMQPBridge) -> Iterator[str]:
        name = f"marconi.test.{uuid4().hex}"
        bridge.create(name)
        yield name
        with rabbitmq.connect() as connection:  # a test may have closed the bridge
            connection.channel().queue_delete(name)

    def lose(self, bridge: AMQPBridge, batch: Any) -> None:
        break_off(bridge, batch)

    def test_consumer_stays_while_its_messages_are_in_hand(
        self, rabbitmq: RabbitMQ, bridge: AMQPBridge, queue: str
    ) -> None:
        """When a node dies RabbitMQ 3.10 does not give back what a consumer had that was cancelled on it."""
        bridge.publish(queue, envelopes(*"abcdefg"))
        with rabbitmq.connect() as connection:
            channel = connection.channel()

            def consumers() -> int:
                return int(channel.queue_declare(queue, passive=True).method.consumer_count)

            for end in (bridge.requeue, bridge.settle):
                batch = bridge.fetch(queue, 6)
                assert (len(batch.envelopes), consumers()) == (6, 1)
                end(batch)
                wait_until(lambda: consumers() == 0, SETTLED, "the consumer to go")
        assert bodies(drain(bridge, queue)) == ["g"]

    def test_messages_that_came_too_late_for_a_batch_are_the_next_ones(
        self, rabbitmq: RabbitMQ, bridge: AMQPBridge, queue: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A busy broker may be slow to deliver what it has assigned; another gateway fetches right after that."""

        class Late(fetcher._Counted):
            def __call__(self, message: Any) -> None:
                if self.count < 4:
                    super().__call__(message)

        got: list[str] = []
        with opened(rabbitmq.uri, queue_type=self.queue_type) as other:
            other.publish(queue, envelopes(*map(str, range(70))))
            for _ in range(10):
                for each in bridge, other:
                    with monkeypatch.context() as patched:
                        patched.setattr(fetcher, "_Counted", Late)
                        batch = each.fetch(queue, 7)
                    got += bodies(batch.envelopes)
                    each.settle(batch)
        assert got == [str(number) for number in range(len(got))]
        assert len(got) >= 40

    def test_queue_is_durable_and_of_the_configured_type(self, rabbitmq: RabbitMQ, queue: str) -> None:
        rows = rabbitmq.ctl("list_queues", "name", "type", "durable", "auto_delete", "--no-table-headers")
        assert f"{queue}\t{self.queue_type}\ttrue\tfalse" in rows.splitlines()

    def test_unsettled_messages_are_given_back_when_the_bridge_closes(
        self, rabbitmq: RabbitMQ, bridge: AMQPBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes("a", "b", "c"))
        with opened(rabbitmq.uri) as dying:
            batch = dying.fetch(queue, 2)
            assert bodies(batch.envelopes) == ["a", "b"]
            dying._fetchers.drop(batch.fetcher)  # type: ignore[attr-defined]
        wait_until(lambda: bridge.depth(queue) == 3, SETTLED, "the messages to be back")
        assert bodies(drain(bridge, queue)) == ["a", "b", "c"]

    def test_native_consumer_reads_what_the_bridge_publishes(
        self, bridge: AMQPBridge, queue: str, pika_connection: Connect
    ) -> None:
        sent = Envelope(b'{"a":1}', "the-id", 60_000, 1_700_000_000, headers={"marconi-client": "client"})
        bridge.publish(queue, [sent])
        channel = pika_connection().channel()
        method, properties, body = channel.basic_get(queue)
        channel.basic_ack(method.delivery_tag)
        assert body == b'{"a":1}'
        assert (properties.message_id, properties.expiration, properties.timestamp) == (
            "the-id", "60000", 1_700_000_000,
        )
        assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
        assert without_count(properties.headers) == {"marconi-client": "client"}

    @pytest.mark.parametrize("limit", [1, 10])
    def test_bridge_reads_what_a_native_producer_publishes(
        self, bridge: AMQPBridge, queue: str, pika_connection: Connect, limit: int
    ) -> None:
        channel = pika_connection().channel()
        headers = {"text": "x", "number": 7, "nested": {"list": [1, "two", None, True]}}
        channel.basic_publish("", queue, b"bare")
        channel.basic_publish("", queue, b"\xff\x00", BasicProperties(
            content_type="image/png", content_encoding="gzip", expiration="60000", message_id="their id",
            timestamp=1_700_000_000, headers=headers, priority=3, correlation_id="c", reply_to="r", type="t",
            app_id="a", user_id="guest", delivery_mode=1,
        ))
        wait_until(lambda: bridge.depth(queue) == 2, SETTLED, "both messages")
        got = drain(bridge, queue, limit)
        assert [replace(envelope, headers=without_count(envelope.headers)) for envelope in got] == [
            Envelope(b"bare", content_type=None),
            Envelope(
                b"\xff\x00", "their id", 60_000, 1_700_000_000, "image/png", "gzip", headers, 3, "c", "r", "t", "a"
            ),
        ]

    def test_connections_that_the_broker_has_killed_are_replaced(
        self, rabbitmq: RabbitMQ, bridge: AMQPBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes("a"))
        assert bridge.depth(queue) in (0, 1)
        rabbitmq.ctl("close_all_connections", "a test")
        bridge.publish(queue, envelopes("b"))
        assert bodies(drain(bridge, queue)) == ["a", "b"]

    def test_batch_whose_connection_is_killed_comes_again(
        self, rabbitmq: RabbitMQ, bridge: AMQPBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        batch = bridge.fetch(queue, 2)
        rabbitmq.ctl("close_all_connections", "a test")
        # Whether a write to a closed connection fails at once is up to the network; nothing else may be raised.
        try:
            bridge.settle(batch)
        except BridgeUnavailable as error:
            assert "broker" in str(error)
        again = wait_until(lambda: drain(bridge, queue), SETTLED, "the messages to be back")
        assert bodies(again) == ["a", "b"]
        assert all(envelope.redelivered for envelope in again)

    def test_native_producer_reaches_queue_and_copies_by_the_exchange_of_the_queues_name(
        self, bridge: AMQPBridge, queue: str, pika_connection: Connect
    ) -> None:
        copy = f"{queue}.1"
        bridge.add_copy(queue, copy)
        channel = pika_connection().channel()
        channel.confirm_delivery()
        channel.basic_publish(queue, "any", b"by the exchange")
        channel.basic_publish("", queue, b"past it")
        assert bodies(drain(bridge, queue)) == ["by the exchange", "past it"]
        assert bodies(drain(bridge, copy)) == ["by the exchange"]
        bridge.delete(queue)
        for exchange in (queue, f"{queue}.~copies"):
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
                pika_connection().channel().exchange_declare(exchange, passive=True)
        bridge.create(queue)
        bridge.add_copy(queue, copy)
        channel.basic_publish(queue, "", b"again")
        assert bodies(drain(bridge, queue)) == bodies(drain(bridge, copy)) == ["again"]
        bridge.remove_copy(queue, copy)

    @pytest.mark.parametrize("count", [1, 3])
    def test_without_the_exchange_for_copies_nothing_is_enqueued(
        self, bridge: AMQPBridge, queue: str, pika_connection: Connect, count: int
    ) -> None:
        bridge.add_copy(queue, f"{queue}.1")
        pika_connection().channel().exchange_delete(f"{queue}.~copies")
        for _ in range(2):
            with pytest.raises(QueueMissing):
                bridge.publish(queue, envelopes(*"abc"[:count]), copied=True)
        bridge.add_copy(queue, f"{queue}.1")
        bridge.publish(queue, envelopes("d"), copied=True)
        assert bodies(drain(bridge, queue)) == bodies(drain(bridge, f"{queue}.1")) == ["d"]
        bridge.remove_copy(queue, f"{queue}.1")

    def test_consumer_whose_connection_is_killed_gets_the_unsettled_again(
        self, rabbitmq: RabbitMQ, bridge: AMQPBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes("a", "b", "c"))
        with consuming(bridge, 2, queue) as inbox:
            first, second = inbox.expect("a", "b")
            inbox.consumer.settle(first)
            inbox.wait(3)
            rabbitmq.ctl("close_all_connections", "a test")
            again = inbox.wait(5)[3:]
            assert bodies([delivery.envelope for delivery in again]) == ["b", "c"]
            assert all(delivery.envelope.redelivered for delivery in again)
            inbox.consumer.settle(second)  # it came over the connection that is gone
            inbox.consumer.settle(again[0])
            bridge.publish(queue, envelopes("d"))
            inbox.expect("a", "b", "c", "b", "c", "d")
        assert bodies(drain(bridge, queue)) == ["c", "d"]


    def test_no_consumer_is_left_of_a_fetch_in_order(self, rabbitmq: RabbitMQ, bridge: AMQPBridge, fifo: str) -> None:
        """It would have the queue, unseen, as soon as something comes."""
        with rabbitmq.connect() as connection:
            channel = connection.channel()

            def consumers() -> int:
                return int(channel.queue_declare(fifo, passive=True).method.consumer_count)

            assert bridge.fetch(fifo, 10, in_order=True).envelopes == []
            wait_until(lambda: consumers() == 0, SETTLED, "the consumer to go")
            bridge.publish(fifo, envelopes("a", "b", "c"))
            for end in (bridge.requeue, lambda batch: bridge.settle_others(batch, batch.envelopes[1:]), bridge.settle):
                batch = bridge.fetch(fifo, 10, in_order=True)
                bridge.publish(fifo, envelopes("late"))
                assert consumers() == 1
                end(batch)
                wait_until(lambda: consumers() == 0, SETTLED, "the consumer to go")

    def test_messages_of_native_producers_come_in_order(
        self, bridge: AMQPBridge, other: AMQPBridge, fifo: str, pika_connection: Connect
    ) -> None:
        channel = pika_connection().channel()
        channel.confirm_delivery()
        for number in range(6):
            if number % 2:
                bridge.publish(fifo, envelopes(str(number)))
            else:
                channel.basic_publish("", fifo, str(number).encode(), mandatory=True)
            if number == 3:
                bridge.requeue(bridge.fetch(fifo, 2, in_order=True))
        assert bodies(drain(other, fifo, 2, in_order=True)) == list("012345")

    def test_native_consumer_that_has_the_queue_keeps_the_gateway_out(
        self, bridge: AMQPBridge, fifo: str, pika_connection: Connect
    ) -> None:
        bridge.publish(fifo, envelopes("a", "b"))
        connection = pika_connection()
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        got: list[bytes] = []
        channel.basic_consume(fifo, lambda channel, method, properties, body: got.append(body))
        while not got:
            connection.process_data_events(SHORT_TIMEOUT)
        assert bridge.fetch(fifo, 10, in_order=True).envelopes == []
        connection.close()
        again = wait_until(lambda: drain(bridge, fifo, in_order=True), SETTLED, "the messages to be back")
        assert bodies(again) == ["a", "b"]


class TestQuorumQueues(AMQPSuite):
    queue_type = "quorum"


class TestClassicQueues(AMQPSuite):
    queue_type = "classic"


class TestAdoption:
    """Queues that are there already are used as they are."""

    @pytest.mark.parametrize(
        ("durable", "arguments"),
        [(True, {"x-queue-type": "classic", "x-max-length": 100}), (False, {}), (True, {"x-max-priority": 5})],
        ids=["limited", "transient", "priorities"],
    )
    def test_queue_with_other_arguments_is_adopted(
        self, rabbitmq: RabbitMQ, pika_connection: Connect, durable: bool, arguments: dict[str, Any]
    ) -> None:
        name = f"marconi.test.{uuid4().hex}"
        channel = pika_connection().channel()
        channel.queue_declare(name, durable=durable, arguments=arguments)
        with opened(rabbitmq.uri, queue_type="quorum") as bridge:
            bridge.create(name)
            bridge.publish(name, envelopes("a"))
            assert bodies(drain(bridge, name)) == ["a"]
            bridge.delete(name)

    @pytest.mark.parametrize("in_order", [False, True])
    @pytest.mark.parametrize("single", [{}, {"x-single-active-consumer": False}, {"x-single-active-consumer": True}])
    @pytest.mark.parametrize(
        ("durable", "arguments"),
        [
            (True, {"x-queue-type": "quorum", "x-delivery-limit": 1000}),
            (True, {"x-queue-type": "classic", "x-max-length": 100}),
            (False, {}),
        ],
        ids=["quorum", "limited", "transient"],
    )
    def test_queue_that_may_have_several_consumers_is_not_adopted_for_order(
        self, rabbitmq: RabbitMQ, pika_connection: Connect, durable: bool, arguments: dict[str, Any],
        single: dict[str, bool], in_order: bool,
    ) -> None:
        name = f"marconi.test.{uuid4().hex}"
        channel = pika_connection().channel()
        channel.queue_declare(name, durable=durable, arguments=arguments | single)
        with opened(rabbitmq.uri, queue_type="quorum") as bridge:
            if in_order and not any(single.values()):
                with pytest.raises(BrokerRefused, match="delete it, or declare it again with x-single-active-consumer"):
                    bridge.create(name, in_order=True)
                bridge.create(name)
            else:
                bridge.create(name, in_order)
                bridge.publish(name, envelopes("a", "b"))
                if in_order:
                    assert bodies(drain(bridge, name, in_order=True)) == ["a", "b"]
            bridge.delete(name)

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"x-queue-type": "quorum"}, "x-delivery-limit"),
            ({"x-queue-type": "quorum", "x-delivery-limit": 20}, "x-delivery-limit"),
            ({"x-queue-type": "classic", "x-max-priority": 5}, "x-max-priority"),
        ],
        ids=["no limit", "low limit", "priorities"],
    )
    def test_queue_that_drops_or_reorders_messages_is_not_adopted_for_order(
        self, rabbitmq: RabbitMQ, pika_connection: Connect, arguments: dict[str, Any], text: str
    ) -> None:
        name = f"marconi.test.{uuid4().hex}"
        pika_connection().channel().queue_declare(
            name, durable=True, arguments=arguments | {"x-single-active-consumer": True}
        )
        with opened(rabbitmq.uri, queue_type="quorum") as bridge:
            with pytest.raises(BrokerRefused, match=f"is there already.*{text}"):
                bridge.create(name, in_order=True)
            bridge.delete(name)

    def test_of_two_bridges_that_create_differently_both_work(self, rabbitmq: RabbitMQ) -> None:
        name = f"marconi.test.{uuid4().hex}"
        with (
            opened(rabbitmq.uri, queue_type="quorum") as quorum,
            opened(rabbitmq.uri, queue_type="classic") as classic,
        ):
            together(lambda: quorum.create(name), lambda: classic.create(name))
            quorum.publish(name, envelopes("a"))
            classic.publish(name, envelopes("b"))
            assert bodies(drain(classic, name)) == ["a", "b"]
            quorum.delete(name)


@pytest.mark.parametrize("fast", [True, False], ids=["past py-amqp", "by py-amqp"])
def test_confirms_are_read_either_way(rabbitmq: RabbitMQ, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    read_by_py_amqp: list[float | None] = []
    with opened(rabbitmq.uri, fast_confirms=fast) as bridge, made(bridge) as queue:
        bridge.publish(queue, envelopes("first"))
        (publisher,) = bridge._publishers._idle
        read = publisher._amqp.blocking_read
        monkeypatch.setattr(publisher._amqp, "blocking_read", lambda wait: read_by_py_amqp.append(wait) or read(wait))
        posted = [f"{number:03}" for number in range(200)]
        bridge.publish(queue, envelopes(*posted))
        assert bool(read_by_py_amqp) is not fast
        assert bridge.fallbacks() == 0
        assert bodies(drain(bridge, queue, 50)) == ["first", *posted]


class TestConnections:
    """What the bridge keeps open, and for how long."""

    def test_idle_connections_are_kept_alive(self, rabbitmq: RabbitMQ) -> None:
        with opened(rabbitmq.uri, heartbeat=HEARTBEAT) as bridge, made(bridge) as queue:
            bridge.publish(queue, envelopes("a"))
            ports = _client_ports(bridge)
            assert len(ports) == 2
            idle_since = time.monotonic()
            wait_until(lambda: time.monotonic() - idle_since > IDLE, 2 * IDLE, "several heartbeats")
            alive = rabbitmq.ctl("list_connections", "peer_port", "timeout", "--no-table-headers").splitlines()
            assert {f"{port}\t{HEARTBEAT}" for port in ports} <= set(alive)
            assert bodies(drain(bridge, queue)) == ["a"]
            assert _client_ports(bridge) == ports

    def test_connections_are_used_again(self, rabbitmq: RabbitMQ) -> None:
        with opened(rabbitmq.uri) as bridge, made(bridge) as queue:
            for _ in range(5):
                bridge.publish(queue, envelopes("a"))
                drain(bridge, queue)
            assert bridge.connections() == 2

    @pytest.mark.parametrize("vhost", [None, "poison"])
    def test_poison_of_the_only_connection_is_deposited_at_once(self, rabbitmq: RabbitMQ, vhost: str | None) -> None:
        """The batch that it is in holds the connection for fetching meanwhile."""
        if vhost is not None:
            rabbitmq.ctl("add_vhost", vhost)
            rabbitmq.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
        aside = f"marconi-poison.test.{uuid4().hex}"
        with opened(rabbitmq.uri, pool_size=1) as own, made(own.at(vhost)) as queue:
            bridge = own.at(vhost)
            bridge.publish(queue, envelopes("a", "b"))
            batch = bridge.fetch(queue, 2)
            start = time.monotonic()
            own.deposit(aside, batch.envelopes[:1])
            own.deposit(aside, batch.envelopes[1:])
            assert time.monotonic() - start < own.timeout / 2
            bridge.settle(batch)
            assert bodies(drain(own, aside)) == ["a", "b"]
            assert own._publishers.open == 1
            own.delete(aside)
        if vhost is not None:
            rabbitmq.ctl("delete_vhost", vhost)

    def test_pool_is_bounded(self, rabbitmq: RabbitMQ) -> None:
        with opened(rabbitmq.uri, pool_size=2, timeout=SHORT_TIMEOUT) as bridge, made(bridge) as queue:
            bridge.publish(queue, envelopes("a", "b", "c"))
            held = [bridge.fetch(queue, 1), bridge.fetch(queue, 1)]
            with pytest.raises(BridgeUnavailable, match="busy"):
                bridge.fetch(queue, 1)
            for batch in held:
                bridge.settle(batch)
            assert bodies(drain(bridge, queue)) == ["c"]

    def test_dead_broker_is_passed_over(self, rabbitmq: RabbitMQ) -> None:
        hosts = f"127.0.0.1:{free_port()}"
        uri = rabbitmq.uri.replace("@", f"@{hosts},")
        with opened(uri) as bridge:
            bridge.ping()

    def test_missing_broker_is_unavailable(self) -> None:
        with opened(f"amqp://guest:guest@127.0.0.1:{free_port()}/", timeout=SHORT_TIMEOUT) as bridge:
            begin = time.monotonic()
            for call in _calls(bridge):
                with pytest.raises(BridgeUnavailable):
                    call()
            assert time.monotonic() - begin < SHORT_TIMEOUT + MARGIN

    def test_wrong_password_is_unavailable(self, rabbitmq: RabbitMQ) -> None:
        uri = rabbitmq.uri.replace("guest:guest", "guest:wrong")
        with opened(uri) as bridge, pytest.raises(BridgeUnavailable) as caught:
            bridge.ping()
        assert "wrong" not in str(caught.value)

    def test_broker_that_never_answers_is_unavailable_in_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            uri = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}/"
            with opened(uri, timeout=SHORT_TIMEOUT) as bridge:
                begin = time.monotonic()
                with pytest.raises(BridgeUnavailable):
                    bridge.ping()
                assert time.monotonic() - begin < SHORT_TIMEOUT + MARGIN


def _calls(bridge: AMQPBridge) -> list[Callable[[], object]]:
    return [
        bridge.ping,
        lambda: bridge.create("q"),
        lambda: bridge.delete("q"),
        lambda: bridge.purge("q"),
        lambda: bridge.depth("q"),
        lambda: bridge.publish("q", envelopes("a")),
        lambda: bridge.fetch("q", 1),
        lambda: bridge.fetch("q", 10),
    ]


def _client_ports(bridge: AMQPBridge) -> set[int]:
    """Local ports of the idle connections: they tell a connection from one that has replaced it."""
    idle = [*bridge._publishers._idle, *bridge._fetchers._idle]
    return {connection._amqp.transport.sock.getsockname()[1] for connection in idle}


class TestConsumers:
    """What a consumer keeps open, and what keeps it."""

    MANY = 300

    def test_many_queues_are_on_one_connection_that_is_kept_alive(self, rabbitmq: RabbitMQ) -> None:
        def connections() -> list[str]:
            return rabbitmq.ctl("list_connections", "pid", "timeout", "--no-table-headers").splitlines()

        with opened(rabbitmq.uri, queue_type="classic", heartbeat=HEARTBEAT) as bridge:
            names = [f"marconi.test.{uuid4().hex}" for _ in range(self.MANY)]
            for name in names:
                bridge.create(name)
            bridge._fetchers.close()
            before = set(connections())
            with opened(rabbitmq.uri) as other, consuming(bridge, 1, *names) as inbox:
                for name in names:
                    other.publish(name, envelopes(name))
                inbox.wait(self.MANY)
                other._publishers.close()
                wait_until(lambda: len(set(connections()) - before) == 1, SETTLED, "one connection to be left")
                mine = set(connections()) - before
                idle_since = time.monotonic()
                wait_until(lambda: time.monotonic() - idle_since > IDLE, 2 * IDLE, "several heartbeats")
                assert mine <= set(connections())
                for delivery in inbox.arrived():
                    inbox.consumer.settle(delivery)
                wait_until(lambda: rabbitmq.ctl(
                    "list_queues", "messages", "--no-table-headers"
                ).split().count("0") >= self.MANY, SETTLED, "all to be settled")
        with opened(rabbitmq.uri) as cleaner:
            for name in names:
                cleaner.delete(name)

    def test_deleted_queue_harms_no_other_consumer(self, rabbitmq: RabbitMQ) -> None:
        with opened(rabbitmq.uri) as bridge, made(bridge) as queue, made(bridge) as other:
            bridge.publish(queue, envelopes("a"))
            bridge.publish(other, envelopes("b"))
            with consuming(bridge, 2, queue, other) as inbox:
                inbox.wait(2)
                bridge.delete(other)
                bridge.publish(queue, envelopes("c"))
                inbox.wait(3)
                assert [delivery.envelope.redelivered for delivery in inbox.arrived()] == [False] * 3
                for delivery in inbox.arrived():  # one of which is of the deleted queue
                    inbox.consumer.settle(delivery)
                bridge.publish(queue, envelopes("d", "e"))
                inbox.wait(5)
                assert not any(delivery.envelope.redelivered for delivery in inbox.arrived())

    def test_dead_broker_is_passed_over_and_wrong_passwords_stay_secret(
        self, rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
    ) -> None:
        uri = rabbitmq.uri.replace("@", f"@127.0.0.1:{free_port()},")
        with opened(rabbitmq.uri) as bridge, made(bridge) as queue, opened(uri) as partly_dead:
            bridge.publish(queue, envelopes("a"))
            with consuming(partly_dead, 1, queue) as inbox:
                inbox.wait(1)
        wrong = rabbitmq.uri.replace("guest:guest", "guest:wrong-one")
        with opened(wrong) as refused, consuming(refused, 1, queue):
            wait_until(lambda: "is tried again" in caplog.text, SETTLED, "the refusal")
        assert "wrong-one" not in caplog.text

    def test_large_bodies_arrive_whole(self, rabbitmq: RabbitMQ) -> None:
        sent = [bytes([letter]) * (300 * 1024) for letter in b"abcdef"]
        with opened(rabbitmq.uri) as bridge, made(bridge) as queue:
            bridge.publish(queue, [Envelope(body) for body in sent])
            with consuming(bridge, 10, queue) as inbox:
                assert [delivery.envelope.body for delivery in inbox.wait(len(sent))] == sent


class TestVirtualHosts:
    """Bridges for other virtual hosts live as long as they are used, and cost no thread."""

    @pytest.fixture
    def vhost(self, rabbitmq: RabbitMQ) -> Iterator[str]:
        name = f"other-{uuid4().hex}"
        rabbitmq.ctl("add_vhost", name)
        rabbitmq.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        yield name
        rabbitmq.ctl("delete_vhost", name)

    def test_their_connections_are_kept_alive_while_used_and_closed_then(
        self, rabbitmq: RabbitMQ, vhost: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with opened(rabbitmq.uri, heartbeat=HEARTBEAT) as bridge:
            other: Any = bridge.at(vhost)
            with made(other) as queue:
                other.publish(queue, envelopes("a"))
                ports = _client_ports(other)
                idle_since = time.monotonic()
                wait_until(lambda: time.monotonic() - idle_since > IDLE, 2 * IDLE, "several heartbeats")
                assert bodies(drain(other, queue)) == ["a"]
                assert _client_ports(other) == ports
                assert len([t for t in threading.enumerate() if t is bridge._keeper or t is other._keeper]) == 1
            monkeypatch.setattr(vhosts, "IDLE_FOR", 0.0)
            wait_until(lambda: bridge.connections() == 0, SETTLED, "the connections to be closed")
            assert bridge._vhosts.all() == []

    def test_batch_of_a_bridge_that_was_given_up_is_settled(
        self, rabbitmq: RabbitMQ, vhost: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vhosts, "MOST", 1)
        with opened(rabbitmq.uri) as bridge:
            other: Any = bridge.at(vhost)
            with made(other) as queue:
                other.publish(queue, envelopes("a", "b"))
                batch = other.fetch(queue, 1)
                with pytest.raises(BridgeUnavailable):
                    bridge.at(f"no-{vhost}").exists(queue)
                other.settle(batch)
                assert other.connections() == 0
                assert bodies(drain(bridge.at(vhost), queue)) == ["b"]


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
class TestLargeBodies:
    """However large they are, a look holds no more than it keeps, and the order stays."""

    COUNT = 40
    SIZE = 256 * 1024

    @pytest.fixture
    def filled(self, rabbitmq: RabbitMQ, queue_type: str) -> Iterator[Any]:
        """A bridge and a queue with numbered messages."""
        with opened(rabbitmq.uri, queue_type=queue_type) as bridge, made(bridge) as queue:
            bridge.publish(queue, [Envelope(b"%0*d" % (self.SIZE, number)) for number in range(self.COUNT)])
            wait_until(lambda: bridge.depth(queue) == self.COUNT, SETTLED, "all to be counted")
            yield bridge, queue

    def test_look_that_ends_early_leaves_all_in_order(self, filled: Any) -> None:
        bridge, queue = filled
        for wanted in (1, 5, 12, 5):
            assert _seen(bridge, queue, wanted) == list(range(wanted))
        assert _seen(bridge, queue, self.COUNT + 1) == list(range(self.COUNT))
        assert bridge.depth(queue) == self.COUNT

    @pytest.mark.parametrize("limit", [1, 3])
    def test_fetch_right_after_a_look_that_ends_early_gets_the_first(self, filled: Any, limit: int) -> None:
        bridge, queue = filled
        got: list[int] = []
        for _ in range(self.COUNT // 3):
            _seen(bridge, queue, 2)
            batch = bridge.fetch(queue, limit)
            got += [int(envelope.body[-4:]) for envelope in batch.envelopes]
            bridge.settle(batch)
        assert got == list(range(limit * (self.COUNT // 3)))

    @pytest.mark.parametrize("fetch", ["fetch", "fetch_foreign"])
    def test_fetch_after_large_ones_asks_for_as_many_as_fit(
        self, filled: Any, fetch: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetching, "FETCH_BYTES", 4 * self.SIZE)
        bridge, queue = filled
        bridge.publish(queue, envelopes(*"abcdefgh"))
        wait_until(lambda: bridge.depth(queue) == self.COUNT + 8, SETTLED, "all to be counted")
        got: list[list[bytes]] = []
        for limit in (10, 10, 3, *[10] * 9):
            batch = getattr(bridge, fetch)(queue, limit)
            got.append([envelope.body[-4:] for envelope in batch.envelopes])
            bridge.settle(batch)
        assert [len(bodies) for bodies in got] == [10, 4, 3, 4, 4, 4, 4, 4, 4, 4, 3, 0]
        large = [b"%04d" % number for number in range(self.COUNT)]
        assert sum(got, []) == [*large, b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]

    def test_look_that_takes_too_long_is_unavailable(self, rabbitmq: RabbitMQ, filled: Any) -> None:
        bridge, queue = filled
        with opened(rabbitmq.uri, timeout=SHORT_TIMEOUT) as hurried:
            begin = time.monotonic()
            with pytest.raises(BridgeUnavailable):
                hurried.peek(queue, 100, lambda _: time.sleep(0.1) is None)
            assert time.monotonic() - begin < SHORT_TIMEOUT + MARGIN
        wait_until(lambda: bridge.depth(queue) == self.COUNT, SETTLED, "all to be back")


def _seen(bridge: AMQPBridge, queue: str, wanted: int) -> list[int]:
    """The numbers of the first messages, seen in a look that ends after so many."""
    seen: list[int] = []

    def see(envelope: Envelope) -> bool:
        seen.append(int(envelope.body[-4:]))
        return len(seen) < wanted

    bridge.peek(queue, 100, see)
    return seen


class TestAlarm:
    """A memory alarm stops those who publish and nobody else."""

    @pytest.mark.parametrize("known", [True, False], ids=["open-connection", "new-connection"])
    def test_publishing_fails_in_time_and_fetching_goes_on(self, rabbitmq: RabbitMQ, known: bool) -> None:
        with (
            opened(rabbitmq.uri) as patient,
            made(patient) as queue,
            opened(rabbitmq.uri, timeout=SHORT_TIMEOUT) as bridge,
        ):
            if known:
                bridge.publish(queue, envelopes("before"))
            else:
                with opened(rabbitmq.uri) as other:
                    other.publish(queue, envelopes("before"))
            unknown = 0
            with _alarm(rabbitmq):
                begin = time.monotonic()
                for _ in range(3):
                    with pytest.raises(BridgeUnavailable) as caught:
                        bridge.publish(queue, envelopes("during"))
                    unknown += issubclass(caught.type, OutcomeUnknown)
                assert time.monotonic() - begin < 3 * (SHORT_TIMEOUT + MARGIN)
                with pytest.raises(BridgeUnavailable):
                    bridge.ping()
                fetched = wait_until(lambda: bodies(drain(bridge, queue)), SETTLED, "the message from before")
                assert fetched[0] == "before"
            wait_until(lambda: _publishes(bridge, queue), SETTLED, "the broker to take messages again")
            bridge.ping()
            fetched += bodies(drain(bridge, queue))
            assert fetched[-1] == "after"
            # Only the first was sent at all, and once; what was refused for certain must not turn up.
            assert unknown == 1
            assert fetched.count("during") <= unknown

    def test_ping_shows_it_before_anything_is_published(self, rabbitmq: RabbitMQ) -> None:
        with opened(rabbitmq.uri, timeout=SHORT_TIMEOUT) as bridge:
            bridge.ping()
            with _alarm(rabbitmq), pytest.raises(BrokerBlocked):
                bridge.ping()
            wait_until(lambda: _pings(bridge), SETTLED, "the broker to take messages again")


@contextmanager
def _alarm(rabbitmq: RabbitMQ) -> Iterator[None]:
    rabbitmq.ctl("set_vm_memory_high_watermark", "0")
    try:
        wait_until(lambda: "memory" in rabbitmq.ctl("eval", "rabbit_alarm:get_alarms()."), SETTLED, "the alarm")
        yield
    finally:
        rabbitmq.ctl("set_vm_memory_high_watermark", USUAL_WATERMARK)


def _pings(bridge: AMQPBridge) -> bool:
    try:
        bridge.ping()
    except BridgeUnavailable:
        return False
    return True


def _publishes(bridge: AMQPBridge, queue: str) -> bool:
    try:
        bridge.publish(queue, envelopes("after"))
    except BridgeUnavailable:
        return False
    return True
