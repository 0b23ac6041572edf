"""Three brokers, three members of a replica set and two gateways with two workers each, and the network in between."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from functional.faults.disk import SmallDisk
from functional.faults.follower import KEEP_ALIVE
from functional.faults.gateway import CLOCK_FILE
from functional.faults.network import NAME_VARIABLE, Network
from functional.http import Api
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import Member, MongoReplicaSet
from functional.services.process import Service, start_together
from functional.services.rabbitmq import RabbitMQ
from functional.wait import wait_until
from gateway.core.queues.names import broker_name

SIZE = 3
GATEWAYS = 2
WORKERS = 2

#: Seconds of [bridge] and [side_store] timeout, shorter than by default so that more happens in a run.
TIMEOUT = 3.0

#: Seconds of AMQP heartbeats: a broker gives back what a gateway had fetched that was silent for two of them, which is
#: shorter than the longest pauses.
HEARTBEAT = 4

#: Seconds of the shortest claim that gateways of a run accept, so that many run out in it.
SHORTEST_CLAIM = 5

#: Seconds until a cluster that has just started, or has just been mended, does its work again.
HEALTHY_TIMEOUT = 90.0

#: Bytes of the disks that can be filled.
SMALL_DISK = 640 * 1024 * 1024

#: Where the package `functional` is found.
ROOT = Path(__file__).parents[2]


class Broker(RabbitMQ):
    """A node whose peers, and whose clients, reach it through the network's proxies."""

    def __init__(self, name: str, network: Network) -> None:
        self._own = {NAME_VARIABLE: name}
        self._mapper = {"ERL_EPMD_PORT": str(network.port_mapper_port), "ERL_EPMD_ADDRESS": "127.0.0.1"}
        super().__init__()
        self.name = name
        # What RabbitMQ's clustering guide recommends for three nodes.
        with (self.folder / "rabbitmq.conf").open("a") as config:
            config.write("cluster_partition_handling = pause_minority\n")
            config.write("raft.wal_max_size_bytes = 67108864\n")
        self.client_port = network.proxy(name, self.port)

    def find(self, peers: list[Broker]) -> None:
        """Form a cluster with these at the first start."""
        with (self.folder / "rabbitmq.conf").open("a") as config:
            for number, peer in enumerate(peers, 1):
                config.write(f"cluster_formation.classic_config.nodes.{number} = {peer.node}\n")

    def environment(self) -> dict[str, str]:
        return self._environment | self._mapper | self._own


class StoreMember(Member):
    """A mongod whose peers and clients reach it through a proxy, which its set knows as its address."""

    def __init__(self, name: str, network: Network) -> None:
        super().__init__()
        self.name = name
        self.host = f"127.0.0.1:{network.proxy(name, self.port)}"

    def environment(self) -> dict[str, str]:
        return super().environment() | {NAME_VARIABLE: self.name}


class FaultyGateway(Gateway):
    """A gateway whose clock can be stepped; ``mutant`` names a deliberate bug to run it with."""

    def __init__(self, name: str, options: Options, mutant: str | None) -> None:
        super().__init__(options)
        self.name = name
        self._mutant = ["--mutant", mutant] if mutant else []
        self.step_clock(0)

    def step_clock(self, seconds: int) -> None:
        """Let the gateway's clock of the day be wrong by so much."""
        (self.folder / CLOCK_FILE).write_text(str(seconds))

    def command(self) -> list[str]:
        own = [sys.executable, "-m", "functional.faults.gateway", str(self.folder), *self._mutant]
        own += ["--shortest-claim", str(SHORTEST_CLAIM)]
        return [*own, "--", *super().command()[1:]]

    def environment(self) -> dict[str, str]:
        return super().environment() | {NAME_VARIABLE: self.name, "PYTHONPATH": str(ROOT)}


class Cluster:
    """Everything, started and healthy; ``say`` is told what goes on.

    ``size``: number of brokers, and of mongods. ``more``: options of the gateways, on top of those of all runs.
    """

    #: Seconds after which the brokers give to others what a gateway had fetched that does not answer any more.
    gives_back_after = 2.0 * HEARTBEAT

    def __init__(
        self, say: Callable[[str], None], mutant: str | None = None, size: int = SIZE, more: Options | None = None
    ) -> None:
        self._say = say
        self._mutant = mutant
        self._size = size
        self._more: Options = more or {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.network = stack.enter_context(Network())
            self.brokers = [Broker(f"rabbitmq-{n}", self.network) for n in range(1, self._size + 1)]
            self.store = MongoReplicaSet([StoreMember(f"mongodb-{n}", self.network) for n in range(1, self._size + 1)])
            services: list[Service] = [*self.brokers, *self.store.members]
            for service in services:
                stack.callback(service.close)
            # The last of each has a disk that can be filled.
            self.disks = {
                service.name: stack.enter_context(SmallDisk(service.data, SMALL_DISK))
                for service in (self.brokers[-1], self.store.members[-1])
            }
            self._start_brokers()
            self._say("starting the replica set")
            self.store.start()
            front = self._make_front()
            self._say(f"starting {', '.join(service.name for service in front)}")
            for service in front:
                stack.callback(service.close)
            start_together(front)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_brokers(self) -> None:
        """They find each other while they boot."""
        self._say("starting a cluster of brokers")
        for broker in self.brokers:
            broker.find(self.brokers)
        start_together(self.brokers)

    def _make_front(self) -> list[Service]:
        """What uses the brokers and the side-store."""
        self.gateways = [FaultyGateway(f"gateway-{n}", self._options(), self._mutant) for n in range(1, GATEWAYS + 1)]
        return [*self.gateways]

    def _options(self) -> Options:
        first, *others = (f"127.0.0.1:{broker.client_port}" for broker in self.brokers)
        usual: Options = {
            "DEFAULT": {"debug": False},
            "stream": {"keep_alive": KEEP_ALIVE},
            "wsgi": {"workers": WORKERS},
            "bridge": {
                "uri": f"amqp://guest:guest@{first}/%2F", "hosts": others, "timeout": TIMEOUT, "heartbeat": HEARTBEAT,
            },
            "side_store": {"uri": self.store.uri, "timeout": TIMEOUT},
        }
        return merge(usual, self._more)

    @property
    def services(self) -> list[Service]:
        """All processes but the proxies'."""
        return [*self.brokers, *self.store.members, *self.gateways]

    def make_queues(self, project: str, queues: Iterable[str] | Mapping[str, Mapping[str, Any]]) -> None:
        """Make queues with their metadata, if given, and wait until every node would know them after a crash."""
        make_queues(self.gateways[0], project, queues)
        for broker in self.brokers:
            for name in queues:
                broker.until_saved(broker_name(project, name))

    def until_up(self) -> None:
        """Start what is down, and wait until all services are up."""
        start_what_is_down(self.services)

    def leader_of(self, queue: str) -> Broker | None:
        """The node that leads a queue now; None while there is none, or no node tells."""
        expression = (
            f'case rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)) of'
            " {ok, Q} -> {_, Node} = amqqueue:get_pid(Q), Node; _ -> none end."
        )
        for broker in self.brokers:
            if broker.alive:
                try:
                    node = broker.ctl("eval", expression).strip().strip("'")
                except (RuntimeError, TimeoutError):
                    continue
                return next((peer for peer in self.brokers if peer.node == node), None)
        return None


def make_queues(gateway: Gateway, project: str, queues: Iterable[str] | Mapping[str, Mapping[str, Any]]) -> None:
    """Make queues with their metadata, if given."""
    api = Api(gateway.url, project)
    for name in queues:
        metadata = queues[name] if isinstance(queues, Mapping) else {}

        def made(name: str = name, metadata: Mapping[str, Any] = metadata) -> bool:
            return api.put(f"/v2/queues/{name}", json=metadata).status_code == 201

        wait_until(made, 30, f"queue {name}")
    api.close()


def start_what_is_down(services: Sequence[Service]) -> None:
    """Start again what has died, and wait until all services are up."""
    down = [service for service in services if not service.alive]
    for service in down:
        service.kill()  # what is left of its process group
    start_together(down)
