"""What brokers are told and asked by the dialect that is chosen for them."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import AMQPError, error_for_code

from bridges.amqp import fetcher as fetcher_module
from bridges.amqp import queues
from bridges.amqp.dialects import DIALECTS, UNKNOWN, choose_dialect
from bridges.amqp.dialects.base import Dialect
from bridges.amqp.dialects.rabbitmq import DELIVERY_LIMIT
from bridges.amqp.fetcher import Fetcher
from bridges.amqp.wire.decoder import decode
from bridges.bridging import Binding
from bridges.errors import QueueMissing, SourceUnreadable

RABBITMQ = DIALECTS["RabbitMQ"]
QPID = DIALECTS["Apache Qpid Broker-J"]
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
            return SimpleNamespace(message_count=depth, consumer_count=0)
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
    [({"product": "RabbitMQ", "version": "3.10.8"}, RABBITMQ), ({"product": "Apache Qpid Broker-J Core"}, QPID),
     ({"product": "LavinMQ"}, UNKNOWN), ({}, UNKNOWN)],
    ids=["rabbitmq", "broker-j", "lavinmq", "nothing said"],
)
def test_dialect_is_chosen_by_the_product(properties: dict[str, Any], dialect: Dialect) -> None:
    assert choose_dialect(properties) is dialect


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


def test_what_goes_back_is_waited_for_by_the_depth() -> None:
    channel = Channel([5, 5, 5, 7])
    fetcher_on(channel, UNKNOWN).restore("q", 2)
    assert channel.asked == ["passive declare", "close"] + ["passive declare"] * 3


def test_consumer_is_to_get_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    expected: list[tuple[int, int]] = []

    def consume(self: Fetcher, queue: str, limit: int, expects: int, take: Any) -> None:
        expected.append((limit, expects))
        take(SimpleNamespace(delivery_tag=1))

    monkeypatch.setattr(fetcher_module.Fetcher, "consume", consume)
    fetcher = fetcher_on(Channel([7]), UNKNOWN)
    fetcher.fetch("q", 10)
    fetcher.fetch_foreign("q", 10, True)
    assert expected == [(7, 7), (7, 7)]


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

    for dialect in (RABBITMQ, QPID, UNKNOWN):
        queues.QueueCreation("quorum", 1.0).create(OneConnection(dialect), "q", keep=True)  # type: ignore[arg-type]
    assert declared == [RABBITMQ.queue_arguments("quorum"), {}, {}]


@pytest.mark.parametrize(("dialect", "depth", "in_hand"), [
    (RABBITMQ, 0, None), (UNKNOWN, 0, None), (QPID, 0, 0), (QPID, None, 0), (QPID, 3, None),
])
def test_what_is_in_hand_is_known_where_the_depth_has_it(
    dialect: Dialect, depth: int | None, in_hand: int | None
) -> None:
    assert dialect.in_hand(fetcher_on(Channel([depth]), dialect), "q") == in_hand
