"""The dialect of Qpid Broker-J, and what a connection does because of it."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pika.frame
import pytest
from amqp.exceptions import AMQPError, error_for_code

from bridges.amqp import queues
from bridges.amqp.dialects import DIALECTS
from bridges.amqp.dialects.qpid import TTL
from bridges.amqp.fetcher import Fetcher, SeenEnough
from bridges.amqp.publisher import Publisher
from bridges.amqp.wire.decoder import decode
from bridges.base import Envelope
from bridges.bridging import Binding
from bridges.errors import QueueFull, QueueMissing, SourceUnreadable, Unroutable

QPID = DIALECTS["Apache Qpid Broker-J"]
FRAME_MAX = 131072
NOW = 1_700_000_000
BINDING = Binding("x", ("#",), {}, "topic")


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW * 10**9)


def said(code: int, text: str) -> Exception:
    error: Exception = error_for_code(code, text, (50, 10), AMQPError)
    return error


def delivered(tag: int = 1, **properties: Any) -> Any:
    return SimpleNamespace(
        body=b"%d" % tag, properties=properties, delivery_tag=tag,
        delivery_info={"redelivered": False, "exchange": "", "routing_key": "q"},
    )


class Channel:
    """A queue of `waiting` messages, none if that is None, on a broker that refuses with `refusal` to declare anything.

    Messages come between a consumer's beginning and the answer to its end, as many as it has credit for; all of them
    if it only looks.
    """

    channel_id = 1

    def __init__(self, waiting: int | None, refusal: Exception | None = None):
        self.waiting = waiting
        self.refusal = refusal
        self.credit = 0
        self.active = True
        self.asked: list[str] = []
        self.callbacks: dict[str, Callable[[Any], None]] = {}
        self.events: dict[str, set[Any]] = {"basic_ack": set(), "basic_nack": set(), "basic_return": set()}
        self.to_send = 0

    def queue_declare(self, queue: str, passive: bool = False, **_: Any) -> Any:
        self.asked.append("passive" if passive else "declare")
        if passive and self.waiting is None:
            raise said(404, "Queue: 'q' not found on VirtualHost 'default'.")
        if not passive and self.refusal is not None:
            raise self.refusal
        return SimpleNamespace(message_count=self.waiting, consumer_count=0)

    def exchange_declare(self, exchange: str, type: str, passive: bool = False, **_: Any) -> None:
        self.asked.append(f"exchange {type} {'passive' if passive else 'declare'}")
        if self.refusal is not None:
            raise self.refusal

    def basic_qos(self, size: int, count: int, a_global: bool) -> None:
        self.credit = count

    def basic_consume(self, queue: str, consumer_tag: str, **flags: Any) -> None:
        looks = flags.get("arguments", {}).get("x-filter-no-consume", False)
        self.asked.append("look" if looks else "consume")
        self.to_send = (self.waiting or 0) if looks else min(self.credit, self.waiting or 0)

    def basic_cancel(self, consumer_tag: str) -> None:
        self.asked.append("cancel")
        for tag in range(1, self.to_send + 1):
            self.callbacks[consumer_tag](delivered(tag))

    def basic_get(self, queue: str) -> Any:
        self.asked.append("get")
        return None

    def close(self) -> None:
        self.asked.append("close")


def fetcher_on(channel: Channel) -> Any:
    fetcher = Fetcher.__new__(Fetcher)
    fetcher.dialect = QPID
    fetcher.channel = channel  # type: ignore[assignment]
    fetcher._open_channel = lambda: None  # type: ignore[method-assign]
    fetcher._prefetch = fetcher._consumers_so_far = 0
    fetcher._consumer, fetcher._owed = None, 0
    return fetcher


# -- what a message says ----------------------------------------------------------------------------------------


def test_message_is_sent_with_its_end_and_keeps_its_ttl_for_us() -> None:
    sent = [Envelope(b"1", ttl=60_000, headers={"colour": "red"}), Envelope(b"2")]
    out = QPID.outgoing(sent)
    assert [envelope.ttl for envelope in out] == [NOW * 1000 + 60_000, None]
    assert [envelope.headers for envelope in out] == [{"colour": "red", TTL: "60000"}, {}]
    assert sent[0].ttl == 60_000
    assert list(QPID.outgoing(sent[1:])) == sent[1:]


def test_header_with_the_ttl_is_not_shown() -> None:
    got = decode(delivered(expiration=str(NOW * 1000), application_headers={TTL: "60000", "colour": "red"}), QPID)
    assert (got.ttl, got.headers, got.deliveries) == (60_000, {"colour": "red"}, 0)


@pytest.mark.parametrize(
    ("properties", "ttl"),
    [
        ({"expiration": str(NOW * 1000 + 500), "timestamp": NOW - 60}, 60_500),
        ({"expiration": str(NOW * 1000 + 500)}, 500),
        ({"expiration": str(NOW * 1000 - 500)}, 0),
        ({"expiration": str(NOW * 1000), "timestamp": NOW + 60}, 0),
        ({"expiration": "0"}, None),
        ({"expiration": "-1"}, None),
        ({"expiration": "soon"}, None),
        ({}, None),
        ({"expiration": str(NOW * 1000 + 500), "application_headers": {TTL: "-5"}}, 500),
        ({"expiration": str(NOW * 1000 + 500), "application_headers": {TTL: 7}}, 500),
    ],
)
def test_ttl_of_a_native_message_is_from_when_it_was_sent_to_its_end(
    properties: dict[str, Any], ttl: int | None
) -> None:
    assert decode(delivered(**properties), QPID).ttl == ttl


# -- fetching ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("waiting", "limit", "got"), [(7, 5, 5), (3, 5, 3)])
def test_fetch_ends_its_consumer_at_once_and_has_all_then(waiting: int, limit: int, got: int) -> None:
    channel = Channel(waiting)
    fetched = fetcher_on(channel).fetch("q", limit)
    assert [message.delivery_tag for message in fetched] == list(range(1, got + 1))
    assert channel.asked == ["passive", "consume", "cancel"]


def test_fetch_of_what_others_hold_asks_no_more() -> None:
    channel = Channel(7)
    channel.basic_cancel = lambda consumer_tag: channel.asked.append("cancel")  # type: ignore[method-assign]
    assert fetcher_on(channel).fetch("q", 5) == []
    assert channel.asked == ["passive", "consume", "cancel"]


def test_nothing_is_got_from_a_queue_that_is_not_there() -> None:
    channel = Channel(None)
    fetcher = fetcher_on(channel)
    with pytest.raises(QueueMissing):
        fetcher.fetch("q", 1)
    with pytest.raises(QueueMissing):
        fetcher.fetch_foreign("q", 5, consume=False)
    assert channel.asked == ["passive", "passive"]


def test_what_goes_back_is_not_waited_for() -> None:
    channel = Channel(7)
    fetcher = fetcher_on(channel)
    fetcher.restore("q", 2)
    fetcher.await_depth("q", 9)
    assert channel.asked == ["close"]


@pytest.mark.parametrize(("waiting", "limit"), [(3, 5), (3, 3)])
def test_look_takes_nothing(waiting: int, limit: int) -> None:
    channel, seen = Channel(waiting), []
    fetcher_on(channel).look("q", limit, waiting, True, lambda message: seen.append(message.delivery_tag))
    assert seen == [1, 2, 3]
    assert channel.asked == ["look", "cancel"]


def test_look_has_an_end_though_the_broker_sends_all() -> None:
    channel, seen = Channel(9), []
    with pytest.raises(SeenEnough):
        fetcher_on(channel).look("q", 4, 9, True, lambda message: seen.append(message.delivery_tag))
    assert seen == [1, 2, 3, 4]


# -- publishing -------------------------------------------------------------------------------------------------


def publisher_that_hears(*news: tuple[str, Any]) -> Any:
    """A publisher whose broker says this of the first batch: acks and nacks, and what comes before the next answer."""
    publisher = Publisher.__new__(Publisher)
    publisher.dialect = QPID
    publisher.blocked, publisher._published = False, 0
    written: list[bytes] = []
    publisher._amqp = SimpleNamespace(
        frame_max=FRAME_MAX, bytes_sent=0, transport=SimpleNamespace(write=written.append)
    )
    publisher.channel = Channel(0)  # type: ignore[assignment]

    def returns() -> None:
        for kind, value in news:
            if kind == "return":
                publisher._on_return(SimpleNamespace(reply_code=value), "", "q", None)  # type: ignore[arg-type]

    def confirms(deadline: float) -> None:
        for kind, value in news:
            if kind != "return":
                getattr(publisher, f"_on_{kind}")(value, False)

    publisher.channel.confirm_select = returns
    publisher._await_confirms = confirms  # type: ignore[method-assign]
    publisher.written = written  # type: ignore[attr-defined]
    return publisher


def test_end_of_a_message_is_on_the_wire() -> None:
    publisher = publisher_that_hears(("ack", 1))
    publisher.publish("", "q", [Envelope(b"1", ttl=60_000)], 0.0, True)
    used, _ = pika.frame.decode_frame(publisher.written[0])
    _, header = pika.frame.decode_frame(publisher.written[0][used:])
    assert header.properties.expiration == str(NOW * 1000 + 60_000)
    assert decode(delivered(application_headers=header.properties.headers), QPID).ttl == 60_000


def test_unroutable_message_is_nacked_first_and_full_queue_returns_too() -> None:
    two = [Envelope(b"1"), Envelope(b"2")]
    with pytest.raises(Unroutable, match="1 of 2"):
        publisher_that_hears(("ack", 1), ("nack", 2), ("return", 312)).publish("x", "k", two, 0.0, True)
    full = publisher_that_hears(("nack", 1), ("nack", 2), ("return", 506), ("return", 506))
    with pytest.raises(QueueFull, match="did not take 2 of 2"):
        full.publish("", "q", two, 0.0, True)
    publisher_that_hears(("ack", 1), ("ack", 2)).publish("", "q", two, 0.0, True)


@pytest.mark.parametrize("whole_broker", [False, True])
def test_stopped_channel_is_left_for_a_new_one_and_a_broker_that_stops_all_is_blocked(whole_broker: bool) -> None:
    publisher = publisher_that_hears()
    publisher._reads_ahead, publisher._is_stopped = False, False
    publisher._poll = SimpleNamespace(poll=lambda _: [])
    opened: list[Channel] = []

    def open_channel() -> None:
        opened.append(Channel(0))
        opened[-1].active = not whole_broker
        publisher.channel = opened[-1]

    publisher._open_channel = open_channel
    publisher.check()
    assert opened == []
    first = publisher.channel
    first.active = False
    publisher.check()
    publisher.check()
    assert first.asked == ["close"]
    assert len(opened) == 1
    assert publisher.blocked is whole_broker
    publisher.channel.active = True
    publisher.check()
    assert not publisher.blocked
    assert len(opened) == 1


# -- queues and exchanges of others -----------------------------------------------------------------------------

REFUSALS = [
    (None, True),
    (said(405, "Cannot re-declare queue 'q' with different lifetime policy (was: …)"), False),
    (said(403, "Permission CREATE is denied for : Queue 'q' on VirtualHost 'default'"), False),
]


@pytest.mark.parametrize(("refusal", "answer"), REFUSALS)
def test_consumer_may_come_to_queues_that_outlive_it(refusal: Exception | None, answer: bool) -> None:
    channel = Channel(3, refusal)
    assert QPID.may_consume(fetcher_on(channel), "q") is answer
    assert channel.asked == ["passive", "declare"]


def test_queue_that_is_not_there_is_not_declared() -> None:
    channel = Channel(None)
    with pytest.raises(QueueMissing):
        QPID.may_consume(fetcher_on(channel), "q")
    assert channel.asked == ["passive"]
    with pytest.raises(QueueMissing):  # deleted between the two
        QPID.may_consume(fetcher_on(Channel(3, said(404, "Unknown alternate destination: 'marconi-asks'"))), "q")


def test_exclusive_queue_is_unreadable() -> None:
    channel = Channel(3, said(530, "Queue 'q' is exclusive, but not created on this Connection."))
    with pytest.raises(SourceUnreadable, match="exclusive"):
        QPID.may_consume(fetcher_on(channel), "q")
    with pytest.raises(AMQPError):
        QPID.may_consume(fetcher_on(Channel(3, said(530, "something else"))), "q")


def test_type_of_an_exchange_is_asked_without_declaring_one() -> None:
    channel = Channel(0)
    QPID.check_exchange(fetcher_on(channel), BINDING)
    assert channel.asked == ["exchange topic passive"]
    QPID.check_exchange(fetcher_on(Channel(0, said(404, "Unknown exchange: 'x'"))), BINDING)
    other = said(530, "Attempt to redeclare exchange: 'x' of type fanout to topic.")
    with pytest.raises(SourceUnreadable, match="x is fanout, not topic"):
        QPID.check_exchange(fetcher_on(Channel(0, other)), BINDING)


def test_queue_that_somebody_else_has_just_declared_otherwise_is_taken_as_it_is() -> None:
    fetcher = fetcher_on(Channel(0, said(405, "Cannot re-declare queue 'q' with different exclusivity (…)")))
    assert queues.declare(fetcher, "q", {}) is False
    with pytest.raises(AMQPError):
        queues.declare(fetcher_on(Channel(0, said(405, "something else"))), "q", {})
