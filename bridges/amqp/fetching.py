"""The way out of the broker: batches, and how many messages one may have."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import amqp
from cachetools import LRUCache, TTLCache

from bridges.amqp.fetcher import Fetcher
from bridges.amqp.in_order import ANY_ORDER, Ending
from bridges.amqp.pool import Pool
from bridges.amqp.queues import no_order
from bridges.amqp.refusals import CONNECTION_ERRORS, translated
from bridges.amqp.wire.decoder import decode
from bridges.base import Batch, Envelope
from bridges.errors import BridgeUnavailable, QueueMissing

#: How many queues we remember facts about.
QUEUES_REMEMBERED = 10_000

#: How many bytes of bodies a fetch may ask for, if all are as large as the largest one of the last fetch. That is more
#: than a hundred posts of the default size; messages of native producers may have any size.
FETCH_BYTES = 32 * 1024 * 1024

#: When other consumers were served before ours (see fetcher.py), we fetch from the queue with gets for this many
#: seconds.
PASSED_OVER_FOR = 5.0


class AMQPBatch(Batch):
    """A batch that keeps the connection on which its messages are unacknowledged; None once it has ended."""

    __slots__ = ("fetcher", "queue", "ending")

    def __init__(self, envelopes: list[Envelope], fetcher: Fetcher | None, queue: str):
        super().__init__(envelopes)
        self.fetcher = fetcher
        self.queue = queue
        self.ending = ANY_ORDER


class _QueueLock:
    """A lock that a WeakValueDictionary can hold."""

    __slots__ = ("__weakref__", "mutex")

    def __init__(self) -> None:
        self.mutex = threading.Lock()


class Fetching:
    """Fetches on connections of ``fetchers``. Thread-safe.

    ``prefetch``: largest number of messages in a batch; ``timeout``: seconds that one call may take.
    """

    def __init__(self, fetchers: Pool[Fetcher], prefetch: int, timeout: float):
        self._fetchers = fetchers
        self._prefetch = prefetch
        self._timeout = timeout
        self._closing = False
        self._lock = threading.Lock()  # cachetools' caches are not thread-safe
        self._queue_locks: WeakValueDictionary[str, _QueueLock] = WeakValueDictionary()
        self._passed_over: TTLCache[str, bool] = TTLCache(QUEUES_REMEMBERED, PASSED_OVER_FOR)
        #: How many messages fit into FETCH_BYTES, by queue. Only queues with large messages are here.
        self._fitting: LRUCache[str, int] = LRUCache(QUEUES_REMEMBERED)

    def close(self) -> None:
        """Connections are closed from now on as soon as they come back."""
        self._closing = True

    def fetch(self, queue: str, limit: int) -> AMQPBatch:
        """As Bridge.fetch, from a queue of the gateway."""
        deadline = time.monotonic() + self._timeout
        if limit == 1:
            return self.fetch_by(Fetcher.fetch, queue, limit, deadline)
        # One at a time: two that see the same messages waiting would together ask for more than there are.
        with self._lock:
            lock = self._queue_locks.setdefault(queue, _QueueLock())
            consume = queue not in self._passed_over

        def fetch(fetcher: Fetcher, queue: str, limit: int) -> list[amqp.Message]:
            deliveries = fetcher.fetch(queue, limit, consume)
            if fetcher.consumer_was_passed_over:
                with self._lock:
                    self._passed_over[queue] = True
            return deliveries

        if not lock.mutex.acquire(timeout=self._timeout):
            raise BridgeUnavailable(f"other fetches from queue {queue} are waiting, and the broker is slow to answer")
        try:
            return self.fetch_by(fetch, queue, limit, deadline)
        finally:
            lock.mutex.release()

    def fetch_in_order(self, queue: str, limit: int) -> AMQPBatch:
        """As Bridge.fetch with ``in_order``."""

        def fetch(fetcher: Fetcher, queue: str, limit: int) -> list[amqp.Message]:
            if fetcher.dialect.in_order is None:
                raise no_order()
            return fetcher.dialect.in_order.fetch(fetcher, queue, limit)

        batch = self.fetch_by(fetch, queue, limit, time.monotonic() + self._timeout)
        if batch.fetcher is not None and batch.fetcher.dialect.in_order is not None:
            batch.ending = batch.fetcher.dialect.in_order
        return batch

    def fetch_by(
        self, way: Callable[[Fetcher, str, int], list[amqp.Message]], queue: str, limit: int, deadline: float
    ) -> AMQPBatch:
        """A batch of what ``way`` gets on a connection, which has until ``deadline`` (monotonic seconds)."""
        with self._lock:
            limit = min(limit, self._fitting.get(queue, self._prefetch))
        with translated():
            fetcher = self._fetchers.take(deadline)
            try:
                deliveries = way(fetcher, queue, limit)
            except QueueMissing:
                self._fetchers.put(fetcher)
                return AMQPBatch([], None, queue)
            except BaseException:
                self._fetchers.drop(fetcher)
                raise
        if not deliveries:
            self._fetchers.put(fetcher)
            return AMQPBatch([], None, queue)
        envelopes = [decode(delivery, fetcher.dialect) for delivery in deliveries]
        self._size_up(queue, max(len(envelope.body) for envelope in envelopes))
        return AMQPBatch(envelopes, fetcher, queue)

    def _size_up(self, queue: str, largest: int) -> None:
        """Remember how many may be fetched next time, from the largest body of this time.

        A fetch is not cut short instead: what it would give back others could overtake meanwhile, and a quorum queue
        puts it after what has been given back before. How large the next messages are the broker does not tell.
        """
        fitting = max(1, FETCH_BYTES // max(1, largest))
        with self._lock:
            if fitting < self._prefetch:
                self._fitting[queue] = fitting
            else:
                self._fitting.pop(queue, None)

    def settle(self, batch: Batch) -> None:
        """As Bridge.settle."""
        assert isinstance(batch, AMQPBatch)  # nosec B101  # for the type checker
        self._settle(batch, lambda fetcher, ending: ending.settle(fetcher, batch.queue))

    def settle_others(self, batch: Batch, kept: Sequence[Envelope]) -> None:
        """As Bridge.settle_others."""
        assert isinstance(batch, AMQPBatch)  # nosec B101  # for the type checker
        still = {id(envelope) for envelope in kept}
        places = [place for place, envelope in enumerate(batch.envelopes) if id(envelope) not in still]
        count = len(batch.envelopes)
        self._settle(batch, lambda fetcher, ending: ending.settle_some(fetcher, batch.queue, places, count))

    def _settle(self, batch: AMQPBatch, acknowledge: Callable[[Fetcher, Ending], None]) -> None:
        if batch.fetcher is not None:
            fetcher, batch.fetcher = batch.fetcher, None
            fetcher.until = time.monotonic() + self._timeout
            with translated():
                try:
                    acknowledge(fetcher, batch.ending)
                    if self._closing:
                        fetcher.round_trip()  # closing the connection at once may lose the acknowledgement
                except BaseException:
                    self._fetchers.drop(fetcher)
                    raise
            self._fetchers.put(fetcher)

    def requeue(self, batch: Batch) -> None:
        """As Bridge.requeue."""
        assert isinstance(batch, AMQPBatch)  # nosec B101  # for the type checker
        if batch.fetcher is not None:
            fetcher, batch.fetcher = batch.fetcher, None
            fetcher.until = time.monotonic() + self._timeout
            try:
                batch.ending.requeue(fetcher, batch.queue, len(batch.envelopes))
            except CONNECTION_ERRORS:
                self._fetchers.drop(fetcher)  # with the connection gone the broker does it by itself
            else:
                self._fetchers.put(fetcher)
