"""What goes wrong while receivers are told."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random

from functional.faults import kinds
from functional.faults.kinds import cut, gateway_to_brokers, gateway_to_store, killed, links, paused, stalled
from functional.notify.faults.cluster import Notifier, NotifyCluster


@dataclass(frozen=True)
class Place(kinds.Place):
    """Where a fault strikes, and the dice."""

    cluster: NotifyCluster
    project: str
    queue: str
    random: Random

    def notifier(self) -> Notifier:
        """Either notifier."""
        return self.random.choice(self.cluster.notifiers)


Fault = Callable[[Place], AbstractContextManager[str]]


@contextmanager
def process_killed(place: Place) -> Iterator[str]:
    """The process of a notifier that delivers dies; the notifier replaces it."""
    notifier = place.notifier()
    for pid in notifier.worker_pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield notifier.name


@contextmanager
def all_killed(place: Place) -> Iterator[str]:
    """Nobody is left who delivers."""
    for notifier in place.cluster.notifiers:
        notifier.kill()
    yield "notifiers"


def _notifier_to_brokers(place: Place) -> list[tuple[str, str]]:
    notifier = place.notifier()
    return [(notifier.name, broker.name) for broker in place.cluster.brokers]


def _notifier_to_store(place: Place) -> list[tuple[str, str]]:
    notifier = place.notifier()
    return [(notifier.name, member.name) for member in place.cluster.store.members]


#: Kinds that last longer than others: than the right of a process to deliver.
LONG = frozenset({"notifier paused for longer than a lease"})

#: Kinds after which a broker knows no queue that it has not saved.
FORGETTING = frozenset({"broker killed"})

#: All kinds of faults by name.
KINDS: dict[str, Fault] = {
    "broker killed": killed(Place.broker),
    "broker paused": paused(Place.broker),
    "side-store killed": killed(Place.primary),
    "side-store paused": paused(Place.primary),
    "gateway killed": killed(Place.gateway),
    "gateway paused": paused(Place.gateway),
    "gateway cut off from brokers": links(gateway_to_brokers, cut),
    "gateway cut off from side-store": links(gateway_to_store, cut),
    "notifier killed": killed(Place.notifier),
    "notifier's process killed": process_killed,
    "all notifiers killed": all_killed,
    "notifier paused": paused(Place.notifier),
    "notifier paused for longer than a lease": paused(Place.notifier),
    "notifier cut off from brokers": links(_notifier_to_brokers, cut),
    "notifier stalled from brokers": links(_notifier_to_brokers, stalled),
    "notifier cut off from side-store": links(_notifier_to_store, cut),
    "notifier stalled from side-store": links(_notifier_to_store, stalled),
}
