"""One AMQP connection with one channel, used by one thread at a time.

py-amqp's connections and channels are not thread-safe, so nothing is shared between two links, and every wait has an
end: the socket carries a timeout, and loops that wait for several frames count it down.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import amqp
from amqp import spec
from amqp.exceptions import NotFound, PreconditionFailed
from cachetools import LRUCache
from kombu import Connection
from kombu.exceptions import OperationalError

from bridges.amqp.encoder import encode
from bridges.amqp.frames import readable
from bridges.amqp.refusals import differs, is_down
from bridges.base import Envelope
from bridges.errors import BrokerBlocked, OutcomeUnknown, PublishBlocked, QueueFull, QueueMissing, Unroutable

#: Seconds that a consumer's deliveries may be behind it at the least: a replica's way behind its leader.
LATE = 0.05

#: Seconds after which the queue's leader is asked whether that was all: from itself they come at once.
PROMPT = 0.002

#: Seconds after which a wait for the broker looks at the clock: it may take so much longer than it should.
SLICE = 0.1

#: Seconds that a wait lasts at the least whose time is up: 0 would mean something else to sockets.
LEAST_WAIT = 0.001

#: Bytes that are read in one go at the most, if not more are wanted.
READ_AHEAD = 64 * 1024

#: A frame with basic.ack (AMQP 0-9-1, 4.2.3 and 1.8.3.13): up to its arguments, those, and bytes of payload and frame.
_ACK_START = struct.Struct(">BHIHH").pack
_ACK_ARGUMENTS = struct.Struct(">QB").unpack_from
_ACK_PAYLOAD, _ACK_FRAME = 13, 21

#: Reply code of a return that is not for want of a queue.
RESOURCE_ERROR = 506

#: Queues of which a link remembers that its consumers get their messages at once.
PROMPT_AT_MOST = 1000

#: Seconds to wait at the least until what was given back is in its place, and between two looks at that.
GIVEN_BACK = 0.1
GIVEN_BACK_LOOK = 0.005

#: The same where perhaps nothing was given back, as others were faster to take the messages.
FORGONE = 0.02

#: Where the brokers of a cluster are slow to agree, all of these are so many times what one exchange with them took.
EXCHANGES = 4


class Link:
    """``connections`` are kombu's that are not open yet, to brokers of a cluster: the first that can be opened counts.

    ``timeout`` bounds each wait, in seconds. ``until`` (monotonic seconds), where it is set, ends all waits of what is
    done now, however many there are: first of all the opening.
    """

    def __init__(self, connections: Sequence[Connection], timeout: float, until: float, *, confirm: bool):
        self.timeout = timeout
        self.until: float | None = until
        self.blocked = False
        self.last_tag = 0
        self._prefetch = 0
        self.unheard = False
        self._prompt: LRUCache[str, bool] = LRUCache(PROMPT_AT_MOST)
        self._fetches = 0
        self._consumer: str | None = None
        self._owed = False
        self._published = 0
        self._unconfirmed: set[int] = set()
        self._nacked = 0
        self._returned = 0
        self._kombu = _first_open(connections, until)
        self._amqp: amqp.Connection = self._kombu.connection
        self._quick = self._quicken()
        self._amqp.on_inbound_frame = readable(self._amqp.on_inbound_frame)
        self._amqp.on_blocked = self._on_blocked
        self._amqp.on_unblocked = self._on_unblocked
        self._poll = select.poll()
        self._poll.register(self._amqp.transport.sock, select.POLLIN)
        channel = self._open_channel()
        if confirm:
            channel.confirm_select()
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)
            channel.events["basic_return"].add(self._on_return)

    def _quicken(self) -> bool:
        """Have the kernel keep the time, and read what has arrived in one go; False if the socket does not allow it.

        Python polls before each call on a socket that has a timeout. Each of these calls lets go of the GIL, and has to
        wait for it again. py-amqp reads the three parts of a frame one by one.
        """
        transport = self._amqp.transport
        sock: socket.socket = transport.sock
        sock.settimeout(self.timeout)
        if type(sock) is not socket.socket:  # TLS
            self._hurry(transport, sock)
            return False
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(min(SLICE, self.timeout)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(min(SLICE, self.timeout)))

        def receive(wanted: int) -> bytes:
            until = self.until or time.monotonic() + self.timeout
            while True:
                try:
                    return sock.recv(max(wanted, READ_AHEAD))
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise TimeoutError("timed out") from None

        def write(data: bytes) -> None:
            sent = 0
            until = None
            while True:
                with suppress(BlockingIOError):
                    sent += sock.send(memoryview(data)[sent:] if sent else data)
                if sent == len(data):
                    return
                # A broker that is short of something may take a little now and then, and go on so for long.
                until = until or self.until or time.monotonic() + self.timeout
                if time.monotonic() >= until:
                    raise TimeoutError("timed out")

        transport._quick_recv = receive
        transport._write = write
        return True

    def _hurry(self, transport: Any, sock: socket.socket) -> None:
        """Have reads through TLS end in time: each would wait for its own timeout."""
        read: Callable[[int], bytes] = transport._quick_recv

        def receive(wanted: int) -> bytes:
            usual = sock.gettimeout()
            left = self.until - time.monotonic() if self.until is not None else self.timeout
            if usual is None or left >= usual:
                return read(wanted)
            sock.settimeout(max(left, LEAST_WAIT))
            try:
                return read(wanted)
            finally:
                sock.settimeout(usual)

        transport._quick_recv = receive

    def _open_channel(self) -> amqp.Channel:
        self._prefetch = 0
        self._consumer = None
        self._owed = False
        self.channel = self._amqp.channel()
        self.channel.auto_decode = False
        return self.channel

    @property
    def server_properties(self) -> dict[str, Any]:
        """What the broker said of itself when the connection was opened."""
        return self._amqp.server_properties

    # -- life ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Read what has come in meanwhile: a close, a block, heartbeats. Raises if the connection is gone."""
        while (self._quick and self._amqp.transport._read_buffer) or self._poll.poll(0):
            try:
                self._amqp.drain_events(timeout=0.01)
            except TimeoutError:  # half a frame, or a heartbeat only
                return

    def tick(self) -> None:
        """Keep an idle connection alive. Raises if the connection is gone."""
        self.check()
        self._amqp.heartbeat_tick()

    def close(self) -> None:
        """Close without waiting for the broker; whatever is not acknowledged goes back to its queue."""
        self._kombu.collect(socket_timeout=0.1)

    def _on_blocked(self, reason: str) -> None:
        self.blocked = True

    def _on_unblocked(self) -> None:
        self.blocked = False

    def check_not_blocked(self) -> None:
        """Raises BrokerBlocked while the broker has an alarm, as far as this connection has been told."""
        if self.blocked:
            raise BrokerBlocked("the broker takes no messages now: memory or disk alarm")

    # -- publishing ---------------------------------------------------------------------------------------------

    def publish(
        self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], deadline: float, mandatory: bool
    ) -> None:
        """Send a batch in one write and wait for all its confirms, till ``deadline`` (monotonic seconds).

        Raises Unroutable, QueueFull, and amqp's NotFound when there is no such exchange; the channel is of no use then.
        """
        self.check_not_blocked()
        frames = encode(
            self.channel.channel_id, exchange, routing_key, envelopes, self._amqp.frame_max, mandatory
        )
        first = self._published + 1
        self._published += len(envelopes)
        self._unconfirmed = set(range(first, self._published + 1))
        self._nacked = self._returned = 0
        self.until = deadline
        self._amqp.transport.write(frames)
        self._amqp.bytes_sent += 1  # keeps py-amqp's heartbeat from being sent on top
        try:
            while self._unconfirmed:
                if self.blocked:
                    raise PublishBlocked("the broker has raised a memory or disk alarm")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise OutcomeUnknown("the broker has not confirmed in time")
                with suppress(TimeoutError):
                    if not self._quick:
                        self._amqp.blocking_read(left)
                    elif not self._take_acks():
                        self._amqp.blocking_read()
        finally:
            self.until = None
        if self._returned:
            raise Unroutable(f"{self._returned} of {len(envelopes)} messages")
        if self._nacked:
            total = len(envelopes)
            raise QueueFull(
                f"the broker did not take {self._nacked} of {total} messages: a queue is full, or fails",
                partly=bool(exchange) or self._nacked < total,
            )

    def _take_acks(self) -> bool:
        """Handle the confirms that are next in what has been received, of which there may be one for each message:
        py-amqp spends more on one than it costs to publish a message. False if something else comes first, or nothing.
        """
        transport = self._amqp.transport
        received: bytes = transport._read_buffer or transport._quick_recv(0)
        if not received:
            raise OSError("the broker has closed the connection")
        start = _ACK_START(1, self.channel.channel_id, _ACK_PAYLOAD, *spec.Basic.Ack)
        at = 0
        while received.startswith(start, at) and len(received) >= at + _ACK_FRAME:
            tag, multiple = _ACK_ARGUMENTS(received, at + len(start))
            self._on_ack(tag, bool(multiple))
            at += _ACK_FRAME
        transport._read_buffer = received[at:]
        self._amqp.bytes_recv += at > 0  # py-amqp counts frames, to see whether the broker is alive
        return at > 0

    def _on_ack(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {t for t in self._unconfirmed if t > tag}
        else:
            self._unconfirmed.discard(tag)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        # What was published before an alarm may be nacked after it: that is no news of this batch.
        self._nacked += sum(t <= tag if multiple else t == tag for t in self._unconfirmed)
        self._on_ack(tag, multiple)

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        # Broker-J returns what a full queue does not take, too, and nacks it besides.
        self._returned += getattr(error, "reply_code", None) != RESOURCE_ERROR

    # -- queues -------------------------------------------------------------------------------------------------

    def depth(self, queue: str) -> int | None:
        """Messages that wait in the queue, or None when there is no such queue."""
        try:
            return self.channel.queue_declare(queue, passive=True).message_count
        except NotFound as error:
            self.reopened()
            if is_down(error):
                raise
            return None

    def declare(self, queue: str, arguments: dict[str, Any]) -> bool:
        """Make a durable queue; False when there is one already that is not like that."""
        try:
            self.channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
        except PreconditionFailed as error:
            self.reopened()
            if not differs(error):  # a limit, or a type of queues that the broker does not make
                raise
            return False
        return True

    def has_exchange(self, exchange: str) -> bool:
        """Is there such an exchange?"""
        try:
            self.channel.exchange_declare(exchange, "direct", passive=True)  # the type is not looked at
        except NotFound:
            self.reopened()
            return False
        return True

    def declare_exchange(self, exchange: str, kind: str, durable: bool) -> None:
        """Make an exchange; one that somebody else has made otherwise just now is left as it is."""
        try:
            self.channel.exchange_declare(exchange, kind, durable=durable, auto_delete=False)
        except PreconditionFailed as error:
            self.reopened()
            if not differs(error):  # a limit
                raise

    def bind(self, queue: str, exchange: str, key: str, arguments: Mapping[str, Any]) -> None:
        """Bind a queue to an exchange. Raises amqp's NotFound when there is none of one of them."""
        try:
            self.channel.queue_bind(queue, exchange, key, arguments=dict(arguments))
        except NotFound:
            self.reopened()
            raise

    def reopened(self) -> None:
        """A channel error closes the channel; py-amqp has opened it anew, without consumer and prefetch count."""
        self._prefetch = 0
        self._consumer = None

    # -- fetching -----------------------------------------------------------------------------------------------

    def fetch(self, queue: str, limit: int, consume: bool = True) -> list[amqp.Message]:
        """Up to ``limit`` deliveries of what waits in the queue; by gets alone without ``consume``.

        ``unheard`` tells afterwards whether a consumer got nothing of what gets then found. Raises QueueMissing.
        """
        self.unheard = False
        if limit > 1:
            # Never more credit than there are messages: what is published later would be assigned to it too, and be
            # overtaken when the consumer ends and it goes back.
            waiting = self.depth(queue)
            if waiting is None:
                raise QueueMissing(queue)
            # A get even for none: while a quorum queue has no leader RabbitMQ says 0, but a get waits for one.
            limit = max(1, min(limit, waiting))
        try:
            deliveries: list[amqp.Message] = []
            if limit > 1 and consume:
                self._consume(queue, limit, limit, deliveries.append)
            if not deliveries:
                owed = self._owed
                self._forgo(queue)
                # Only a get says for certain that there is nothing: a quorum queue that recovers may give a consumer
                # nothing yet, though messages wait.
                self._get(queue, limit, deliveries.append)
                self.unheard = owed and len(deliveries) > 1
        except NotFound as error:
            self.reopened()
            if is_down(error):
                raise
            raise QueueMissing(queue) from error
        return self._fetched(deliveries)

    def _get(self, queue: str, limit: int, take: Callable[[amqp.Message], None]) -> int:
        """Give ``take`` up to ``limit`` messages, got one by one; returns how many."""
        for taken in range(limit):
            if (message := self.channel.basic_get(queue)) is None:
                return taken
            take(message)
        return limit

    def fetch_foreign(self, queue: str, limit: int, consume: bool) -> list[amqp.Message]:
        """As fetch, from somebody else's queue: as a consumer that stands in line with others, or by gets.

        Quorum queues give back in order only what one consumer had, and take no gets with a single active consumer.
        """
        deliveries: list[amqp.Message] = []
        if not consume:
            self._get(queue, limit, deliveries.append)
        elif waiting := self.depth(queue):
            limit = min(limit, waiting)
            self._consume(queue, limit, limit, deliveries.append)
            if not deliveries:
                self._forgo(queue)
        return self._fetched(deliveries)

    def look(
        self, queue: str, limit: int, waiting: int, consume: bool, see: Callable[[amqp.Message], None]
    ) -> None:
        """Show ``see`` what fetch_foreign would take, one by one, and give it back.

        It asks for ``limit`` messages even if fewer are ``waiting``: what is given back anyway need not be counted.
        When ``see`` raises, the rest is on its way and the link is of no use any more.
        """
        if seen := self._consume(queue, limit, min(limit, waiting), see) if consume else self._get(queue, limit, see):
            self.restore(queue, seen)
        else:
            self._forgo(queue)

    def _fetched(self, deliveries: list[amqp.Message]) -> list[amqp.Message]:
        if deliveries:
            self.last_tag = deliveries[-1].delivery_tag
        return deliveries

    def _consume(self, queue: str, limit: int, expected: int, take: Callable[[amqp.Message], None]) -> int:
        """Give ``take`` what is ready, up to ``limit``, in three or four round trips: gets would take one for each.

        Returns how many. ``expected``: do not wait for more. The consumer stays until its messages are acknowledged
        or given back: when its node dies RabbitMQ 3.10 gives back what a consumer has, but not what a cancelled one
        has, be it delivered yet or not. As long as it has ``limit`` messages it gets no others.
        """
        if self._prefetch != limit:
            self.channel.basic_qos(0, limit, False)
            self._prefetch = limit
        # A new tag each time: to a quorum queue the same one is the same consumer again, and the acknowledgements of
        # the last fetch, which may still be on their way, would give it credit for more than ``limit``.
        self._fetches += 1
        tag = f"marconi-{self._fetches}"
        taken = 0

        def deliver(message: amqp.Message) -> None:
            nonlocal taken
            taken += 1
            take(message)

        # Deliveries may come right behind the consume-ok, before basic_consume would register the callback.
        self.channel.callbacks[tag] = deliver
        start = time.monotonic()
        self.channel.basic_consume(queue, consumer_tag=tag, callback=deliver)
        self._consumer = tag
        took = time.monotonic() - start
        prompt = self._prompt.pop(queue, False) and EXCHANGES * took < LATE

        def wait(patience: float) -> None:
            deadline = time.monotonic() + patience
            while taken < expected and (left := deadline - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    self._amqp.drain_events(timeout=left)

        wait(PROMPT)
        if taken < expected:
            self.depth(queue)  # the leader answers behind what it has sent
        self._prompt[queue] = taken >= expected
        if not prompt:
            # A quorum queue has a consumer's messages sent by the replica on its node, which is a little late unless
            # it is the leader. Where it never was late others have been faster to take the messages.
            wait(max(LATE, EXCHANGES * took))
        self._owed = taken < limit
        return taken

    def _forgo(self, queue: str) -> None:
        """Give back what the last consumer was owed, if anything, and wait a moment for it to be in its place again.

        If the replica on this node is broken its messages never come, and till the channel closes nobody gets them.
        """
        if self._owed:
            self.restore(queue, 1, FORGONE)

    def ack(self) -> None:
        """Acknowledge all that was fetched last."""
        self._end_consumer()
        self.channel.basic_ack(self.last_tag, multiple=True)
        if self._owed:
            self.give_back()

    def ack_some(self, queue: str, places: Sequence[int], count: int) -> None:
        """Acknowledge those at ``places``, from 0 on, of the ``count`` fetched last; the others go back."""
        self._end_consumer()
        for place in places:  # the broker numbers what it sends over a channel one by one
            self.channel.basic_ack(self.last_tag - count + 1 + place)
        self.restore(queue, count - len(places))

    def _end_consumer(self) -> None:
        if self._consumer is not None and not self._owed:
            # It has all it was to get. Before the acknowledgement, which would let it have more; the broker does one
            # after the other.
            self.channel.basic_cancel(self._consumer, nowait=True)
            self.channel.callbacks.pop(self._consumer)
            self._consumer = None

    def restore(self, queue: str, count: int, patience: float = GIVEN_BACK) -> None:
        """Give back all that was fetched last, ``count`` messages, and wait a moment until they are in their place.

        A quorum queue has them a little later. Whoever fetched before that would get those behind them.
        """
        waiting = (self.depth(queue) or 0) + count
        self.give_back()
        self.await_depth(queue, waiting, patience)

    def await_depth(self, queue: str, waiting: int, patience: float = GIVEN_BACK) -> None:
        """Wait a moment until so many messages wait in the queue, at least: ``patience`` seconds, or what it takes."""
        start = time.monotonic()
        enough = (self.depth(queue) or 0) >= waiting
        deadline = start + max(patience, EXCHANGES * (time.monotonic() - start))
        while not enough and time.monotonic() < deadline:
            time.sleep(GIVEN_BACK_LOOK)
            enough = (self.depth(queue) or 0) >= waiting

    def give_back(self) -> None:
        """Give back all that was fetched last, to its place in the queue.

        With the channel closed the broker does that. A nack would not do: quorum queues without a delivery limit, as
        others may have declared them, put what is nacked at their end.
        """
        self.channel.close()
        self._open_channel()

    def round_trip(self) -> None:
        """Ask the broker something harmless and wait for its answer."""
        self._prefetch = 0
        self.channel.basic_qos(0, 1, False)


def _first_open(connections: Sequence[Connection], until: float) -> Connection:
    """Open the first connection that can be; none is begun after ``until`` (monotonic seconds)."""
    for connection in connections[:-1]:
        try:
            return _opened(connection, until)
        except OPEN_ERRORS:
            if time.monotonic() >= until:
                raise
    return _opened(connections[-1], until)


def _opened(connection: Connection, until: float) -> Connection:
    connection.connect_timeout = max(until - time.monotonic(), LEAST_WAIT)  # type: ignore[assignment]  # kombu says int
    connection.ensure_connection(max_retries=0, interval_start=0, interval_step=0, interval_max=0)
    return connection


def _timeval(seconds: float) -> bytes:
    """As the kernel wants it: a struct timeval."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))


#: What py-amqp and kombu raise when the broker is gone, refuses, or is too slow.
LINK_ERRORS: tuple[type[Exception], ...] = (amqp.exceptions.AMQPError, OSError, socket.timeout)

#: The same while a connection is opened: kombu wraps some.
OPEN_ERRORS: tuple[type[Exception], ...] = (*LINK_ERRORS, OperationalError)
