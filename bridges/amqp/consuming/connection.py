"""A connection that consumes: the consumers of its queues, and what became of each.

A consumer is started in two steps. First the broker is asked for the queue, on a channel of its own, one at a time: if
there is none the broker closes that channel, and no consumer is harmed. Then the consumer is started, on a channel
that it shares with others. If the queue has been deleted in between, or the broker refuses the consumer, that channel
is closed with all consumers on it: they are started again on another, and only they.

On RabbitMQ each consumer has a prefetch of its own. In AMQP 0-9-1 the prefetch is the channel's, shared by its
consumers; on brokers that keep to this each consumer has a channel to itself, and a connection has room for as many
queues as it may have channels.

All methods are for one thread, which calls ``work`` and ``read`` in turn.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import amqp
import kombu
from amqp.exceptions import NotFound

from bridges.amqp.consuming.channel import Channel
from bridges.amqp.consuming.queue_consumer import QueueConsumer
from bridges.amqp.consuming.wake import Wake
from bridges.amqp.consuming.waking import WakingConnection
from bridges.amqp.wire.settlements import ack, requeue

LOG = logging.getLogger(__name__)

#: Seconds until a queue is asked for again if nothing speaks against it.
NOW = 0.0

#: A missing queue is asked for again after this many seconds; so is one whose consumer the broker has cancelled.
RETRY = 1.0

#: A queue of which the broker refuses a consumer is tried again after this many seconds.
REFUSED_RETRY = 10.0

#: Seconds between two looks whether a queue's consumer is still there, on a broker that does not tell.
LOOK = 2.0

#: Seconds for messages that are given back to be in their place again.
GIVEN_BACK = 0.1

#: How many channels consumers share: if one of them is closed the others go on.
CHANNELS = 8

#: Channels of a connection that no consumer gets: one asks, others may be about to close.
SPARE_CHANNELS = 6


class ConsumingConnection(WakingConnection):
    """``take`` gets each message with the consumer that it is for; ``no_room`` each queue that another connection has
    to consume. ``wake`` ends a wait of ``read``.
    """

    def __init__(
        self, candidates: Sequence[kombu.Connection], timeout: float, until: float, wake: Wake,
        take: Callable[[QueueConsumer, amqp.Message], None], no_room: Callable[[str], None], *,
        reads_fast: bool = True,
    ):
        self._take = take
        self._no_room = no_room
        self._started_so_far = 0
        self._consumers: dict[str, QueueConsumer] = {}
        self._channels: list[Channel] = []
        self._to_ask: deque[QueueConsumer] = deque()
        self._asked: QueueConsumer | None = None
        self._answer_by = 0.0
        #: Consumers to ask for later: at what time (monotonic seconds), a number that is never the same twice, and who.
        self._later: list[tuple[float, int, QueueConsumer]] = []
        super().__init__(candidates, timeout, until, wake, reads_fast)

    def _open_channel(self) -> None:
        self._asking: Channel | None = None  # it is opened when there is something to ask

    # -- queues -------------------------------------------------------------------------------------------------

    def add(self, queue: str, most: int) -> None:
        """Consume a queue as soon as it is there. It is not consumed yet."""
        self._to_ask.append(self._new(queue, most))

    def change(self, queue: str, most: int) -> None:
        """Consume a queue that is consumed already, with another prefetch."""
        self.remove(queue)
        # Else a quorum queue might start the consumer first, and send it messages that come after those.
        self._ask_later(self._new(queue, most), GIVEN_BACK)

    def remove(self, queue: str) -> None:
        """Consume a queue no more, and give back what is unsettled."""
        if (consumer := self._consumers.pop(queue, None)) is not None:
            self._end(consumer)

    def settle(self, consumer: QueueConsumer, number: int) -> None:
        """Acknowledge a message by its delivery tag, with the next ``work``."""
        self._finish(consumer, number, ack)

    def requeue(self, consumer: QueueConsumer, number: int) -> None:
        """Give back a message by its delivery tag, with the next ``work``."""
        self._finish(consumer, number, requeue)

    def _new(self, queue: str, most: int) -> QueueConsumer:
        self._started_so_far += 1
        consumer = self._consumers[queue] = QueueConsumer(queue, most, self._started_so_far)
        return consumer

    def _is_wanted(self, consumer: QueueConsumer) -> bool:
        return self._consumers.get(consumer.queue) is consumer

    def _again(self, consumer: QueueConsumer, delay: float) -> None:
        """Have a new consumer in the place of one that has ended, after so many seconds."""
        if not self._is_wanted(consumer):
            return
        self._ask_later(self._new(consumer.queue, consumer.most), delay)

    def _ask_later(self, consumer: QueueConsumer, delay: float) -> None:
        self._started_so_far += 1
        heapq.heappush(self._later, (time.monotonic() + delay, self._started_so_far, consumer))

    def _finish(self, consumer: QueueConsumer, number: int, how: Callable[[int, int], bytes]) -> None:
        if number in consumer.unsettled and consumer.channel is not None:
            del consumer.unsettled[number]
            self._settle_by(consumer.channel, how(consumer.channel.channel_id, number))

    def _end(self, consumer: QueueConsumer) -> None:
        """Give back all that the consumer has, and is about to get."""
        channel = consumer.channel
        if channel is None:
            return
        channel.consumers.discard(consumer)
        if self.dialect.prefetch_is_shared:
            self._write_settlements()
            self._channels.remove(channel)
            channel.leave()
        else:
            channel.cancel(consumer)
            for number in list(consumer.unsettled):
                self.requeue(consumer, number)
        consumer.unsettled.clear()

    # -- asking and starting ------------------------------------------------------------------------------------

    def work(self) -> float:
        """Do what is due, and write what is settled. Seconds until something is due again."""
        now = time.monotonic()
        due = [self._beat(now)]
        while self._later and self._later[0][0] <= now:
            self._to_ask.append(heapq.heappop(self._later)[2])
        if self._asking is not None and self._asked is not None and now >= self._answer_by:
            self._asking.leave()
            self._on_asking_closed(self._asking, TimeoutError("the broker does not answer"))
        self._ask()
        self._write_settlements()
        if self._later:
            due.append(self._later[0][0])
        if self._asked is not None:
            due.append(self._answer_by)
        return max(0.0, min(due) - now)

    def _ask(self) -> None:
        while self._to_ask and self._asked is None:
            consumer = self._to_ask.popleft()
            if not self._is_wanted(consumer):
                continue
            if self._asking is None:
                self._asking = Channel(self._amqp, self._on_asking_closed)
                self._asking.found = self._on_found
            self._asked = consumer
            self._answer_by = time.monotonic() + self.timeout
            self._asking.ask(consumer.queue)

    def _on_found(self, consumers: int) -> None:
        consumer, self._asked = self._asked, None
        if consumer is not None and self._is_wanted(consumer):
            if consumer.channel is None:
                self._start(consumer)
            elif consumers == 0:  # it was deleted and created again
                self._end(consumer)
                self._again(consumer, NOW)
            else:
                self._ask_later(consumer, LOOK)
        self._ask()

    def _on_asking_closed(self, channel: Channel, error: Exception) -> None:
        consumer, self._asked, self._asking = self._asked, None, None
        if consumer is None or not self._is_wanted(consumer):
            return
        self._end(consumer)
        if isinstance(error, NotFound):
            self._again(consumer, RETRY)
        else:
            LOG.warning("queue %s can't be consumed: %s", consumer.queue, error)
            self._again(consumer, REFUSED_RETRY)

    def _start(self, consumer: QueueConsumer) -> None:
        channel = self._channel()
        if channel is None:
            del self._consumers[consumer.queue]
            self._no_room(consumer.queue)
            return
        consumer.channel = channel
        channel.start(consumer, partial(self._on_message, consumer), partial(self._on_cancelled, consumer))
        if not self.dialect.tells_of_deletion:
            self._ask_later(consumer, LOOK)

    def _channel(self) -> Channel | None:
        """A channel for one more consumer; None if there is no room."""
        most = self._amqp.channel_max - SPARE_CHANNELS if self.dialect.prefetch_is_shared else CHANNELS
        if len(self._channels) < most:
            self._channels.append(Channel(self._amqp, self._on_channel_closed))
            return self._channels[-1]
        if self.dialect.prefetch_is_shared:
            return None
        return min(self._channels, key=lambda channel: len(channel.consumers))

    # -- what the broker does -----------------------------------------------------------------------------------

    def _on_message(self, consumer: QueueConsumer, message: amqp.Message) -> None:
        if not self._is_wanted(consumer):  # it was on its way when the consumer was ended
            self._settle_by(message.channel, requeue(message.channel.channel_id, message.delivery_tag))
            return
        consumer.unsettled[message.delivery_tag] = None
        self._take(consumer, message)

    def _on_cancelled(self, consumer: QueueConsumer, tag: str) -> None:
        """The queue has been deleted, or fails."""
        if consumer.channel is not None:
            consumer.channel.consumers.discard(consumer)
        for number in list(consumer.unsettled):  # of a queue that has failed some may come back
            self.requeue(consumer, number)
        self._again(consumer, RETRY)

    def _on_channel_closed(self, channel: Channel, error: Exception) -> None:
        self._channels.remove(channel)
        refused = channel.starting[0] if channel.starting else None
        if not isinstance(error, NotFound):
            LOG.warning("the broker has closed a channel of consumers: %s", error)
        for consumer in channel.consumers:
            consumer.unsettled.clear()
            delay = RETRY if isinstance(error, NotFound) else REFUSED_RETRY
            self._again(consumer, delay if consumer is refused else NOW)
