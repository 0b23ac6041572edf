"""The AMQP bridge: two pools of connections, and what is done on them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from bridges.amqp import copying, queues
from bridges.amqp.consuming import AMQPConsumer
from bridges.amqp.consuming.connection import ConsumingConnection
from bridges.amqp.fast_confirms import FALLBACKS
from bridges.amqp.fetcher import Fetcher
from bridges.amqp.fetching import Fetching
from bridges.amqp.foreign import Foreign
from bridges.amqp.options import OPTS
from bridges.amqp.pool import Pool
from bridges.amqp.publisher import Publisher
from bridges.amqp.publishing import Publishing
from bridges.amqp.refusals import translated
from bridges.amqp.uri import check_login, connection, read_uri
from bridges.amqp.vhosts import VHosts
from bridges.base import Batch, Envelope
from bridges.bridging import Binding
from bridges.consuming import Delivery
from bridges.errors import ExchangeMissing, QueueFull, QueueMissing, Unroutable
from bridges.foreign import ForeignBridge
from bridges.tls import tls_options

LOG = logging.getLogger(__name__)


class AMQPBridge(ForeignBridge):
    """``amqp://user:password@host[:port][,host...]/vhost``, or ``amqps://`` with TLS."""

    OPTS = OPTS

    def __init__(self, uri: str, options: Any, vhost: str | None = None, root: AMQPBridge | None = None):
        """``vhost``: instead of the URI's; ``root``: the bridge that this one belongs to then."""
        self.timeout = options.timeout
        self.gives_back_after = 2.0 * options.heartbeat  # a broker closes a connection that misses two
        self._root = root or self
        self._options = options
        self._uri = uri
        self._target = read_uri(uri, options.hosts)
        if vhost is not None:
            self._target = replace(self._target, vhost=vhost)
        check_login(options, self._target)
        self._tls = tls_options(options) if self._target.tls else None
        self._publishers: Pool[Publisher] = Pool(self._open_publisher, options.pool_size, self.timeout)
        self._fetchers: Pool[Fetcher] = Pool(self._open_fetcher, options.pool_size, self.timeout)
        self._publishing = Publishing(self._publishers, self.timeout)
        self._fetching = Fetching(self._fetchers, options.prefetch, self.timeout)
        self._foreign = Foreign(self._fetchers, self._fetching, options.prefetch, self.timeout)
        self._creation = queues.QueueCreation(options.queue_type, self.timeout)
        self._consumers: WeakSet[AMQPConsumer] = WeakSet()
        self._closing = threading.Event()
        self._keeper_lock = threading.Lock()
        self._keeper: threading.Thread | None = None
        self._vhosts = VHosts(self._other)

    # -- connections --------------------------------------------------------------------------------------------

    def _open_publisher(self, until: float) -> Publisher:
        return Publisher(self._candidates(), self.timeout, until, fast_confirms=self._options.fast_confirms)

    def _open_fetcher(self, until: float) -> Fetcher:
        return Fetcher(self._candidates(), self.timeout, until)

    def _open_consumer(self, until: float, *arguments: Any) -> ConsumingConnection:
        return ConsumingConnection(
            self._candidates(), self.timeout, until, *arguments, reads_fast=self._options.fast_confirms
        )

    def _candidates(self) -> list[Any]:
        """A connection to each broker, none of them open yet."""
        self._root._start_keeper()
        brokers = self._target.brokers
        return [
            connection(self._target, broker, self._options, self._tls)
            for broker in random.sample(brokers, len(brokers))  # nosec B311  # spread over the cluster
        ]

    def _start_keeper(self) -> None:
        with self._keeper_lock:
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="amqp-keeper", daemon=True)
                self._keeper.start()

    def _keep(self) -> None:
        """Tick idle connections three times in a heartbeat, those of other virtual hosts too."""
        while not self._closing.wait(self._options.heartbeat / 3):
            for bridge in (self, *self._vhosts.all()):
                for pool in (bridge._publishers, bridge._fetchers):
                    try:
                        pool.tick()
                    except Exception:  # it must go on whatever happened once
                        LOG.exception("keeping idle connections alive failed")
            self._vhosts.close_idle()

    def close(self) -> None:
        self._closing.set()
        self._fetching.close()
        self._publishers.close()
        self._fetchers.close()
        for other in self._vhosts.all():
            other.close()

    def connections(self) -> int:
        own = self._publishers.open + self._fetchers.open
        own += sum(consumer.connections() for consumer in list(self._consumers))
        return own + sum(other.connections() for other in self._vhosts.all())

    def fallbacks(self) -> int:
        return FALLBACKS.count

    def describe(self) -> str:
        return str(self._target)

    def ping(self) -> None:
        # Nothing less than a message shows an alarm.
        deadline = time.monotonic() + self.timeout
        self._publishing.publish_to_nobody(0, deadline)
        with translated(), self._fetchers.lent(deadline) as fetcher:
            fetcher.round_trip()

    # -- queues -------------------------------------------------------------------------------------------------

    def create(self, queue: str, in_order: bool = False) -> None:
        with translated():
            self._creation.create(self._fetchers, queue, keep=True, in_order=in_order)

    def delete(self, queue: str) -> None:
        with translated(), self._fetchers.lent() as fetcher:
            copying.end(fetcher, queue)
            queues.delete(fetcher, queue)
            if fetcher.dialect.in_order is not None:
                fetcher.dialect.in_order.forget(fetcher, queue)

    def add_copy(self, queue: str, copy: str, create: bool = True) -> None:
        """As in Bridge. Repeat it after ``create(queue)``: what native producers publish to the exchange with the
        queue's name is in the queue only then. An ordinary create asks for no exchange, and costs nothing more.
        """
        with translated():
            if create:
                self._creation.create(self._fetchers, copy, keep=True)
            with self._fetchers.lent() as fetcher:
                copying.add(fetcher, queue, copy)

    def remove_copy(self, queue: str, copy: str, keep: bool = False) -> None:
        with translated(), self._fetchers.lent() as fetcher:
            if keep:
                copying.remove(fetcher, queue, copy)
            else:
                queues.delete(fetcher, copy)

    def purge(self, queue: str) -> None:
        with translated(), self._fetchers.lent() as fetcher:
            if queues.depth(fetcher, queue) is not None:
                fetcher.channel.queue_purge(queue)

    def depth(self, queue: str) -> int:
        with translated(), self._fetchers.lent() as fetcher:
            return queues.depth(fetcher, queue) or 0

    def in_hand(self, queue: str) -> int | None:
        with translated(), self._fetchers.lent() as fetcher:
            return fetcher.dialect.in_hand(fetcher, queue)

    def is_drained(self, queue: str) -> bool:
        with translated(), self._fetchers.lent() as fetcher:
            if fetcher.dialect.in_order is None:
                raise queues.no_order()
            return fetcher.dialect.in_order.is_drained(fetcher, queue)

    # -- messages -----------------------------------------------------------------------------------------------

    def publish(self, queue: str, envelopes: Sequence[Envelope], copied: bool = False) -> None:
        copies = copying.copies_of(queue) if copied else None
        try:
            self._publishing.publish("", queue, envelopes, mandatory=True, copies=copies)
        except (Unroutable, ExchangeMissing) as error:  # there is always a default exchange: it is the copies'
            raise QueueMissing(queue) from error
        except QueueFull as error:
            if not self.exists(queue):  # what is published to a queue while it is deleted is refused, too
                raise QueueMissing(queue) from error
            raise

    def publish_copies(self, queue: str, envelopes: Sequence[Envelope]) -> None:
        try:
            self._publishing.publish(copying.copies_of(queue), "", envelopes, mandatory=False)
        except ExchangeMissing as error:
            raise QueueMissing(queue) from error

    def deposit(self, queue: str, envelopes: Sequence[Envelope]) -> None:
        try:
            self.publish(queue, envelopes)
        except QueueMissing:
            # On a connection for publishing: all those for fetching may be held by batches whose poison is to go there.
            # The search for the queue has reopened its channel.
            with translated():
                self._creation.create(self._publishers, queue, keep=False)
            self.publish(queue, envelopes)

    def fetch(self, queue: str, limit: int, in_order: bool = False) -> Batch:
        if in_order:
            return self._fetching.fetch_in_order(queue, limit)
        return self._fetching.fetch(queue, limit)

    def settle(self, batch: Batch) -> None:
        self._fetching.settle(batch)

    def settle_others(self, batch: Batch, kept: Sequence[Envelope]) -> None:
        self._fetching.settle_others(batch, kept)

    def requeue(self, batch: Batch) -> None:
        self._fetching.requeue(batch)

    def consume(self, arrived: Callable[[Delivery], None]) -> AMQPConsumer:
        consumer = AMQPConsumer(self._open_consumer, self.timeout, arrived)
        self._consumers.add(consumer)
        return consumer

    # -- foreign ------------------------------------------------------------------------------------------------

    def at(self, vhost: str | None) -> AMQPBridge:
        if vhost is None or vhost == self.own_vhost():
            return self
        bridge: AMQPBridge = self._vhosts.at(vhost)
        return bridge

    def _other(self, vhost: str) -> AMQPBridge:
        return AMQPBridge(self._uri, self._options, vhost, self)

    def own_vhost(self) -> str:
        return self._target.vhost

    def exists(self, queue: str) -> bool:
        return self._foreign.exists(queue)

    def check_source(self, queue: str) -> None:
        self._foreign.check_source(queue)

    def check_exchange(self, binding: Binding) -> None:
        self._foreign.check_exchange(binding)

    def bind(self, queue: str, binding: Binding) -> None:
        self._foreign.bind(queue, binding)

    def publish_to(self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], *, mandatory: bool) -> None:
        self._publishing.publish(exchange, routing_key, envelopes, mandatory=mandatory)

    def fetch_foreign(self, queue: str, limit: int) -> Batch:
        return self._foreign.fetch(queue, limit)

    def peek(self, queue: str, limit: int, see: Callable[[Envelope], bool]) -> None:
        self._foreign.peek(queue, limit, see)
