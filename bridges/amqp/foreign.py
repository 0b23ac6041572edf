"""Queues and exchanges of others: what they are, binding to them, reading from them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import amqp
from amqp.exceptions import NotFound
from cachetools import TTLCache

from bridges.amqp import queues
from bridges.amqp.fetcher import Fetcher, SeenEnough
from bridges.amqp.fetching import QUEUES_REMEMBERED, AMQPBatch, Fetching
from bridges.amqp.pool import Pool
from bridges.amqp.refusals import translated
from bridges.amqp.wire.decoder import decode
from bridges.base import Envelope
from bridges.bridging import Binding
from bridges.errors import BridgeUnavailable, ExchangeMissing, ObjectLocked, QueueMissing

#: How long we cache the properties of somebody else's queue, in seconds. It may be deleted and declared again.
NATURE_KNOWN_FOR = 30.0


class Foreign:
    """Works on connections of ``fetchers``. Thread-safe. The methods do what those of ForeignBridge say."""

    def __init__(self, fetchers: Pool[Fetcher], fetching: Fetching, prefetch: int, timeout: float):
        """``prefetch``: largest number of messages that are read in one go; ``timeout``: seconds for one call."""
        self._fetchers = fetchers
        self._fetching = fetching
        self._prefetch = prefetch
        self._timeout = timeout
        self._lock = threading.Lock()  # cachetools' caches are not thread-safe
        self._may_consume: TTLCache[str, bool] = TTLCache(QUEUES_REMEMBERED, NATURE_KNOWN_FOR)

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    def exists(self, queue: str) -> bool:
        try:
            with translated(), self._fetchers.lent() as fetcher:
                return queues.depth(fetcher, queue) is not None
        except ObjectLocked as error:
            raise queues.locked(queue) from error

    def check_source(self, queue: str) -> None:
        self._consumable(queue, self._deadline())

    def check_exchange(self, binding: Binding) -> None:
        with translated(), self._fetchers.lent() as fetcher:
            fetcher.dialect.check_exchange(fetcher, binding)

    def bind(self, queue: str, binding: Binding) -> None:
        with translated(), self._fetchers.lent() as fetcher:
            if queues.depth(fetcher, queue) is None:
                raise QueueMissing(queue)
            if binding.declare and not queues.has_exchange(fetcher, binding.exchange):
                queues.declare_exchange(fetcher, binding.exchange, binding.type, binding.durable)
            try:
                for key in binding.keys or ("",):
                    queues.bind(fetcher, queue, binding.exchange, key, binding.arguments)
            except NotFound as error:
                raise ExchangeMissing(binding.exchange) from error

    def fetch(self, queue: str, limit: int) -> AMQPBatch:
        deadline = self._deadline()
        consume = self._consumable(queue, deadline)
        if consume is None:
            return AMQPBatch([], None, queue)

        def fetch(fetcher: Fetcher, queue: str, limit: int) -> list[amqp.Message]:
            return fetcher.fetch_foreign(queue, limit, consume)

        return self._fetching.fetch_by(fetch, queue, limit, deadline)

    def _consumable(self, queue: str, deadline: float) -> bool | None:
        """Dialect.may_consume, remembered for a while; None when nothing is there to fetch."""
        with self._lock:
            consume = self._may_consume.get(queue)
        if consume is None:
            try:
                with translated(), self._fetchers.lent(deadline) as fetcher:
                    consume = fetcher.dialect.may_consume(fetcher, queue)
            except QueueMissing:
                return None
            if consume is not None:
                with self._lock:
                    self._may_consume[queue] = consume
        return consume

    def peek(self, queue: str, limit: int, see: Callable[[Envelope], bool]) -> None:
        deadline = self._deadline()
        consume = self._consumable(queue, deadline)
        if consume is None:
            return
        waiting = 0
        try:
            # All on the one connection: to wait for a second while holding this would lock up a pool full of those who
            # look.
            with translated(), self._fetchers.lent(deadline) as fetcher:

                def show(delivery: amqp.Message) -> None:
                    if not see(decode(delivery, fetcher.dialect)):
                        raise SeenEnough
                    if time.monotonic() > deadline:
                        raise BridgeUnavailable(f"a look at queue {queue} has taken longer than {self._timeout} s")

                if waiting := queues.depth(fetcher, queue) or 0:
                    fetcher.look(queue, min(limit, self._prefetch), waiting, consume, show)
        except SeenEnough:
            # The rest is on its way, and may be any amount: the connection has been dropped instead of reading it, and
            # the broker puts all of it back.
            with translated(), self._fetchers.lent(deadline) as fetcher:
                fetcher.await_depth(queue, waiting)
