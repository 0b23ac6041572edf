"""Fetching in order: one client at a time has a queue, until its batch has ended, and what it gives back comes first.

**RabbitMQ** has queues that hand their messages to one of their consumers alone (x-single-active-consumer). The
consumer of a batch stays until the batch has ended. It ends with its channel, as does a dead client's: then all that it
had goes back in one step, and only then the next consumer gets something. A cancel is no such step: what the cancelled
consumer has stays out while the next one gets what follows. So we cancel only when nothing can be left of the batch.

A quorum queue hands out what was given back before all else, but puts it after what was given back earlier. Given back
in two parts, messages would be in another order. So each fetch has credit for CREDIT messages, whoever fetches and
however many are wanted: it takes all that was given back, or nothing.

A consumer that has to wait for another one would get messages whenever that one ends. So a fetch first waits, without
being a consumer, until the queue has none.

**Broker-J** has such queues too, and gives back in the right places, but not in one step: a consumer that waits gets
messages that follow before all are back. So a fetch takes a lock first: a queue that belongs to its connection alone
(exclusive). Of a dead client's connection Broker-J first gives back the messages and then deletes the queue
(AMQPConnection_0_8Impl.closed), and we do the same.
"""

from __future__ import annotations

import re
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import amqp
from amqp.exceptions import NotAllowed

from bridges.amqp.naming import beside
from bridges.amqp.queues import counts
from bridges.errors import QueueMissing

if TYPE_CHECKING:
    from bridges.amqp.fetcher import Fetcher

#: Messages that a fetch has credit for, the same in all gateways whatever their options: see above. At the default size
#: of posts they have no more bytes than a usual fetch may have.
CREDIT = 100

#: Maximum wait in seconds until the queue has no consumer: one that has just ended is counted for some milliseconds
#: more. And the interval between two checks.
TURN_PATIENCE = 0.1
TURN_LOOK = 0.005

#: How Broker-J refuses a queue that belongs to another connection. It closes ours then.
_OWNED = re.compile(r"is exclusive, but not created on this connection", re.IGNORECASE)


class Ending:
    """How a batch ends whose order does not matter. All methods raise what a connection raises."""

    def settle(self, fetcher: Fetcher, queue: str) -> None:
        """Acknowledge the whole batch."""
        fetcher.ack(queue)

    def settle_some(self, fetcher: Fetcher, queue: str, places: Sequence[int], count: int) -> None:
        """Acknowledge those at ``places``, from 0 on, of a batch of ``count``; the others go back."""
        fetcher.ack_some(queue, places, count)

    def requeue(self, fetcher: Fetcher, queue: str, count: int) -> None:
        """Give back the whole batch, of ``count``."""
        fetcher.restore(queue, count)


ANY_ORDER = Ending()


class InOrder(Ending):
    """A way to fetch in order. Objects have no state."""

    @abstractmethod
    def fetch(self, fetcher: Fetcher, queue: str, limit: int) -> list[amqp.Message]:
        """As Bridge.fetch with ``in_order``; without messages nothing is held, and the connection may be closed.

        Raises QueueMissing, and what a connection raises.
        """


class BySingleConsumer(InOrder):
    """RabbitMQ's way."""

    def fetch(self, fetcher: Fetcher, queue: str, limit: int) -> list[amqp.Message]:
        """As in InOrder, but for the limit."""
        deadline = time.monotonic() + TURN_PATIENCE
        while (found := counts(fetcher, queue)) is not None:
            waiting, consumers = found
            if not consumers:
                return self._fetch(fetcher, queue, waiting)
            if time.monotonic() >= deadline:
                return []
            time.sleep(TURN_LOOK)
        raise QueueMissing(queue)

    def _fetch(self, fetcher: Fetcher, queue: str, waiting: int) -> list[amqp.Message]:
        deliveries = fetcher.fetch_alone(queue, CREDIT, waiting)
        if not deliveries and waiting:
            fetcher.close()  # another one was faster, or the replica on this node is broken, and others may not be
        elif not deliveries:
            fetcher.give_back()  # nothing: the consumer goes
        return deliveries

    def settle(self, fetcher: Fetcher, queue: str) -> None:
        fetcher.ack_alone()

    def settle_some(self, fetcher: Fetcher, queue: str, places: Sequence[int], count: int) -> None:
        fetcher.ack_some(queue, places, count, cancel=False)


class ByLock(InOrder):
    """Broker-J's way."""

    def fetch(self, fetcher: Fetcher, queue: str, limit: int) -> list[amqp.Message]:
        if (found := counts(fetcher, queue)) is None:
            raise QueueMissing(queue)
        if not found[0]:  # nor is anything in anybody's hands
            return []
        try:
            fetcher.channel.queue_declare(_lock(queue), durable=False, exclusive=True, auto_delete=False)
        except NotAllowed as error:
            if not _OWNED.search(str(error)):
                raise
            return []
        deliveries = fetcher.fetch_alone(queue, limit, found[0])
        if not deliveries:
            self._unlock(fetcher, queue)
        return deliveries

    def settle(self, fetcher: Fetcher, queue: str) -> None:
        super().settle(fetcher, queue)
        self._unlock(fetcher, queue)

    def settle_some(self, fetcher: Fetcher, queue: str, places: Sequence[int], count: int) -> None:
        super().settle_some(fetcher, queue, places, count)
        self._unlock(fetcher, queue)

    def requeue(self, fetcher: Fetcher, queue: str, count: int) -> None:
        super().requeue(fetcher, queue, count)
        self._unlock(fetcher, queue)

    def _unlock(self, fetcher: Fetcher, queue: str) -> None:
        fetcher.channel.queue_delete(_lock(queue))


def _lock(queue: str) -> str:
    return beside(queue, "lock")
