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
messages that follow before all are back. So a fetch takes a lock first: it is the exclusive consumer of a queue beside,
which is always empty. That consumer is on a channel of its own with a higher number, because Broker-J closes the
channels of a dead client one after the other, by their numbers, and gives back at once what a channel had
(AMQPConnection_0_8Impl.closeAllChannels, AMQChannel.close): so the messages are back before the lock is free.
"""

from __future__ import annotations

import re
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import amqp
from amqp.exceptions import AccessRefused, NotFound

from bridges.amqp.naming import beside
from bridges.amqp.queues import counts, delete, depth
from bridges.errors import QueueMissing

if TYPE_CHECKING:
    from bridges.amqp.connection import Connection
    from bridges.amqp.fetcher import Fetcher

#: Messages that a fetch has credit for, the same in all gateways whatever their options: see above. At the default size
#: of posts they have no more bytes than a usual fetch may have.
CREDIT = 100

#: Maximum wait in seconds until the queue, or the lock, has no consumer: one that has just ended is counted for some
#: milliseconds more. And the interval between two checks.
TURN_PATIENCE = 0.1
TURN_LOOK = 0.001

#: The consumer that has the lock, and how Broker-J refuses a second one. It closes the connection then.
LOCK_TAG = "marconi-lock"
_TAKEN = re.compile(r"existing exclusive consumer", re.IGNORECASE)


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

    @abstractmethod
    def is_drained(self, connection: Connection, queue: str) -> bool:
        """As Bridge.is_drained. Raises what a connection raises."""

    def forget(self, connection: Connection, queue: str) -> None:
        """Remove what there is beside a queue that has been deleted, if anything. Raises what a connection raises."""
        return


class BySingleConsumer(InOrder):
    """RabbitMQ's way."""

    def fetch(self, fetcher: Fetcher, queue: str, limit: int) -> list[amqp.Message]:
        """As in InOrder, but for the limit."""
        if (found := _counts_in_turn(fetcher, queue)) is None:
            raise QueueMissing(queue)
        waiting, consumers = found
        return [] if consumers else self._fetch(fetcher, queue, waiting)

    def is_drained(self, connection: Connection, queue: str) -> bool:
        """As in InOrder. RabbitMQ does not count what a consumer has got, so while there is one nothing is known."""
        found = counts(connection, queue)
        if found is not None and found[1] and not found[0]:
            found = _counts_in_turn(connection, queue)
        return found is None or found == (0, 0)

    def _fetch(self, fetcher: Fetcher, queue: str, waiting: int) -> list[amqp.Message]:
        deliveries = _consume(fetcher, queue, CREDIT, waiting)
        if not deliveries and waiting:
            fetcher.close()  # another one was faster, or the replica on this node is broken, and others may not be
        elif not deliveries:
            fetcher.give_back()  # nothing: the consumer goes
        return deliveries

    def settle(self, fetcher: Fetcher, queue: str) -> None:
        done = fetcher.end_consumer()
        fetcher.ack_all()
        if not done:  # messages may have come for it since: these go back with the channel, in one step
            fetcher.give_back()

    def settle_some(self, fetcher: Fetcher, queue: str, places: Sequence[int], count: int) -> None:
        fetcher.ack_some(queue, places, count, cancel=False)


class ByLock(InOrder):
    """Broker-J's way."""

    def fetch(self, fetcher: Fetcher, queue: str, limit: int) -> list[amqp.Message]:
        if (found := counts(fetcher, queue)) is None:
            raise QueueMissing(queue)
        if not found[0]:  # nor is anything in anybody's hands
            return []
        if not self._lock(fetcher, queue):
            return []
        deliveries = _consume(fetcher, queue, limit, found[0])
        if not deliveries:
            self._unlock(fetcher)
        return deliveries

    def is_drained(self, connection: Connection, queue: str) -> bool:
        """As in InOrder. Broker-J counts what consumers have got, too."""
        return not depth(connection, queue)

    def forget(self, connection: Connection, queue: str) -> None:
        delete(connection, _lock_of(queue))

    def settle(self, fetcher: Fetcher, queue: str) -> None:
        super().settle(fetcher, queue)
        self._unlock(fetcher)

    def settle_some(self, fetcher: Fetcher, queue: str, places: Sequence[int], count: int) -> None:
        super().settle_some(fetcher, queue, places, count)
        self._unlock(fetcher)

    def requeue(self, fetcher: Fetcher, queue: str, count: int) -> None:
        super().requeue(fetcher, queue, count)
        self._unlock(fetcher)

    def _lock(self, fetcher: Fetcher, queue: str) -> bool:
        lock, deadline = _lock_of(queue), time.monotonic() + TURN_PATIENCE
        while (found := counts(fetcher, lock)) is None or found[1]:
            if found is None:
                fetcher.channel.queue_declare(lock, durable=True, auto_delete=False)
            elif time.monotonic() >= deadline:
                return False
            else:
                time.sleep(TURN_LOOK)
        try:
            fetcher.second_channel().basic_consume(lock, LOCK_TAG, exclusive=True)
        except AccessRefused as error:
            if not _TAKEN.search(str(error)):
                raise
            return False
        return True

    def _unlock(self, fetcher: Fetcher) -> None:
        fetcher.second_channel().basic_cancel(LOCK_TAG)


def _counts_in_turn(connection: Connection, queue: str) -> tuple[int, int] | None:
    """As ``counts``, once the queue has no consumer, or at the end of TURN_PATIENCE."""
    deadline = time.monotonic() + TURN_PATIENCE
    while (found := counts(connection, queue)) is not None and found[1] and time.monotonic() < deadline:
        time.sleep(TURN_LOOK)
    return found


def _consume(fetcher: Fetcher, queue: str, credit: int, waiting: int) -> list[amqp.Message]:
    """What waits in a queue of which nobody else is given messages, up to ``credit``. The consumer may stay.

    ``waiting``: how many messages do, as the broker has said. Raises QueueMissing, and what a connection raises.
    """
    deliveries: list[amqp.Message] = []
    try:
        fetcher.consume(queue, credit, min(credit, waiting), deliveries.append)
        if not waiting:
            depth(fetcher, queue)  # while a quorum queue has no leader RabbitMQ says 0; a consumer waits for one
    except NotFound as error:
        fetcher.channel_reopened()
        if fetcher.dialect.is_down(error):
            raise
        raise QueueMissing(queue) from error
    return fetcher.fetched(deliveries)


def _lock_of(queue: str) -> str:
    return beside(queue, "lock")
