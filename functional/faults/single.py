"""One broker or none, one side-store, two gateways, and the network in between: each node is there once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Self

from functional.faults.cluster import (
    GATEWAYS,
    HEALTHY_TIMEOUT,
    HEARTBEAT,
    SMALL_DISK,
    TIMEOUT,
    WORKERS,
    FaultyGateway,
    StoreMember,
    make_queues,
    start_what_is_down,
)
from functional.faults.disk import SmallDisk
from functional.faults.follower import KEEP_ALIVE
from functional.faults.network import Network
from functional.services.gateway import Options
from functional.services.mongodb import MongoReplicaSet
from functional.services.process import Service, start_together
from functional.services.qpid import Qpid
from functional.services.redis import Redis
from functional.wait import wait_until
from gateway.core.queues.names import broker_name

#: Seconds after which Redis gives to others what a gateway had fetched: shorter than the longest pauses.
LEASE = 8


class FileStore:
    """A side-store that is a file of the gateways', so that nothing of it can be killed."""

    members = ()
    primary = None


class Single:
    """Everything, started; as `Cluster`. ``kind``: a key of BROKERS. Without a broker the side-store is a file, too."""

    def __init__(self, kind: str, say: Callable[[str], None], mutant: str | None = None) -> None:
        self._make_broker, self._bridge, self.gives_back_after = BROKERS[kind]
        self._say = say
        self._mutant = mutant
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.network = stack.enter_context(Network())
            self.brokers = [self._make_broker()] if self._make_broker else []
            members = [StoreMember("mongodb", self.network)] if self.brokers else []
            self.store = MongoReplicaSet(members) if members else FileStore()
            behind: list[Any] = [*self.brokers, *members]
            for service in behind:
                stack.callback(service.close)
            self.disks = {
                service.name: stack.enter_context(SmallDisk(service.data, SMALL_DISK)) for service in behind
            }
            self._say(f"starting {', '.join(service.name for service in behind) or 'no service'}")
            start_together(self.brokers)
            if isinstance(self.store, MongoReplicaSet):
                self.store.start()
            self.gateways: list[FaultyGateway] = []
            for number in range(1, GATEWAYS + 1):
                self.gateways.append(FaultyGateway(f"gateway-{number}", {}, self._mutant))
                stack.callback(self.gateways[-1].close)
            options = self._options()
            for gateway in self.gateways:
                gateway.configure(options)
            self._say(f"starting {', '.join(gateway.name for gateway in self.gateways)}")
            start_together(self.gateways)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _options(self) -> Options:
        file = self.gateways[0].folder / "marconi.db"
        bridge = "loopback://"
        for broker in self.brokers:
            bridge = broker.uri.replace(f":{broker.port}/", f":{self.network.proxy(broker.name, broker.port)}/")
        store = self.store.uri if isinstance(self.store, MongoReplicaSet) else f"sqlite:///{file}"
        return {
            "DEFAULT": {"debug": False},
            "stream": {"keep_alive": KEEP_ALIVE},
            "wsgi": {"workers": WORKERS if self.brokers else 1},
            "bridge": {"uri": bridge, "timeout": TIMEOUT, **self._bridge},
            "side_store": {"uri": store, "timeout": TIMEOUT},
        }

    @property
    def services(self) -> list[Service]:
        """All processes but the proxies'."""
        return [*self.brokers, *self.store.members, *self.gateways]

    def make_queues(self, project: str, queues: Mapping[str, Mapping[str, Any]]) -> None:
        """Make queues with their metadata."""
        make_queues(self.gateways[0], project, queues)
        for broker in self.brokers:
            for name in queues:
                broker.until_saved(broker_name(project, name))

    def until_up(self) -> None:
        """Start what is down, and wait until all services are up."""
        start_what_is_down(self.services)
        if self.store.members:
            wait_until(lambda: self.store.primary, HEALTHY_TIMEOUT, "the side-store to take writes")

    def leader_of(self, queue: str) -> Any:
        """The broker, if there is one."""
        return self.brokers[0] if self.brokers else None


#: What can carry the messages: how it is made, options of its bridge, and the seconds after which it gives to others
#: what a gateway had fetched that does not answer any more.
BROKERS: dict[str, tuple[Callable[[], Any] | None, dict[str, object], float]] = {
    "qpid": (Qpid, {"heartbeat": HEARTBEAT}, 2.0 * HEARTBEAT),
    "redis": (Redis, {"lease": LEASE}, LEASE),
    "embedded": (None, {}, 0.0),
}
