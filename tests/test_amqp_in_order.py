"""Fetching in order over AMQP: what brokers are told and asked."""

import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.abstract_channel import IGNORED_METHOD_DURING_CHANNEL_CLOSE
from amqp.exceptions import AMQPError, error_for_code

from bridges.amqp import in_order, queues
from bridges.amqp.dialects import DIALECTS, UNKNOWN
from bridges.amqp.dialects.base import Dialect
from bridges.amqp.fetcher import Fetcher
from bridges.amqp.fetching import Fetching
from bridges.errors import BridgeUnavailable, BrokerRefused

RABBITMQ = DIALECTS["RabbitMQ"]
QPID = DIALECTS["Apache Qpid Broker-J"]
SINGLE = {"x-single-active-consumer": True}
DIFFERS = "PRECONDITION_FAILED - inequivalent arg '{}' for queue 'q' in vhost '/': received {} but current is {}"


class Channel:
    """A queue with so many messages and consumers at each look; it hands out as many as there is credit for."""

    channel_id = 1

    def __init__(self, looks: Sequence[tuple[int, int]], refusals: Sequence[str] = ()):
        self.looks = list(looks)
        self.refusals = list(refusals)
        self.waiting = looks[-1][0] if looks else 0
        self.callbacks: dict[str, Callable[[Any], None]] = {}
        self.asked: list[str] = []
        self.declared: list[dict[str, Any]] = []
        self.credit = 0

    def queue_declare(self, queue: str, passive: bool = False, **flags: Any) -> Any:
        if not passive:
            self.declared.append(flags)
            if self.refusals:
                raise error_for_code(406, self.refusals.pop(0), (50, 10), AMQPError)
            return None
        messages, consumers = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return SimpleNamespace(message_count=messages, consumer_count=consumers)

    def basic_qos(self, size: int, count: int, a_global: bool) -> None:
        self.credit = count

    def basic_consume(self, queue: str, consumer_tag: str, **_: Any) -> None:
        self.asked.append("consume")
        for tag in range(1, min(self.credit, self.waiting) + 1):
            self.callbacks[consumer_tag](SimpleNamespace(delivery_tag=tag))

    def basic_cancel(self, consumer_tag: str, nowait: bool = False) -> None:
        self.asked.append("cancel")

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        self.asked.append(f"ack to {tag}" if multiple else f"ack {tag}")

    def close(self) -> None:
        self.asked.append("close")


def fetcher_on(channel: Channel, dialect: Dialect = RABBITMQ) -> Any:
    fetcher = Fetcher.__new__(Fetcher)
    fetcher.dialect = dialect
    fetcher.channel = channel  # type: ignore[assignment]
    fetcher._open_channel = lambda: None  # type: ignore[method-assign]
    fetcher.close = lambda: channel.asked.append("close connection")  # type: ignore[method-assign]
    fetcher._prefetch = fetcher._consumers_so_far = fetcher._owed = fetcher._last_tag = 0
    fetcher._complete_at_once = {}  # type: ignore[assignment]
    fetcher._consumer = None
    return fetcher


class OneConnection:
    """A pool that lends one connection, on which the dialect is spoken."""

    def __init__(self, channel: Channel, dialect: Dialect):
        self.take = lambda deadline: fetcher_on(channel, dialect)
        self.put = self.drop = lambda connection: None


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_order, "TURN_PATIENCE", 0.03)
    monkeypatch.setattr(in_order, "TURN_LOOK", 0.001)


@pytest.mark.parametrize(("limit", "waiting"), [(1, 3), (7, 0), (50, 1000)])
def test_every_fetch_has_the_same_credit(limit: int, waiting: int) -> None:
    """One that takes only a part of what was given back would change its order if it gave that back."""
    channel = Channel([(waiting, 0)])
    RABBITMQ.in_order.fetch(fetcher_on(channel), "q", limit)  # type: ignore[union-attr]
    assert channel.credit == in_order.CREDIT


@pytest.mark.parametrize(("waiting", "ended"), [
    (3, ["consume", "ack to 3", "close"]), (in_order.CREDIT, ["consume", "cancel", f"ack to {in_order.CREDIT}"]),
])
def test_consumer_that_may_still_get_messages_is_never_cancelled(waiting: int, ended: list[str]) -> None:
    channel = Channel([(waiting, 0)])
    fetcher, way = fetcher_on(channel), RABBITMQ.in_order
    assert way is not None
    assert len(way.fetch(fetcher, "q", 10)) == waiting
    way.settle(fetcher, "q")
    assert channel.asked == ended


def test_some_are_acknowledged_and_the_consumer_ends_with_its_channel() -> None:
    channel = Channel([(in_order.CREDIT, 0)])
    fetcher, way = fetcher_on(channel), RABBITMQ.in_order
    assert way is not None
    way.fetch(fetcher, "q", in_order.CREDIT)
    way.settle_some(fetcher, "q", [0, 2], in_order.CREDIT)
    assert channel.asked == ["consume", "ack 1", "ack 3", "close"]


def test_queue_that_has_a_consumer_is_waited_for() -> None:
    channel = Channel([(0, 1), (0, 1), (2, 0)])
    assert len(RABBITMQ.in_order.fetch(fetcher_on(channel), "q", 10)) == 2  # type: ignore[union-attr]
    channel = Channel([(2, 1)])
    assert RABBITMQ.in_order.fetch(fetcher_on(channel), "q", 10) == []  # type: ignore[union-attr]
    assert channel.asked == []


@pytest.mark.parametrize(
    ("looks", "is_drained"),
    [([(0, 0)], True), ([(3, 0)], False), ([(3, 1)], False), ([(0, 1)], False), ([(0, 1), (0, 1), (0, 0)], True)],
    ids=["empty", "waiting", "waiting and held", "held", "held for a moment"],
)
def test_queue_with_a_consumer_may_have_messages(looks: list[tuple[int, int]], is_drained: bool) -> None:
    assert RABBITMQ.in_order.is_drained(fetcher_on(Channel(looks)), "q") is is_drained  # type: ignore[union-attr]


def test_consumer_that_gets_nothing_goes() -> None:
    channel = Channel([(0, 0)])
    assert RABBITMQ.in_order.fetch(fetcher_on(channel), "q", 10) == []  # type: ignore[union-attr]
    assert channel.asked == ["consume", "close"]


def test_connection_on_which_waiting_messages_do_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel([(5, 0)])
    monkeypatch.setattr(Fetcher, "consume", lambda *_: None)
    assert RABBITMQ.in_order.fetch(fetcher_on(channel), "q", 10) == []  # type: ignore[union-attr]
    assert channel.asked == ["close connection"]


def test_queues_are_declared_for_one_consumer_at_a_time() -> None:
    assert RABBITMQ.queue_arguments("classic", in_order=True) == {"x-queue-type": "classic"} | SINGLE
    assert RABBITMQ.queue_arguments("quorum", True) == RABBITMQ.queue_arguments("quorum") | SINGLE
    assert QPID.queue_arguments("quorum", in_order=True) == SINGLE


def test_broker_of_which_no_way_is_known_is_refused_and_told_nothing() -> None:
    channel = Channel([(0, 0)])
    pool: Any = OneConnection(channel, UNKNOWN)
    with pytest.raises(BrokerRefused, match="FIFO queues need RabbitMQ"):
        queues.QueueCreation("quorum", 1.0).create(pool, "q", keep=True, in_order=True)
    with pytest.raises(BrokerRefused, match="FIFO queues need RabbitMQ"):
        Fetching(pool, 10, 1.0).fetch_in_order("q", 1)
    assert (channel.declared, channel.asked) == ([], [])


def test_arguments_of_a_queue_that_is_there_are_taken_over() -> None:
    refusals = [
        DIFFERS.format("durable", "'true'", "'false'"),
        DIFFERS.format("x-queue-type", "the value 'quorum' of type 'longstr'", "the value 'classic' of type 'longstr'"),
        DIFFERS.format("x-max-length", "none", "the value '100' of type 'long'"),
        DIFFERS.format("x-delivery-limit", "the value '1000000' of type 'signedint'", "none"),
    ]
    channel = Channel([(0, 0)], refusals)
    RABBITMQ.check_in_order(fetcher_on(channel), "q", RABBITMQ.queue_arguments("quorum", True))
    assert channel.declared[-1] == {
        "arguments": {"x-queue-type": "classic", "x-max-length": 100} | SINGLE,
        "durable": False, "auto_delete": False, "exclusive": False,
    }


@pytest.mark.parametrize(
    "refusals",
    [
        [DIFFERS.format("x-single-active-consumer", "the value 'true' of type 'bool'", "none")],
        [DIFFERS.format("x-expires", "none", "the val")] * 2,
        [DIFFERS.format("x-max-length", "none", "the value '1' of type 'long'")] * 100,
        ["PRECONDITION_FAILED - something else"],
    ],
    ids=["several consumers", "text cut off", "again and again", "unknown text"],
)
def test_queue_that_can_have_several_consumers_or_does_not_tell_is_refused(refusals: list[str]) -> None:
    channel = Channel([(0, 0)], refusals)
    with pytest.raises(BrokerRefused, match="queue q is there already .* delete it, or declare it again"):
        RABBITMQ.check_in_order(fetcher_on(channel), "q", SINGLE)
    assert len(channel.declared) < 30


#: The delivery limit with which the gateway declares queues, as RabbitMQ writes it.
OURS = "the value '1000000' of type 'signedint'"


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (DIFFERS.format("x-delivery-limit", OURS, "none"), "drops what comes back"),
        (DIFFERS.format("x-delivery-limit", OURS, "the value '20' of type 'signedint'"), "drops what comes back"),
        (DIFFERS.format("x-max-priority", "none", "the value '5' of type 'signedint'"), "has priorities"),
    ],
    ids=["no limit", "low limit", "priorities"],
)
def test_queue_that_drops_or_reorders_messages_is_refused(refusal: str, text: str) -> None:
    channel = Channel([(0, 0)], [refusal])
    with pytest.raises(BrokerRefused, match=f"queue q is there already.*{text}.*declare it again"):
        RABBITMQ.check_in_order(fetcher_on(channel), "q", RABBITMQ.queue_arguments("quorum", True))


def test_queue_that_can_t_be_made_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "depth", lambda *_: None)
    channel = Channel([(0, 0)], [DIFFERS.format("x", "none", "none")])
    with pytest.raises(BridgeUnavailable, match="refuses to make queue q"):
        queues.QueueCreation("quorum", 1.0)._create(fetcher_on(channel), "q", in_order=True)


def test_messages_that_go_back_with_their_channel_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("amqp").warning(IGNORED_METHOD_DURING_CHANNEL_CLOSE, (60, 60), 1)
    logging.getLogger("amqp").warning("something else")
    assert caplog.messages == ["something else"]
