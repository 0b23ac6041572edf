"""The Redis bridge: a stream for each queue.

redis-py takes about 0.1 s and 7 MB to import. So what needs it is imported when a bridge is made: each start loads
the classes of all drivers for their options, and should not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

from bridges.base import Batch, Bridge, Envelope
from bridges.redis.options import OPTS
from bridges.redis.uri import read_uri
from bridges.tls import tls_options

if TYPE_CHECKING:
    from bridges.consuming import Consumer, Delivery


class RedisBridge(Bridge):
    """``redis://user:password@host[:port][/db]``, ``rediss://`` with TLS, ``redis+sentinel://host[,host]/service[/db]``
    or ``redis+unix:///path[?db=0]``.
    """

    OPTS: ClassVar[Sequence[Any]] = OPTS

    cannot_adopt: ClassVar[str] = "this service has a Redis bridge: it reads no streams of others, and has no exchanges"

    def __init__(self, uri: str, options: Any):
        self.timeout = options.timeout
        self.gives_back_after = options.lease
        self._target = read_uri(uri)
        tls = tls_options(options) if self._target.tls else None

        from bridges.redis.connecting import Connecting
        from bridges.redis.copies import Copies
        from bridges.redis.fetching import Fetching
        from bridges.redis.pool import Pool
        from bridges.redis.publishing import Publishing
        from bridges.redis.streams import Streams

        connecting = Connecting(self._target, tls, options.sentinel_user, options.sentinel_password)
        self._prefix = options.key_prefix
        self._pool = Pool(connecting.open, options.pool_size, self.timeout)
        self._streams = Streams(self._pool, connecting.check, self.timeout, options.min_replicas)
        self._copies = Copies(self._pool, self.timeout, options.min_replicas)
        self._publishing = Publishing(self._pool, self.timeout, options.min_replicas)
        self._fetching = Fetching(self._pool, options.prefetch, options.lease, self.timeout)

        self._open_link = connecting.open
        self._consumers: WeakSet[Consumer] = WeakSet()

    # -- connections --------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._pool.close()

    def connections(self) -> int:
        return self._pool.open + sum(consumer.connections() for consumer in list(self._consumers))

    def describe(self) -> str:
        return str(self._target)

    def ping(self) -> None:
        self._streams.ping(self._prefix)

    # -- queues -------------------------------------------------------------------------------------------------

    def _key(self, queue: str) -> str:
        return f"{self._prefix}{queue}"

    def create(self, queue: str, in_order: bool = False) -> None:  # any stream can be fetched in order
        self._streams.create(self._key(queue))

    def delete(self, queue: str) -> None:
        self._streams.delete(self._key(queue))

    def purge(self, queue: str) -> None:
        self._streams.purge(self._key(queue))

    def depth(self, queue: str) -> int:
        return self._streams.counts(self._key(queue))[0]

    def in_hand(self, queue: str) -> int:
        return self._streams.counts(self._key(queue))[1]

    def add_copy(self, queue: str, copy: str, create: bool = True) -> None:
        self._copies.add(self._key(queue), self._key(copy), create)

    def remove_copy(self, queue: str, copy: str, keep: bool = False) -> None:
        self._copies.remove(self._key(queue), self._key(copy), keep)

    # -- messages -----------------------------------------------------------------------------------------------

    def publish(self, queue: str, envelopes: Sequence[Envelope], copied: bool = False) -> None:
        self._publishing.publish(queue, self._key(queue), envelopes, copied)

    def publish_copies(self, queue: str, envelopes: Sequence[Envelope]) -> None:
        self._publishing.publish(queue, self._key(queue), envelopes, copied=True, kept=False)

    def fetch(self, queue: str, limit: int, in_order: bool = False) -> Batch:
        return self._fetching.fetch(self._key(queue), limit, in_order)

    def settle(self, batch: Batch) -> None:
        self._fetching.settle(batch)

    def settle_others(self, batch: Batch, kept: Sequence[Envelope]) -> None:
        self._fetching.settle_others(batch, kept)

    def requeue(self, batch: Batch) -> None:
        self._fetching.requeue(batch)

    def consume(self, arrived: Callable[[Delivery], None]) -> Consumer:
        from bridges.redis.consumer import RedisConsumer

        consumer = RedisConsumer(arrived, self._key, self._open_link, self.gives_back_after, self.timeout)
        self._consumers.add(consumer)
        return consumer
