"""The pools of a run: brokers of several kinds, a MongoDB, and two gateways in front of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import pika.exceptions

from functional.faults.cluster import GATEWAYS, SMALL_DISK, TIMEOUT, FaultyGateway, make_queues
from functional.faults.disk import SmallDisk
from functional.faults.network import Network
from functional.http import Api
from functional.services.gateway import Options
from functional.services.mongodb import MongoDB
from functional.services.process import Missing, Service, start_together
from functional.services.qpid import Qpid
from functional.services.rabbitmq import LATER, RabbitMQ
from functional.services.redis import Redis

#: The pool of [bridge], and the one without a broker, whose messages are in a database of their own.
DEFAULT, STORED = "default", "stored"

#: Seconds of heartbeats: a broker gives back what a dead gateway had after two, and so long a move lasts at least.
HEARTBEAT = 2

#: Seconds after which Redis gives back what a gateway had that has died: longer than a batch is held.
LEASE = 15

#: Headers of an administrator.
ADMIN = {"X-Roles": "admin"}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Broker:
    """A broker and its pool, whose address is ``uri``. ``options`` are the pool's."""

    pool: str
    service: Any
    uri: str
    options: dict[str, Any]


class Pools:
    """Everything, started. ``names``: of the pools wanted, all that are possible if none are given.

    ``faulty``: gateways reach the brokers through a network with faults, and these have disks that can be filled.
    """

    def __init__(
        self,
        say: Say,
        names: Sequence[str] = (),
        mutant: str | None = None,
        options: Options | None = None,
        faulty: bool = False,
    ) -> None:
        self._say = say
        self._names = names
        self._mutant = mutant
        self._more: Options = options or {}
        self._faulty = faulty
        self.network = Network()
        self.disks: dict[str, SmallDisk] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            if self._faulty:
                stack.enter_context(self.network)
            self.store = MongoDB()
            self.brokers = self._make_brokers()
            services: list[Service] = [self.store, *(broker.service for broker in self.brokers)]
            for service in services:
                stack.callback(service.close)
            if self._faulty:
                self.disks = {
                    broker.pool: stack.enter_context(SmallDisk(broker.service.data, SMALL_DISK))
                    for broker in self.brokers
                }
            self._say(f"starting {', '.join(service.name for service in services)}")
            start_together(services)
            self.gateways = [
                FaultyGateway(f"gateway-{n}", self._options(), self._mutant) for n in range(1, GATEWAYS + 1)
            ]
            for gateway in self.gateways:
                stack.callback(gateway.close)
            start_together(self.gateways)
            self._create()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _make_brokers(self) -> list[Broker]:
        """Brokers in the order of the way, the one of [bridge] first."""
        kinds: dict[str, tuple[Callable[[], Service], dict[str, Any]]] = {
            DEFAULT: (RabbitMQ, {"heartbeat": HEARTBEAT}),
            "rabbitmq-4": (lambda: RabbitMQ(unpacked=LATER), {"heartbeat": HEARTBEAT}),
            "qpid": (Qpid, {"heartbeat": HEARTBEAT}),
            "redis": (Redis, {"lease": LEASE}),
        }
        brokers = []
        for pool, (make, options) in kinds.items():
            if self._names and pool not in self._names:
                continue
            try:
                service = make()
            except Missing as missing:
                if self._names or pool == DEFAULT:
                    raise
                self._say(f"left out: {pool}, {missing}")
                continue
            service.name = pool if brokers else DEFAULT
            brokers.append(Broker(service.name, service, self._uri(service), {"timeout": TIMEOUT, **options}))
        return brokers

    def _uri(self, service: Any) -> str:
        """The address of a broker for gateways."""
        uri: str = service.uri
        if not self._faulty:
            return uri
        return uri.replace(f":{service.port}/", f":{self.network.proxy(service.name, service.port)}/")

    def _options(self) -> Options:
        first = self.brokers[0]
        options: dict[str, dict[str, object]] = {
            "DEFAULT": {"debug": False, "admin_mode": True},
            "bridge": {"uri": first.uri, **first.options},
            "side_store": {"uri": self.store.uri, "timeout": TIMEOUT},
        }
        for section, values in self._more.items():
            options.setdefault(section, {}).update(values)
        return options

    def _create(self) -> None:
        api = Api(self.gateways[0].url)
        pools = {broker.pool: (broker.uri, broker.options) for broker in self.brokers[1:]}
        pools[STORED] = (self.store.database_uri("stored"), {"timeout": TIMEOUT})
        for name, (uri, options) in pools.items():
            answer = api.put(
                f"/v2/pools/{name}", json={"weight": 0, "uri": uri, "options": options}, headers=ADMIN
            )
            if answer.status_code != 201:
                raise RuntimeError(f"pool {name}: {answer.text}")
        api.close()

    @property
    def way(self) -> list[str]:
        """Round all pools, from the default one back to it."""
        return [*(broker.pool for broker in self.brokers[1:]), STORED, DEFAULT]

    def broker_of(self, pool: str) -> Broker | None:
        """The broker of a pool; None for the pool without one."""
        return next((broker for broker in self.brokers if broker.pool == pool), None)

    def make_queues(self, project: str, queues: Mapping[str, Mapping[str, Any]]) -> None:
        """Make the queues with their metadata, in the default pool, and wait until its broker would know them after a
        crash.
        """
        make_queues(self.gateways[0], project, queues)
        for name in queues:
            self.brokers[0].service.until_saved(f"marconi.{project}.{name}")

    def until_up(self) -> None:
        """Start what is down, and wait until all services are up."""
        services: list[Service] = [self.store, *(broker.service for broker in self.brokers), *self.gateways]
        down = [service for service in services if not service.alive]
        for service in down:
            service.kill()
        start_together(down)

    def holders(self, project: str, queue: str) -> list[str]:
        """The pools whose broker has the queue, or whose database has something of it."""
        name = f"marconi.{project}.{queue}"
        found = [broker.pool for broker in self.brokers if _has(broker.service, name)]
        with self.store.connect() as client:
            stored = client["stored"]
            if any(
                stored[collection].count_documents({"_id": {"$regex": f"^{project}/{queue}"}}, limit=1)
                for collection in stored.list_collection_names()
            ):
                found.append(STORED)
        return found


def _has(service: Any, queue: str) -> bool:
    if isinstance(service, RabbitMQ):
        return queue in service.ctl("list_queues", "name").split()
    if isinstance(service, Redis):
        with service.connect() as client:
            return bool(client.exists(queue))
    with service.connect() as connection:
        try:
            connection.channel().queue_declare(queue, passive=True)
        except pika.exceptions.AMQPError:
            return False
        return True
