"""The AMQP bridge: pools of links, and the queues on the broker."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import amqp
from amqp.exceptions import NotFound
from cachetools import LRUCache, TTLCache
from oslo_config import cfg

from bridges.amqp.frames import UNREADABLE
from bridges.amqp.link import LINK_ERRORS, Link
from bridges.amqp.nature import DELIVERY_COUNT, DELIVERY_HEADERS, check_exchange, locked, may_consume
from bridges.amqp.pool import Pool
from bridges.amqp.refusals import refusal
from bridges.amqp.sizes import Sizes
from bridges.amqp.uri import EXTERNAL, PLAIN, check_login, connection, read_uri, tls_options
from bridges.amqp.vhosts import VHosts
from bridges.base import Batch, Binding, Bridge, Envelope
from bridges.errors import (
    BridgeUnavailable,
    BrokerBlocked,
    ExchangeMissing,
    MessageTooLarge,
    ObjectLocked,
    OutcomeUnknown,
    PropertiesTooLarge,
    PublishBlocked,
    QueueFull,
    QueueMissing,
    Unroutable,
)

LOG = logging.getLogger(__name__)

#: Share of the timeout that the first try to publish gets; a second one with the same message ids has the rest.
FIRST_TRY = 0.5

#: Shares of the timeout that must be left for a publish to begin, and for a second try: what is sent without the time
#: to be confirmed has an unknown outcome, is sent again by the client, and adds to what the broker is slow with.
LEAST_LEFT, SECOND_TRY = 0.1, 0.25

#: Routing key on the default exchange that leads to no queue.
PING_KEY = "marconi-ping"

#: Times that a message may go back to a quorum queue. Without a limit RabbitMQ puts what goes back at the end of the
#: queue, with one in its old place (RabbitMQ documentation, "Quorum Queues", repeated requeues); RabbitMQ 4's default
#: of 20 would drop messages after that many crashes. So: a limit that is never reached.
DELIVERY_LIMIT = 1_000_000


#: Seconds for which the nature of somebody else's queue is remembered: it may be deleted and made anew.
NATURE_KNOWN_FOR = 30.0
NATURES_AT_MOST = 10_000

#: Bytes of bodies that a fetch asks for at the most if they are as large as the largest of the last fetch: more than a
#: hundred posts of the default size, while native producers' bodies may be of any size.
FETCH_BYTES = 32 * 1024 * 1024

#: Seconds for which a queue is fetched from by gets after a consumer got nothing.
UNHEARD_FOR = 5.0


class AMQPBatch(Batch):
    """A batch that keeps the link on which its messages are unacknowledged."""

    __slots__ = ("link", "queue")

    def __init__(self, envelopes: list[Envelope], link: Link | None, queue: str):
        super().__init__(envelopes)
        self.link = link
        self.queue = queue


class AMQPBridge(Bridge):
    """``amqp://user:password@host[:port][,host...]/vhost``, or ``amqps://`` with TLS."""

    reaches_foreign: ClassVar[bool] = True

    OPTS = (
        cfg.ListOpt(
            "hosts", default=[],
            help="AMQP: further brokers of the same cluster, as host:port; tried in turn when one can't be reached.",
        ),
        cfg.StrOpt(
            "queue_type", default="quorum", choices=["quorum", "classic"],
            help="AMQP: type of the queues that the gateway declares. Existing queues are used as they are.",
        ),
        cfg.FloatOpt(
            "timeout", default=5.0, min=0.1, max=60.0,
            help="AMQP: seconds that one call to the broker may take before the request is answered 503.",
        ),
        cfg.IntOpt(
            "heartbeat", default=30, min=2, max=600,
            help="AMQP: seconds between heartbeats; a connection that misses two is dropped.",
        ),
        cfg.IntOpt(
            "pool_size", default=16, min=1, max=1000,
            help="AMQP: connections for publishing that one gateway process keeps at the most, and as many more for"
                 " fetching. More than [wsgi] threads is of no use.",
        ),
        cfg.IntOpt(
            "prefetch", default=100, min=1, max=2000,
            help="AMQP: messages that are fetched from a broker queue in one go at the most.",
        ),
        cfg.StrOpt(
            "login_method", default=PLAIN, choices=[PLAIN, EXTERNAL],
            help="AMQP: how the gateway logs in: PLAIN with user and password of uri, or EXTERNAL by the certificate"
                 " in tls_cert_file (RabbitMQ needs its plugin rabbitmq_auth_mechanism_ssl).",
        ),
        cfg.StrOpt("tls_ca_file", help="AMQP over TLS: CA certificates (PEM) that the broker's is checked against."),
        cfg.StrOpt("tls_cert_file", help="AMQP over TLS: the gateway's own certificate (PEM)."),
        cfg.StrOpt("tls_key_file", help="AMQP over TLS: key of the gateway's own certificate (PEM)."),
        cfg.BoolOpt("tls_insecure", default=False, help="AMQP over TLS: don't check the broker's certificate."),
    )

    def __init__(self, uri: str, options: Any, vhost: str | None = None, root: AMQPBridge | None = None):
        """``vhost``: instead of the URI's; ``root``: the bridge that this one belongs to then."""
        self.timeout = options.timeout
        self._root = root or self
        self._options = options
        self._uri = uri
        self._target = read_uri(uri, options.hosts)
        if vhost is not None:
            self._target = replace(self._target, vhost=vhost)
        check_login(options, self._target)
        self._tls = tls_options(options) if self._target.tls else None
        self._publishers = Pool(lambda until: self._connect(until, confirm=True), options.pool_size, self.timeout)
        # An alarm makes RabbitMQ stop reading from connections that publish; fetching goes on on others.
        self._fetchers = Pool(lambda until: self._connect(until, confirm=False), options.pool_size, self.timeout)
        self._sizes = Sizes()
        self._create_lock = threading.Lock()
        self._may_consume: TTLCache[str, bool] = TTLCache(NATURES_AT_MOST, NATURE_KNOWN_FOR)
        # Where a consumer got nothing of what waited: another one would take messages and give them back once more,
        # which changes their order when it takes fewer.
        self._unheard: TTLCache[str, bool] = TTLCache(NATURES_AT_MOST, UNHEARD_FOR)
        # How many messages fit into FETCH_BYTES, of queues where that is less than a fetch may ask for.
        self._fitting: LRUCache[str, int] = LRUCache(NATURES_AT_MOST)
        self._fetching_lock = threading.Lock()
        self._fetching: WeakValueDictionary[str, _QueueLock] = WeakValueDictionary()
        self._closing = threading.Event()
        self._keeper_lock = threading.Lock()
        self._keeper: threading.Thread | None = None
        self._vhosts = VHosts(self._other)

    def _connect(self, until: float, *, confirm: bool) -> Link:
        self._root._start_keeper()
        brokers = self._target.brokers
        connections = [
            connection(self._target, broker, self._options, self._tls)
            for broker in random.sample(brokers, len(brokers))  # nosec B311  # spread over the cluster
        ]
        return Link(connections, self.timeout, until, confirm=confirm)

    def _deadline(self) -> float:
        """When a call that begins now must have ended, in monotonic seconds."""
        return time.monotonic() + self.timeout

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
        self._publishers.close()
        self._fetchers.close()
        for other in self._vhosts.all():
            other.close()

    def connections(self) -> int:
        own = self._publishers.open + self._fetchers.open
        return own + sum(other.connections() for other in self._vhosts.all())

    def describe(self) -> str:
        return str(self._target)

    def ping(self) -> None:
        # Nothing less than a message shows an alarm.
        deadline = self._deadline()
        self._publish_to_nobody(0, deadline)
        with _translated(), self._fetchers.link(deadline) as link:
            link.round_trip()

    def _publish_to_nobody(self, size: int, deadline: float) -> None:
        """Publish a message of so many bytes that reaches no queue, and is confirmed all the same."""
        try:
            self._publish("", PING_KEY, [Envelope(bytes(size))], deadline, mandatory=False)
        except PublishBlocked as error:
            raise BrokerBlocked(str(error)) from error
        except OutcomeUnknown as error:
            raise BridgeUnavailable(str(error)) from error

    # -- queues -------------------------------------------------------------------------------------------------

    def create(self, queue: str) -> None:
        self._create_with(self._fetchers, queue)

    def _create_with(self, pool: Pool, queue: str) -> None:
        # One at a time: declaring one new quorum queue from several connections at once makes RabbitMQ 3.10 stall.
        deadline = self._deadline()
        if not self._create_lock.acquire(timeout=self.timeout):
            raise BridgeUnavailable("other queues are being made, and the broker is slow to answer")
        try:
            with _translated():
                link = pool.take(deadline)
                try:
                    self._create(link, queue)
                except BaseException:
                    pool.drop(link)
                    raise
                if pool is self._publishers:
                    pool.drop(link)  # the search for the queue has opened another channel, which has no confirms
                else:
                    pool.put(link)
        finally:
            self._create_lock.release()

    def _create(self, link: Link, queue: str) -> None:
        if link.depth(queue) is not None:
            return  # adopted as it is: to declare it with other arguments would fail
        made = link.declare(queue, self._arguments(link.server_properties))
        if not made and link.depth(queue) is None:  # not even made by somebody else just now
            raise BridgeUnavailable(f"the broker refuses to make queue {queue}")

    def _arguments(self, server: dict[str, Any]) -> dict[str, Any]:
        """Arguments of our queues; other brokers than RabbitMQ refuse those they don't know."""
        if server.get("product") != "RabbitMQ":
            return {}
        arguments: dict[str, Any] = {"x-queue-type": self._options.queue_type}
        if self._options.queue_type == "quorum":
            arguments["x-delivery-limit"] = DELIVERY_LIMIT
        return arguments

    def delete(self, queue: str) -> None:
        with _translated(), self._fetchers.link() as link:
            link.channel.queue_delete(queue)  # RabbitMQ answers the same when there is none

    def purge(self, queue: str) -> None:
        with _translated(), self._fetchers.link() as link:
            if link.depth(queue) is not None:
                link.channel.queue_purge(queue)

    def depth(self, queue: str) -> int:
        with _translated(), self._fetchers.link() as link:
            return link.depth(queue) or 0

    # -- messages -----------------------------------------------------------------------------------------------

    def publish(self, queue: str, envelopes: Sequence[Envelope]) -> None:
        try:
            self.publish_to("", queue, envelopes, mandatory=True)
        except Unroutable as error:
            raise QueueMissing(queue) from error
        except QueueFull as error:
            if not self.exists(queue):  # what is published to a queue while it is deleted is refused, too
                raise QueueMissing(queue) from error
            raise

    def publish_to(self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], *, mandatory: bool) -> None:
        deadline = self._deadline()
        self._sizes.check(
            [len(envelope.body) for envelope in envelopes], lambda size: self._publish_to_nobody(size, deadline)
        )
        try:
            self._publish(exchange, routing_key, envelopes, deadline, mandatory, FIRST_TRY)
        except PublishBlocked:
            raise  # so is every other connection, and when the alarm is over each would enqueue what it was sent
        except OutcomeUnknown as unknown:
            if deadline - time.monotonic() < self.timeout * SECOND_TRY:
                raise
            # The same message ids: what arrives twice lands once.
            try:
                self._publish(exchange, routing_key, envelopes, deadline, mandatory)
            except QueueFull as error:  # the first copy may be in another queue, or in this one
                raise QueueFull(str(error)) from error
            except BridgeUnavailable as error:
                raise unknown from error

    def _publish(
        self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], deadline: float, mandatory: bool,
        share: float = 1.0,
    ) -> None:
        """Publish, and wait for confirms for a ``share`` of the timeout, till ``deadline`` (monotonic seconds).

        Whatever it waits for before it sends counts. Raises OutcomeUnknown only when it has sent something.
        """
        latest = deadline - self.timeout * LEAST_LEFT
        link = self._publishers.take(latest)
        now = time.monotonic()
        if now > latest:
            self._publishers.put(link)
            raise BridgeUnavailable("no connection to the broker was free in time; nothing was sent")
        until = min(deadline, now + self.timeout * share)
        try:
            link.publish(exchange, routing_key, envelopes, until, mandatory)
        except (Unroutable, PropertiesTooLarge, QueueFull):
            self._publishers.put(link)
            raise
        except NotFound as error:
            self._publishers.drop(link)
            raise ExchangeMissing(exchange) from error
        except LINK_ERRORS as error:
            self._publishers.drop(link)
            if (refused := refusal(error)) is not None:
                if isinstance(refused, MessageTooLarge):
                    self._sizes.learn(refused)
                    refused.partly = len(envelopes) > 1
                raise refused from error
            raise OutcomeUnknown(f"the connection to the broker broke before it confirmed: {error}") from error
        except BridgeUnavailable:
            if link.blocked:  # keep it: it knows of the alarm, and of its end
                self._publishers.put(link)
            else:
                self._publishers.drop(link)
            raise
        except BaseException:
            self._publishers.drop(link)
            raise
        self._publishers.put(link)

    def deposit(self, queue: str, envelopes: Sequence[Envelope]) -> None:
        try:
            self.publish(queue, envelopes)
        except QueueMissing:
            # On a connection for publishing: all those for fetching may be held by batches whose poison is to go there.
            self._create_with(self._publishers, queue)
            self.publish(queue, envelopes)

    def fetch(self, queue: str, limit: int) -> Batch:
        deadline = self._deadline()
        if limit == 1:
            return self._fetch(queue, Link.fetch, limit, deadline)
        # One at a time: two that see the same messages waiting would together ask for more than there are.
        with self._fetching_lock:
            lock = self._fetching.setdefault(queue, _QueueLock())
            consume = queue not in self._unheard

        def fetch(link: Link, queue: str, limit: int) -> list[amqp.Message]:
            deliveries = link.fetch(queue, limit, consume)
            if link.unheard:
                with self._fetching_lock:
                    self._unheard[queue] = True
            return deliveries

        if not lock.mutex.acquire(timeout=self.timeout):
            raise BridgeUnavailable(f"other fetches from queue {queue} are waiting, and the broker is slow to answer")
        try:
            return self._fetch(queue, fetch, limit, deadline)
        finally:
            lock.mutex.release()

    def _fetch(
        self, queue: str, how: Callable[[Link, str, int], list[amqp.Message]], limit: int, deadline: float
    ) -> AMQPBatch:
        with self._fetching_lock:
            limit = min(limit, self._fitting.get(queue, self._options.prefetch))
        with _translated():
            link = self._fetchers.take(deadline)
            try:
                deliveries = how(link, queue, limit)
            except QueueMissing:
                self._fetchers.put(link)
                return AMQPBatch([], None, queue)
            except BaseException:
                self._fetchers.drop(link)
                raise
        if not deliveries:
            self._fetchers.put(link)
            return AMQPBatch([], None, queue)
        envelopes = [_envelope(delivery) for delivery in deliveries]
        self._size_up(queue, max(len(envelope.body) for envelope in envelopes))
        return AMQPBatch(envelopes, link, queue)

    def _size_up(self, queue: str, largest: int) -> None:
        """Remember how many may be fetched next time, from the largest body of this time.

        A fetch is not cut short instead: what it would give back others could overtake meanwhile, and a quorum queue
        puts it behind what has been given back before. How large the next messages are the broker does not tell.
        """
        fitting = max(1, FETCH_BYTES // max(1, largest))
        with self._fetching_lock:
            if fitting < self._options.prefetch:
                self._fitting[queue] = fitting
            else:
                self._fitting.pop(queue, None)

    def settle(self, batch: Batch) -> None:
        self._settle(batch, Link.ack)

    def settle_others(self, batch: Batch, kept: Sequence[Envelope]) -> None:
        assert isinstance(batch, AMQPBatch)  # nosec B101  # for the type checker
        still = {id(envelope) for envelope in kept}
        places = [place for place, envelope in enumerate(batch.envelopes) if id(envelope) not in still]
        self._settle(batch, lambda link: link.ack_some(batch.queue, places, len(batch.envelopes)))

    def _settle(self, batch: Batch, acknowledge: Callable[[Link], None]) -> None:
        assert isinstance(batch, AMQPBatch)  # nosec B101  # for the type checker
        if batch.link is not None:
            link, batch.link = batch.link, None
            link.until = self._deadline()
            with _translated():
                try:
                    acknowledge(link)
                    if self._closing.is_set():
                        link.round_trip()  # closing the connection at once may lose the acknowledgement
                except BaseException:
                    self._fetchers.drop(link)
                    raise
            self._fetchers.put(link)

    def requeue(self, batch: Batch) -> None:
        assert isinstance(batch, AMQPBatch)  # nosec B101  # for the type checker
        if batch.link is not None:
            link, batch.link = batch.link, None
            link.until = self._deadline()
            try:
                link.restore(batch.queue, len(batch.envelopes))
            except LINK_ERRORS:
                self._fetchers.drop(link)  # with the connection gone the broker does it by itself
            else:
                self._fetchers.put(link)

    # -- foreign ------------------------------------------------------------------------------------------------

    def at(self, vhost: str | None) -> Bridge:
        if vhost is None or vhost == self.own_vhost():
            return self
        bridge: AMQPBridge = self._vhosts.at(vhost)
        return bridge

    def _other(self, vhost: str) -> AMQPBridge:
        return AMQPBridge(self._uri, self._options, vhost, self)

    def own_vhost(self) -> str:
        return self._target.vhost

    def exists(self, queue: str) -> bool:
        try:
            with _translated(), self._fetchers.link() as link:
                return link.depth(queue) is not None
        except ObjectLocked as error:
            raise locked(queue) from error

    def check_source(self, queue: str) -> None:
        self._consumable(queue, self._deadline())

    def check_exchange(self, binding: Binding) -> None:
        with _translated(), self._fetchers.link() as link:
            check_exchange(link, binding)

    def bind(self, queue: str, binding: Binding) -> None:
        with _translated(), self._fetchers.link() as link:
            if link.depth(queue) is None:
                raise QueueMissing(queue)
            if binding.declare and not link.has_exchange(binding.exchange):
                link.declare_exchange(binding.exchange, binding.type, binding.durable)
            try:
                for key in binding.keys or ("",):
                    link.bind(queue, binding.exchange, key, binding.arguments)
            except NotFound as error:
                raise ExchangeMissing(binding.exchange) from error

    def fetch_foreign(self, queue: str, limit: int) -> Batch:
        deadline = self._deadline()
        consume = self._consumable(queue, deadline)
        if consume is None:
            return AMQPBatch([], None, queue)

        def fetch(link: Link, queue: str, limit: int) -> list[amqp.Message]:
            return link.fetch_foreign(queue, limit, consume)

        return self._fetch(queue, fetch, limit, deadline)

    def _consumable(self, queue: str, deadline: float) -> bool | None:
        """may_consume, remembered for a while; None when nothing is there to fetch."""
        with self._fetching_lock:  # cachetools' caches are not thread-safe
            consume = self._may_consume.get(queue)
        if consume is None:
            try:
                with _translated(), self._fetchers.link(deadline) as link:
                    consume = may_consume(link, queue)
            except QueueMissing:
                return None
            if consume is not None:
                with self._fetching_lock:
                    self._may_consume[queue] = consume
        return consume

    def peek(self, queue: str, limit: int, see: Callable[[Envelope], bool]) -> None:
        deadline = self._deadline()
        consume = self._consumable(queue, deadline)
        if consume is None:
            return
        waiting = 0

        def show(delivery: amqp.Message) -> None:
            if not see(_envelope(delivery)):
                raise _SeenEnough
            if time.monotonic() > deadline:
                raise BridgeUnavailable(f"a look at queue {queue} has taken longer than {self.timeout} s")

        try:
            # All on the one link: to wait for a second while holding this would lock up a pool full of those who look.
            with _translated(), self._fetchers.link(deadline) as link:
                if waiting := link.depth(queue) or 0:
                    link.look(queue, min(limit, self._options.prefetch), waiting, consume, show)
        except _SeenEnough:
            # The rest is on its way, and may be any amount: the link has been dropped instead of reading it, and the
            # broker puts all of it back.
            with _translated(), self._fetchers.link(deadline) as link:
                link.await_depth(queue, waiting)


class _SeenEnough(Exception):
    """Ends a look before it has got all."""


class _QueueLock:
    """A lock that a WeakValueDictionary can hold."""

    __slots__ = ("__weakref__", "mutex")

    def __init__(self) -> None:
        self.mutex = threading.Lock()


class _translated:
    """AMQP exceptions become bridge errors at this boundary."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, LINK_ERRORS):
            if (refused := refusal(error)) is not None:
                raise refused from error
            raise BridgeUnavailable(f"the broker failed or did not answer: {error}") from error


def _signed(timestamp: int | None) -> int | None:
    """A time before 1970 is negative, whatever py-amqp says."""
    return timestamp - 2**64 if timestamp is not None and timestamp >= 2**63 else timestamp


def _envelope(delivery: amqp.Message) -> Envelope:
    properties = delivery.properties
    headers = properties.get("application_headers", {})
    deliveries = headers.get(DELIVERY_COUNT)
    try:
        ttl = int(properties["expiration"])
    except (KeyError, ValueError):
        ttl = None
    body = delivery.body
    return Envelope(
        body=body if isinstance(body, bytes) else body.encode(),  # py-amqp: "" when there was no body frame
        message_id=properties.get("message_id"),
        ttl=ttl,
        timestamp=_signed(properties.get("timestamp")),
        content_type=properties.get("content_type"),
        content_encoding=properties.get("content_encoding"),
        headers={k: v for k, v in headers.items() if k not in DELIVERY_HEADERS},
        priority=properties.get("priority"),
        correlation_id=properties.get("correlation_id"),
        reply_to=properties.get("reply_to"),
        type=properties.get("type"),
        app_id=properties.get("app_id"),
        redelivered=delivery.delivery_info["redelivered"],
        deliveries=deliveries if isinstance(deliveries, int) else 0,  # a classic queue passes anybody's header on
        exchange=delivery.delivery_info["exchange"],
        routing_key=delivery.delivery_info["routing_key"],
        readable=UNREADABLE not in headers,
    )
