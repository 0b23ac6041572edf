"""What brokers are told and asked by the dialect that is chosen for them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pika.frame
import pytest
from amqp.exceptions import AMQPError, error_for_code

from bridges.amqp import fetcher as fetcher_module
from bridges.amqp import queues
from bridges.amqp.dialects import DIALECTS, UNKNOWN, choose
from bridges.amqp.dialects.base import Dialect
from bridges.amqp.dialects.rabbitmq import DELIVERY_LIMIT
from bridges.amqp.fetcher import Fetcher
from bridges.amqp.publisher import Publisher
from bridges.amqp.wire.decoder import decode
from bridges.base import Envelope
from bridges.errors import QueueMissing, SourceUnreadable
from bridges.foreign import Binding

RABBITMQ = DIALECTS["RabbitMQ"]
FRAME_MAX = 131072
BINDING = Binding("x", ("#",), {}, "topic")


class Channel:
    """Answers declarations: a passive one with the depth, the others with a refusal if there is one."""

    channel_id = 1

    def __init__(self, depths: Sequence[int | None] = (), refusal: tuple[int, str] | None = None):
        self.depths = list(depths)
        self.refusal = refusal
        self.asked: list[str] = []

    def queue_declare(self, queue: str, passive: bool = False, **_: Any) -> Any:
        self.asked.append("passive declare" if passive else "declare")
        if passive:
            depth = self.depths.pop(0) if len(self.depths) > 1 else self.depths[0]
            if depth is None:
                raise error_for_code(404, "NOT_FOUND - no queue 'q' in vhost '/'", (50, 10), AMQPError)
            return SimpleNamespace(message_count=depth)
        self._refuse()

    def exchange_declare(self, *_: Any, **__: Any) -> None:
        self.asked.append("declare exchange")
        self._refuse()

    def close(self) -> None:
        self.asked.append("close")

    def _refuse(self) -> None:
        if self.refusal is not None:
            raise error_for_code(*self.refusal, (50, 10), AMQPError)


def fetcher_on(channel: Channel, dialect: Dialect) -> Any:
    fetcher = Fetcher.__new__(Fetcher)
    fetcher.dialect = dialect
    fetcher.channel = channel  # type: ignore[assignment]
    fetcher._open_channel = lambda: None  # type: ignore[method-assign]
    return fetcher


def delivered(properties: Mapping[str, Any]) -> Any:
    return SimpleNamespace(
        body=b"1", properties=properties,
        delivery_info={"redelivered": False, "exchange": "", "routing_key": "q"},
    )


@pytest.mark.parametrize(
    ("properties", "dialect"),
    [({"product": "RabbitMQ", "version": "3.10.8"}, RABBITMQ), ({"product": "Apache Qpid Broker-J Core"}, UNKNOWN),
     ({"product": "LavinMQ"}, UNKNOWN), ({}, UNKNOWN)],
    ids=["rabbitmq", "broker-j", "lavinmq", "nothing said"],
)
def test_dialect_is_chosen_by_the_product(properties: dict[str, Any], dialect: Dialect) -> None:
    assert choose(properties) is dialect


def test_queues_get_only_arguments_that_the_broker_knows() -> None:
    assert RABBITMQ.queue_arguments("quorum") == {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
    assert RABBITMQ.queue_arguments("classic") == {"x-queue-type": "classic"}
    assert UNKNOWN.queue_arguments("quorum") == UNKNOWN.queue_arguments("classic") == {}


def test_headers_of_the_delivery_are_taken_off_where_they_are_the_brokers() -> None:
    headers = {"x-delivery-count": 3, "x-acquired-count": 4, "colour": "red"}
    message = delivered({"application_headers": headers})
    got = decode(message, RABBITMQ)
    assert (got.headers, got.deliveries) == ({"colour": "red"}, 3)
    got = decode(message, UNKNOWN)
    assert (got.headers, got.deliveries) == (headers, 0)


@pytest.mark.parametrize("count", ["3", None, 2.5])
def test_count_that_is_a_producers_is_none(count: object) -> None:
    assert decode(delivered({"application_headers": {"x-delivery-count": count}}), RABBITMQ).deliveries == 0


@pytest.mark.parametrize("dialect", [RABBITMQ, UNKNOWN], ids=["rabbitmq", "unknown"])
@pytest.mark.parametrize(("expiration", "ttl"), [("60000", 60_000), ("0", 0), ("soon", None), ("", None)])
def test_expiration_is_a_ttl(dialect: Dialect, expiration: str, ttl: int | None) -> None:
    assert decode(delivered({"expiration": expiration}), dialect).ttl == ttl
    assert decode(delivered({}), dialect).ttl is None


def test_unknown_broker_is_not_asked_by_declarations() -> None:
    channel = Channel([3], (542, "invalid argument"))
    assert UNKNOWN.may_consume(fetcher_on(channel, UNKNOWN), "q") is False
    UNKNOWN.check_exchange(fetcher_on(channel, UNKNOWN), BINDING)
    assert channel.asked == ["passive declare"]
    with pytest.raises(QueueMissing):
        UNKNOWN.may_consume(fetcher_on(Channel([None]), UNKNOWN), "q")


def test_rabbitmq_is_asked_by_a_declaration_that_it_must_refuse() -> None:
    differs = "PRECONDITION_FAILED - inequivalent arg '{}' for {} in vhost '/': received 'none' but current is '{}'"
    channel = Channel([3], (406, differs.format("x-queue-type", "queue 'q'", "classic")))
    assert RABBITMQ.may_consume(fetcher_on(channel, RABBITMQ), "q") is True
    channel = Channel([3], (406, differs.format("auto_delete", "queue 'q'", "true")))
    assert RABBITMQ.may_consume(fetcher_on(channel, RABBITMQ), "q") is False
    channel = Channel([3], (406, differs.format("type", "exchange 'x'", "fanout")))
    with pytest.raises(SourceUnreadable, match="x is fanout, not topic"):
        RABBITMQ.check_exchange(fetcher_on(channel, RABBITMQ), BINDING)


class Other(type(UNKNOWN)):  # type: ignore[misc]
    """A broker to which ``expiration`` is a time, and whose depth has what is delivered and not acknowledged in it."""

    NOW = 1_700_000_000_000

    def outgoing(self, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
        return [
            replace(envelope, ttl=self.NOW + envelope.ttl, headers={**envelope.headers, "ttl": envelope.ttl})
            for envelope in envelopes if envelope.ttl is not None
        ]

    def ttl(self, properties: Mapping[str, Any]) -> int | None:
        return properties.get("application_headers", {}).get("ttl")

    def expected(self, limit: int, depth: int) -> int:
        return 1

    def depth_when_back(self, depth: int, count: int) -> int:
        return depth


def test_dialect_has_a_say_in_what_is_sent_and_read() -> None:
    written: list[bytes] = []
    publisher = Publisher.__new__(Publisher)
    publisher.dialect = Other()
    publisher.blocked, publisher._published = False, 0
    publisher.channel = Channel()  # type: ignore[assignment]
    publisher._amqp = SimpleNamespace(
        frame_max=FRAME_MAX, bytes_sent=0, transport=SimpleNamespace(write=written.append)
    )
    publisher._await_confirms = lambda deadline: None  # type: ignore[method-assign]
    publisher.publish("", "q", [Envelope(b"1", ttl=60_000)], 0.0, True)
    used, _ = pika.frame.decode_frame(written[0])
    _, header = pika.frame.decode_frame(written[0][used:])
    assert header.properties.expiration == str(Other.NOW + 60_000)
    assert decode(delivered({"application_headers": header.properties.headers}), Other()).ttl == 60_000


@pytest.mark.parametrize(("dialect", "looks"), [(UNKNOWN, 3), (Other(), 1)], ids=["what waits", "all there is"])
def test_what_goes_back_is_waited_for_by_the_depth_as_the_broker_counts_it(dialect: Dialect, looks: int) -> None:
    depths = [5, 5, 5, 7] if dialect is UNKNOWN else [7]
    channel = Channel(depths)
    fetcher_on(channel, dialect).restore("q", 2)
    assert channel.asked == ["passive declare", "close"] + ["passive declare"] * looks


def test_what_is_waited_for_is_what_the_dialect_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    expected: list[tuple[int, int]] = []

    def consume(self: Fetcher, queue: str, limit: int, expects: int, take: Any) -> int:
        expected.append((limit, expects))
        take(SimpleNamespace(delivery_tag=1))
        return 1

    monkeypatch.setattr(fetcher_module.Fetcher, "_consume", consume)
    for dialect in (UNKNOWN, Other()):
        fetcher = fetcher_on(Channel([7]), dialect)
        fetcher.fetch("q", 10)
        fetcher.fetch_foreign("q", 10, True)
    assert expected == [(7, 7), (7, 7), (7, 1), (7, 1)]


def test_queue_of_the_gateway_is_declared_as_the_dialect_says() -> None:
    declared: list[dict[str, Any]] = []

    class New(Channel):
        def queue_declare(self, queue: str, passive: bool = False, **flags: Any) -> Any:
            if passive:
                return super().queue_declare(queue, passive)
            declared.append(flags["arguments"])

    class OneConnection:
        def __init__(self, dialect: Dialect):
            self.take = lambda deadline: fetcher_on(New([None]), dialect)

        def put(self, connection: Any) -> None:
            pass

    for dialect in (RABBITMQ, UNKNOWN):
        queues.QueueCreation("quorum", 1.0).create(OneConnection(dialect), "q", keep=True)  # type: ignore[arg-type]
    assert declared == [RABBITMQ.queue_arguments("quorum"), {}]
