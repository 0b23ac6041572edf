"""A connection that fetches: by a consumer or by gets, and gives back what is not acknowledged.

A get takes one round trip for each message, a consumer three or four for all. So a fetch of several messages registers
a consumer with credit (basic.qos) for as many as wait. Three things make that more than it seems.

**Late deliveries.** A quorum queue has a consumer's messages sent by the replica on the consumer's node, and a replica
is a little behind the leader. After LEADER_PATIENCE the fetch asks for the queue's depth: the leader answers after what
it has sent itself, so if it is the one that sends, that is all. If messages are missing still, the replica may send
them, and the fetch waits REPLICA_PATIENCE. ``_complete_at_once`` remembers the queues whose consumers got everything at
once last time: there missing messages mean that others were faster, and the fetch does not wait.

**Open credit.** A consumer that got less than it asked for is owed messages (``_owed``): the broker may still
assign some to it, or has done so. If the replica on this node is broken they never come, and nobody else gets them
until the channel closes. So before anything else is read from that queue the credit is withdrawn (``_withdraw_credit``)
by giving back everything on the channel, and the fetch goes on by gets, which the leader answers. If these then find
several messages, the consumer was passed over (``consumer_was_passed_over``): the bridge fetches from that queue by
gets for some seconds, because another consumer would take messages and give them back once more, which changes their
order.

**Giving back.** All that is given back goes by closing the channel: see give_back. A quorum queue has it in its place a
little later, and a fetch before that, maybe of another gateway, would get the messages after it. So restore waits until
the depth shows it, for GIVEN_BACK seconds at the longest; for CREDIT_GIVEN_BACK where perhaps there was nothing to give
back: others may have been faster, or what came late for a batch goes back when the batch is acknowledged.

All of this is RabbitMQ's. A dialect may say that its broker has none of it: cancel_tells_all, gives_back_at_once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import amqp
import kombu
from amqp.exceptions import NotFound
from cachetools import LRUCache

from bridges.amqp.connection import Connection
from bridges.amqp.queues import depth
from bridges.errors import QueueMissing

#: When no message has come for this many seconds, we ask the queue's leader whether that was all. The leader itself
#: would have sent its messages at once.
LEADER_PATIENCE = 0.002

#: We wait at least this many seconds for messages that a replica may send to the consumer.
REPLICA_PATIENCE = 0.05

#: Maximum wait in seconds until returned messages are back in their place, and the interval between two checks.
GIVEN_BACK = 0.1
GIVEN_BACK_LOOK = 0.005

#: Maximum of the same wait if perhaps nothing was returned, because other consumers took the messages first.
CREDIT_GIVEN_BACK = 0.02

#: If the brokers of a cluster are slow to agree, these waits are longer: this many times the duration of a round trip.
ROUND_TRIPS = 4

#: For how many queues a fetcher remembers whether a consumer got everything at once.
QUEUES_REMEMBERED = 1000


class SeenEnough(Exception):
    """Raised by who is shown messages, to end a look before it has got all."""


class _Counted:
    """Passes messages on to ``take``, and counts them. Raises SeenEnough after ``limit``, if that is given."""

    def __init__(self, take: Callable[[amqp.Message], None], limit: int | None = None):
        self.count = 0
        self._take = take
        self._limit = limit

    def __call__(self, message: amqp.Message) -> None:
        if self.count == self._limit:
            raise SeenEnough
        self.count += 1
        self._take(message)


class Fetcher(Connection):
    """Holds the messages of one fetch at a time, until they are acknowledged or given back."""

    def __init__(self, candidates: Sequence[kombu.Connection], timeout: float, until: float):
        #: Whether the consumer of the last fetch got nothing, although gets found messages afterwards.
        self.consumer_was_passed_over = False
        self._complete_at_once: LRUCache[str, bool] = LRUCache(QUEUES_REMEMBERED)
        self._consumers_so_far = 0
        self._last_tag = 0
        super().__init__(candidates, timeout, until)

    def _open_channel(self) -> None:
        super()._open_channel()
        self.channel_reopened()
        self._owed = 0

    def channel_reopened(self) -> None:
        self._prefetch = 0
        self._consumer: str | None = None

    # -- fetching -----------------------------------------------------------------------------------------------

    def fetch(self, queue: str, limit: int, consume: bool = True) -> list[amqp.Message]:
        """Up to ``limit`` deliveries of what waits in the queue; by gets alone without ``consume``.

        Sets ``consumer_was_passed_over``. Raises QueueMissing, and what a connection raises.
        """
        self.consumer_was_passed_over = False
        certain = False
        if limit > 1:
            # Never more credit than there are messages: what is published later would be assigned to it too, and be
            # overtaken when the consumer ends and it goes back.
            waiting = depth(self, queue)
            if waiting is None:
                raise QueueMissing(queue)
            # A get even for none: while a quorum queue has no leader RabbitMQ says 0, but a get waits for one.
            limit = max(1, min(limit, waiting))
        try:
            deliveries: list[amqp.Message] = []
            if limit > 1 and consume:
                self.consume(queue, limit, limit, deliveries.append)
                certain = self.dialect.cancel_tells_all
            if not deliveries and not certain:
                was_owed = self._owed
                self._withdraw_credit(queue)
                # Only a get says for certain that there is nothing: a quorum queue that recovers may give a consumer
                # nothing yet, though messages wait.
                self._get(queue, limit, deliveries.append)
                self.consumer_was_passed_over = bool(was_owed) and len(deliveries) > 1
        except NotFound as error:
            self.channel_reopened()
            if self.dialect.is_down(error):
                raise
            raise QueueMissing(queue) from error
        return self.fetched(deliveries)

    def fetch_foreign(self, queue: str, limit: int, consume: bool) -> list[amqp.Message]:
        """As fetch, from somebody else's queue: as a consumer that stands in line with others, or by gets.

        Quorum queues give back in order only what one consumer had, and take no gets with a single active consumer.
        """
        deliveries: list[amqp.Message] = []
        if not consume:
            self._get(queue, limit, deliveries.append)
        elif waiting := depth(self, queue):
            limit = min(limit, waiting)
            self.consume(queue, limit, limit, deliveries.append)
            if not deliveries:
                self._withdraw_credit(queue)
        return self.fetched(deliveries)

    def look(self, queue: str, limit: int, waiting: int, consume: bool, see: Callable[[amqp.Message], None]) -> None:
        """Show ``see`` what fetch_foreign would take, one by one, and give it back; ``see`` may raise SeenEnough.

        It asks for ``limit`` messages even if fewer are ``waiting``: what is given back anyway need not be counted.
        When it raises SeenEnough, the rest is on its way and the fetcher is of no use any more.
        """
        if consume and self.dialect.browsing is not None:
            self._browse(queue, self.dialect.browsing, _Counted(see, limit))
            return
        seen = _Counted(see)
        if consume:
            self.consume(queue, limit, min(limit, waiting), seen)
        else:
            with suppress(SeenEnough):  # nothing else is on its way
                self._get(queue, limit, seen)
        if seen.count:
            self.restore(queue, seen.count)
        else:
            self._withdraw_credit(queue)

    def _browse(self, queue: str, arguments: Mapping[str, Any], see: Callable[[amqp.Message], None]) -> None:
        """Show ``see`` all messages, or as many as it wants to see. They stay where they are."""
        tag = self._new_consumer(see)
        self.channel.basic_consume(queue, consumer_tag=tag, no_ack=True, callback=see, arguments=dict(arguments))
        self.channel.basic_cancel(tag)

    def fetched(self, deliveries: list[amqp.Message]) -> list[amqp.Message]:
        """The same; remembers what is to be acknowledged."""
        if deliveries:
            self._last_tag = deliveries[-1].delivery_tag
        return deliveries

    def _get(self, queue: str, limit: int, take: Callable[[amqp.Message], None]) -> None:
        """Give ``take`` up to ``limit`` messages, got one by one. May raise QueueMissing."""
        if self.dialect.get_needs_queue and depth(self, queue) is None:
            raise QueueMissing(queue)
        for _ in range(limit):
            if (message := self.channel.basic_get(queue)) is None:
                return
            take(message)

    def consume(self, queue: str, limit: int, expected: int, take: Callable[[amqp.Message], None]) -> None:
        """Give ``take`` what is ready, up to ``limit``. ``expected``: do not wait for more.

        The consumer stays until its messages are acknowledged or given back: when its node dies RabbitMQ 3.10 gives
        back what a consumer has, but not what a cancelled one has, be it delivered yet or not. As long as it has
        ``limit`` messages it gets no others.
        """
        if self._prefetch != limit:
            self.channel.basic_qos(0, limit, False)
            self._prefetch = limit
        deliver = _Counted(take)
        tag = self._new_consumer(deliver)
        start = time.monotonic()
        self.channel.basic_consume(queue, consumer_tag=tag, callback=deliver)
        if self.dialect.cancel_tells_all:
            self.channel.basic_cancel(tag)
            return
        self._consumer = tag
        round_trip = time.monotonic() - start
        others_were_faster = (
            self._complete_at_once.pop(queue, False) and ROUND_TRIPS * round_trip < REPLICA_PATIENCE
        )

        def wait(patience: float) -> None:
            deadline = time.monotonic() + patience
            while deliver.count < expected and (left := deadline - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    self._amqp.drain_events(timeout=left)

        wait(LEADER_PATIENCE)
        if deliver.count < expected:
            depth(self, queue)  # the leader answers after what it has sent
        self._complete_at_once[queue] = deliver.count >= expected
        if not others_were_faster:
            wait(max(REPLICA_PATIENCE, ROUND_TRIPS * round_trip))
        self._owed = limit - deliver.count

    def _new_consumer(self, deliver: Callable[[amqp.Message], None]) -> str:
        """The tag of a consumer that is about to be registered, and whose messages ``deliver`` gets.

        A new tag each time: to a quorum queue the same one is the same consumer again, and the acknowledgements of the
        last fetch, which may still be on their way, would give it credit for more than its limit.
        """
        self._consumers_so_far += 1
        tag = f"marconi-{self._consumers_so_far}"
        # Deliveries may come right after the consume-ok, before basic_consume would register the callback.
        self.channel.callbacks[tag] = deliver
        return tag

    def _withdraw_credit(self, queue: str) -> None:
        """Give back what the last consumer is still owed, if anything, and wait a moment for it to be in its place."""
        if self._owed:
            self.restore(queue, self._owed, CREDIT_GIVEN_BACK)

    # -- ending -------------------------------------------------------------------------------------------------

    def ack(self, queue: str) -> None:
        """Acknowledge all that was fetched last."""
        self.end_consumer()
        self.ack_all()
        self._withdraw_credit(queue)  # what came too late goes back, and the next fetch must find it in its place

    def ack_some(self, queue: str, places: Sequence[int], count: int, cancel: bool = True) -> None:
        """Acknowledge those at ``places``, from 0 on, of the ``count`` fetched last; the others go back.

        ``cancel``: end the consumer first, which may have others take its place before the messages are back.
        """
        if cancel:
            self.end_consumer()
        for place in places:  # the broker numbers what it sends over a channel one by one
            self.channel.basic_ack(self._last_tag - count + 1 + place)
        self.restore(queue, count - len(places))

    def ack_all(self) -> None:
        """Acknowledge all that was fetched last, and nothing else."""
        self.channel.basic_ack(self._last_tag, multiple=True)

    def end_consumer(self) -> bool:
        """Cancel the consumer of the last fetch if it can't get more. False if it can, and stays."""
        if self._consumer is not None and not self._owed:
            # It has all it was to get. Before the acknowledgement, which would let it have more; the broker does one
            # after the other.
            self.channel.basic_cancel(self._consumer, nowait=True)
            self.channel.callbacks.pop(self._consumer)
            self._consumer = None
        return self._consumer is None

    def restore(self, queue: str, count: int, patience: float = GIVEN_BACK) -> None:
        """Give back all that was fetched last, ``count`` messages, and wait a moment until they are in their place.

        ``patience``: longest wait in seconds, unless the broker is slow to answer.
        """
        if self.dialect.gives_back_at_once:
            self.give_back()
            return
        waiting = (depth(self, queue) or 0) + count
        self.give_back()
        self.await_depth(queue, waiting, patience)

    def await_depth(self, queue: str, waiting: int, patience: float = GIVEN_BACK) -> None:
        """Wait a moment until at least so many messages wait in the queue: ``patience`` seconds, or what it takes."""
        if self.dialect.gives_back_at_once:
            return
        start = time.monotonic()
        enough = (depth(self, queue) or 0) >= waiting
        deadline = start + max(patience, ROUND_TRIPS * (time.monotonic() - start))
        while not enough and time.monotonic() < deadline:
            time.sleep(GIVEN_BACK_LOOK)
            enough = (depth(self, queue) or 0) >= waiting

    def give_back(self) -> None:
        """Give back all that was fetched last, to its place in the queue.

        With the channel closed the broker does that. A nack would not do: quorum queues without a delivery limit, as
        others may have declared them, put what is nacked at their end.
        """
        self.channel.close()
        self._open_channel()

    def second_channel(self) -> amqp.Channel:
        """Another channel of this connection, whose number is the next one."""
        return self._amqp.channel(self.channel.channel_id + 1)

    def round_trip(self) -> None:
        """Ask the broker something harmless and wait for its answer."""
        self._prefetch = 0
        self.channel.basic_qos(0, 1, False)
