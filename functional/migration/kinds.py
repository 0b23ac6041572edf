"""What goes wrong while queues move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from functional.faults.cluster import FaultyGateway
from functional.faults.kinds import cut, disk_full, killed, links, paused, slow, slow_sync, stalled
from functional.migration.pools import Pools
from functional.services.process import Service


@dataclass(frozen=True)
class Place:
    """Where a fault strikes, and the dice."""

    cluster: Pools
    random: Random

    def broker(self) -> Any:
        """Any broker."""
        return self.random.choice(self.cluster.brokers).service

    def store(self) -> Service:
        """The MongoDB of all."""
        return self.cluster.store

    def gateway(self) -> FaultyGateway:
        """Either gateway."""
        return self.random.choice(self.cluster.gateways)


Fault = Callable[[Place], AbstractContextManager[str]]


@contextmanager
def broker_stopped(place: Place) -> Iterator[str]:
    """An operator stops a broker."""
    victim = place.broker()
    victim.stop()
    yield victim.name


@contextmanager
def both_gateways_killed(place: Place) -> Iterator[str]:
    """Nobody is left who moves the queues."""
    for gateway in place.cluster.gateways:
        gateway.kill()
    yield " ".join(gateway.name for gateway in place.cluster.gateways)


def gateway_to_broker(place: Place) -> list[tuple[str, str]]:
    """Of a gateway and any broker."""
    return [(place.gateway().name, place.broker().name)]


#: Kinds that last longer than others.
LONG = frozenset({"gateway paused for longer than a lease"})

#: All kinds of faults by name.
KINDS: dict[str, Fault] = {
    "broker killed": killed(Place.broker),
    "broker paused": paused(Place.broker),
    "broker stopped": broker_stopped,
    "broker's disk full": disk_full(lambda place: [place.broker()]),
    "slow fsync of a broker": slow_sync(Place.broker),
    "gateway cut off from a broker": links(gateway_to_broker, cut),
    "gateway stalled from a broker": links(gateway_to_broker, stalled),
    "slow link to a broker": links(gateway_to_broker, slow),
    "side-store killed": killed(Place.store),
    "side-store paused": paused(Place.store),
    "gateway killed": killed(Place.gateway),
    "gateway paused": paused(Place.gateway),
    "gateway paused for longer than a lease": paused(Place.gateway),
    "both gateways killed": both_gateways_killed,
}
