"""The AMQP consumer without a broker: what it sends, what it makes of answers, and how it connects again."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import pika
import pytest
from amqp import spec
from amqp.serialization import dumps

from bridges.amqp.consuming import AMQPConsumer, connection, thread, waking
from bridges.amqp.consuming.connection import ConsumingConnection
from bridges.amqp.consuming.queue_consumer import QueueConsumer
from bridges.amqp.consuming.wake import Wake
from bridges.amqp.dialects.qpid import Qpid
from bridges.amqp.dialects.rabbitmq import RabbitMQ
from bridges.amqp.wire.settlements import ack, requeue
from bridges.consuming import Delivery

#: Seconds after which a test fails that waits for a thread.
DEADLINE = 10.0

#: Channels of a connection to a broker where each queue has one to itself.
CHANNEL_MAX = connection.SPARE_CHANNELS + 2


class Wire:
    """In the place of py-amqp's connection: notes what is sent, and lets a test be the broker."""

    confirm_publish = is_closing = False
    heartbeat = 0
    channel_max = CHANNEL_MAX

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.transport = self
        self.sock = self.ours
        self._read_buffer = b""
        self.bytes_sent = 0
        self.channels: dict[int, Any] = {}
        self._used_channel_ids: list[int] = []
        self.sent: list[tuple[int, Any, Any]] = []
        self.settled: list[tuple[str, int, int]] = []

    def _get_free_channel_id(self) -> int:
        self._used_channel_ids.append(max(self._used_channel_ids, default=0) + 1)
        return self._used_channel_ids[-1]

    def frame_writer(self, kind: int, channel: int, method: Any, arguments: Any, content: Any) -> None:
        self.sent.append((channel, method, arguments))

    def drain_events(self, timeout: float | None = None) -> None:
        channel, method, _ = self.sent.pop()
        assert method == spec.Channel.Open, "nothing else is waited for"
        self.say(channel, spec.Channel.OpenOk, "", ())

    def heartbeat_tick(self) -> None:
        pass

    def write(self, frames: bytes) -> None:
        while frames:
            used, frame = pika.frame.decode_frame(frames)
            kind = "ack" if isinstance(frame.method, pika.spec.Basic.Ack) else "requeue"
            assert kind == "ack" or frame.method.requeue
            self.settled.append((kind, frame.channel_number, frame.method.delivery_tag))
            frames = frames[used:]

    def say(self, channel: int, method: Any, form: str, arguments: Any, content: Any = None) -> None:
        payload = b"\0\0\0\0" + (dumps(form, arguments) if form else b"")
        self.channels[channel].dispatch_method(method, payload, content)

    def took(self, method: Any) -> list[tuple[int, Any]]:
        """Channel and arguments of what was sent of a method since the last call."""
        found = [(channel, arguments) for channel, sent, arguments in self.sent if sent == method]
        self.sent = [one for one in self.sent if one[1] != method]
        return found

    def deliver(self, channel: int, tag: str, number: int) -> None:
        self.say(channel, spec.Basic.Deliver, "sLbss", (tag, number, False, "", "q"), amqp.Message(b"x"))

    def close_channel(self, channel: int, code: int) -> None:
        self.say(channel, spec.Channel.Close, "BsBB", (code, "NOT_FOUND" if code == 404 else "REFUSED", 60, 20))


class Broker:
    """A ConsumingConnection on a Wire, what it has handed out, and queues that it had no room for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dialect: Any):
        def init(self: Any, wires: Any, timeout: float, until: float) -> None:
            self._amqp, self.dialect, self.timeout, self.until = wires[0], dialect, timeout, until
            self._reads_ahead, self._poll = True, select.poll()
            self._open_channel()

        monkeypatch.setattr(waking.Connection, "__init__", init)
        self.wire = Wire()
        self.taken: list[tuple[QueueConsumer, int]] = []
        self.surplus: list[str] = []
        self.connection = ConsumingConnection(
            [self.wire], 1.0, 0.0, Wake(),  # type: ignore[list-item]
            lambda consumer, message: self.taken.append((consumer, message.delivery_tag)),
            self.surplus.append,
        )

    def asked(self) -> list[str]:
        """The queues that the broker is asked for now."""
        self.connection.work()
        return [arguments[3:3 + arguments[2]].decode() for _, arguments in self.wire.took(spec.Queue.Declare)]

    def found(self, queue: str, consumers: int = 0) -> None:
        """The broker is asked for this queue, and has it."""
        assert self.asked() == [queue]
        self.wire.say(self.asking, spec.Queue.DeclareOk, "sll", (queue, 0, consumers))

    @property
    def asking(self) -> int:
        return next(n for n, channel in self.wire.channels.items() if channel.found is not None)

    def started(self) -> list[tuple[int, str, str]]:
        """Channel, queue and tag of the consumers that were started, each of which the broker confirms."""
        consumers = []
        for channel, data in self.wire.took(spec.Basic.Consume):
            end = 3 + data[2]
            consumers.append((channel, data[3:end].decode(), data[end + 1:end + 1 + data[end]].decode()))
            self.wire.say(channel, spec.Basic.ConsumeOk, "s", (consumers[-1][2],))
        return consumers

    def consuming(self, queue: str, most: int = 3) -> tuple[int, str]:
        """Channel and tag of a consumer of this queue."""
        self.connection.add(queue, most)
        self.found(queue)
        ((channel, name, tag),) = self.started()
        assert name == queue
        return channel, tag

    def settled(self) -> list[tuple[str, int, int]]:
        self.connection.work()
        written, self.wire.settled = self.wire.settled, []
        return written


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again later is tried again now."""
    monkeypatch.setattr(connection, "RETRY", -1.0)


@pytest.fixture
def rabbitmq(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(monkeypatch, RabbitMQ())


@pytest.fixture
def qpid(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(monkeypatch, Qpid())


def test_queue_is_asked_for_before_it_is_consumed_with_its_prefetch(rabbitmq: Broker) -> None:
    rabbitmq.connection.add("a", 7)
    rabbitmq.connection.add("b", 1)
    rabbitmq.found("a")
    sent = [(method, arguments) for _, method, arguments in rabbitmq.wire.sent]
    assert [method for method, _ in sent] == [spec.Basic.Qos, spec.Basic.Consume, spec.Queue.Declare]
    assert sent[0][1] == dumps("lBb", (0, 7, False))
    assert [queue for _, queue, _ in rabbitmq.started()] == ["a"]
    rabbitmq.found("b")
    assert [queue for _, queue, _ in rabbitmq.started()] == ["b"]


def test_missing_queue_is_asked_for_again_and_harms_no_other(rabbitmq: Broker) -> None:
    channel, tag = rabbitmq.consuming("a")
    rabbitmq.connection.add("missing", 3)
    for _ in range(3):
        assert rabbitmq.asked() == ["missing"]
        rabbitmq.wire.close_channel(rabbitmq.asking, 404)
    rabbitmq.wire.deliver(channel, tag, 1)
    assert len(rabbitmq.taken) == 1
    rabbitmq.found("missing")
    assert [queue for _, queue, _ in rabbitmq.started()] == ["missing"]


def test_queue_for_which_the_broker_does_not_answer_holds_up_no_other(rabbitmq: Broker) -> None:
    rabbitmq.connection.timeout = 0.0
    rabbitmq.connection.add("silent", 3)
    assert rabbitmq.asked() == ["silent"]
    rabbitmq.connection.add("a", 3)
    asking = rabbitmq.asking
    rabbitmq.connection.timeout = DEADLINE
    assert rabbitmq.asked() == ["a"]
    assert rabbitmq.wire.took(spec.Channel.Close)[0][0] == asking
    rabbitmq.wire.say(max(rabbitmq.wire.channels), spec.Queue.DeclareOk, "sll", ("a", 0, 0))
    assert [queue for _, queue, _ in rabbitmq.started()] == ["a"]


def test_refused_consumer_is_tried_later_and_the_others_of_its_channel_now(
    rabbitmq: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CHANNELS", 1)
    channel, tag = rabbitmq.consuming("a")
    rabbitmq.wire.deliver(channel, tag, 1)
    rabbitmq.wire.deliver(channel, tag, 2)
    rabbitmq.connection.add("refused", 3)
    rabbitmq.found("refused")
    assert len(rabbitmq.wire.took(spec.Basic.Consume)) == 1
    rabbitmq.connection.settle(*rabbitmq.taken[0])
    rabbitmq.wire.close_channel(channel, 403)
    rabbitmq.connection.settle(*rabbitmq.taken[1])
    assert rabbitmq.settled() == []
    rabbitmq.found("a")
    assert [queue for _, queue, _ in rabbitmq.started()] == ["a"]
    assert rabbitmq.asked() == []


def test_each_message_is_settled_once_and_many_in_one_write(rabbitmq: Broker) -> None:
    channel, tag = rabbitmq.consuming("a")
    for number in (1, 2, 3):
        rabbitmq.wire.deliver(channel, tag, number)
    (consumer, _), *_ = rabbitmq.taken
    rabbitmq.connection.settle(consumer, 2)
    rabbitmq.connection.requeue(consumer, 3)
    rabbitmq.connection.settle(consumer, 3)
    assert rabbitmq.settled() == [("ack", channel, 2), ("requeue", channel, 3)]
    assert rabbitmq.wire.bytes_sent == 1
    rabbitmq.connection.settle(consumer, 2)
    rabbitmq.connection.settle(consumer, 9)
    assert rabbitmq.settled() == []


def test_removed_queue_gets_back_what_is_unsettled_and_what_still_comes(rabbitmq: Broker) -> None:
    channel, tag = rabbitmq.consuming("a")
    rabbitmq.wire.deliver(channel, tag, 1)
    rabbitmq.wire.deliver(channel, tag, 2)
    rabbitmq.connection.remove("a")
    assert rabbitmq.wire.took(spec.Basic.Cancel) == [(channel, dumps("sb", (tag, False)))]
    rabbitmq.wire.deliver(channel, tag, 3)
    assert rabbitmq.settled() == [("requeue", channel, number) for number in (1, 2, 3)]
    assert len(rabbitmq.taken) == 2
    assert rabbitmq.asked() == []


def test_queue_whose_consumer_the_broker_cancels_is_asked_for_again(rabbitmq: Broker) -> None:
    channel, tag = rabbitmq.consuming("a")
    rabbitmq.wire.say(channel, spec.Basic.Cancel, "sb", (tag, True))
    rabbitmq.found("a")
    ((_, _, other),) = rabbitmq.started()
    assert other != tag


def test_where_prefetch_is_shared_each_queue_has_a_channel_as_long_as_there_are_some(qpid: Broker) -> None:
    (first, _), (second, _) = qpid.consuming("a"), qpid.consuming("b")
    assert first != second
    qpid.connection.remove("b")
    assert qpid.wire.took(spec.Channel.Close)[0][0] == second
    qpid.consuming("c")
    qpid.connection.add("d", 5)
    qpid.found("d")
    assert qpid.surplus == ["d"]


@pytest.mark.parametrize("again", [True, False], ids=["created again", "gone"])
def test_broker_that_does_not_tell_of_a_deletion_is_asked(
    qpid: Broker, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOOK", -1.0)
    channel, tag = qpid.consuming("a")
    qpid.found("a", consumers=1)
    assert qpid.started() == []
    if again:
        qpid.found("a", consumers=0)
    else:
        assert qpid.asked() == ["a"]
        qpid.wire.close_channel(qpid.asking, 404)
    assert qpid.wire.took(spec.Channel.Close)[0][0] == channel
    qpid.wire.deliver(channel, tag, 1)
    assert qpid.taken == []
    qpid.found("a")
    assert [queue for _, queue, _ in qpid.started()] == ["a"]


def test_frames_that_settle() -> None:
    for encoded, method in (
        (ack(5, 2**40), pika.spec.Basic.Ack(2**40, False)), (requeue(5, 7), pika.spec.Basic.Reject(7, True)),
    ):
        assert encoded == pika.frame.Method(5, method).marshal()


# -- threads ----------------------------------------------------------------------------------------------------


class Line:
    """In the place of a ConsumingConnection: notes what it is asked to do."""

    dialect = RabbitMQ()

    def __init__(self, until: float, wake: Wake, take: Callable[..., None], no_room: Callable[[str], None]):
        self.wake, self.take, self.no_room = wake, take, no_room
        self.queues: dict[str, int] = {}
        self.surplus: list[str] = []
        self.settled: list[int] = []
        self.error: Exception | None = None
        self.room = 2
        self.left = self.closed = False

    def add(self, queue: str, most: int) -> None:
        if len(self.queues) == self.room and queue not in self.queues:
            self.surplus.append(queue)
        else:
            self.queues[queue] = most

    change = add

    def remove(self, queue: str) -> None:
        del self.queues[queue]

    def settle(self, consumer: Any, number: int) -> None:
        self.settled.append(number)

    def work(self) -> float:
        while self.surplus:
            self.no_room(self.surplus.pop(0))
        return DEADLINE

    def read(self, seconds: float) -> None:
        if self.error is not None:
            raise self.error
        select.select([self.wake], [], [], seconds)
        self.wake.clear()

    def leave(self) -> None:
        self.left = True

    def close(self) -> None:
        self.closed = True

    def deliver(self, number: int) -> None:
        message = amqp.Message(b"x")
        message.delivery_info = {"redelivered": False, "exchange": "", "routing_key": "", "delivery_tag": number}
        self.take(QueueConsumer("q", 1, 1), message)


class Lines:
    """All connections so far, and a consumer that opens them."""

    def __init__(self) -> None:
        self.opened: list[Line] = []
        self.errors: list[Exception] = []
        self.arrived: list[Delivery] = []
        self.consumer = AMQPConsumer(self._open, 1.0, self._take)  # type: ignore[arg-type]

    def _open(self, *arguments: Any) -> Line:
        if self.errors:
            raise self.errors.pop()
        self.opened.append(Line(*arguments))
        return self.opened[-1]

    def _take(self, delivery: Delivery) -> None:
        self.arrived.append(delivery)
        if len(self.arrived) == 1:
            raise RuntimeError("the first one is not taken")

    def wait(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def break_(self) -> None:
        """The last connection breaks."""
        self.opened[-1].error = ConnectionResetError("broken")
        self.opened[-1].wake.set()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    monkeypatch.setattr(thread, "PAUSE", 0.01)
    lines = Lines()
    yield lines
    lines.consumer.close()


def test_nothing_is_opened_before_there_is_a_queue(lines: Lines) -> None:
    assert lines.opened == []
    lines.consumer.add("q", 1)
    lines.wait(lambda: lines.opened and lines.opened[0].queues == {"q": 1})


def test_broken_connection_is_replaced_and_its_deliveries_mean_nothing_then(lines: Lines) -> None:
    lines.errors = [ConnectionRefusedError("not yet")]
    lines.consumer.add("q", 1)
    lines.wait(lambda: lines.opened and lines.opened[0].queues)
    lines.opened[0].deliver(1)
    lines.opened[0].deliver(2)
    first, second = lines.arrived
    lines.consumer.settle(second)
    lines.wait(lambda: lines.opened[0].settled == [2])
    lines.break_()
    lines.wait(lambda: len(lines.opened) == 2 and lines.opened[1].queues == {"q": 1})
    assert lines.opened[0].closed
    lines.opened[1].deliver(1)
    lines.consumer.settle(first)
    lines.consumer.settle(lines.arrived[-1])
    lines.wait(lambda: lines.opened[1].settled)
    assert lines.opened[1].settled == [1]


def test_unforeseen_error_is_no_end(lines: Lines) -> None:
    lines.errors = [KeyError("unforeseen")]
    lines.consumer.add("q", 1)
    lines.wait(lambda: lines.opened and lines.opened[0].queues)


def test_queues_without_room_are_on_another_connection(lines: Lines) -> None:
    for queue in "abcde":
        lines.consumer.add(queue, 3)
    lines.wait(lambda: sorted(len(line.queues) for line in lines.opened) == [1, 2, 2])
    lines.consumer.add("e", 5)
    lines.consumer.add("e", 4)
    lines.wait(lambda: {"e": 4} in [line.queues for line in lines.opened])
    lines.consumer.remove("e")
    lines.wait(lambda: {} in [line.queues for line in lines.opened])


def test_close_does_what_was_asked_for_and_leaves(lines: Lines) -> None:
    lines.consumer.add("q", 1)
    lines.wait(lambda: lines.opened and lines.opened[0].queues)
    lines.opened[0].deliver(1)
    lines.consumer.settle(lines.arrived[0])
    lines.consumer.close()
    assert (lines.opened[0].settled, lines.opened[0].left) == ([1], True)
    lines.opened[0].deliver(2)
    assert len(lines.arrived) == 1
    lines.consumer.add("other", 1)
    lines.consumer.close()
    assert len(lines.opened) == 1
