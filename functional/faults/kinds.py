"""What goes wrong: each kind of fault begins when its context is entered and is mended when that is left.

What is dead then is started once all faults of that time are mended: a broker waits for its peers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from functional.faults.cluster import Broker, Cluster, FaultyGateway
from functional.faults.disk import SmallDisk
from functional.faults.network import CUT, STALL, State
from functional.faults.single import Single
from functional.services.process import Service
from gateway.core.queues.names import broker_name

#: Seconds of delay on a slow link, and of a slow fsync, from and to.
SLOW_LINK = 0.02, 0.15
SLOW_SYNC = 0.05, 0.3

#: Maximum number of seconds by which a clock is stepped, forward or back.
STEP = 7200


@dataclass(frozen=True)
class Place:
    """Where a fault strikes: a cluster under load, the project and queue whose leader is sought, and the dice."""

    cluster: Cluster | Single
    project: str
    queue: str
    random: Random

    def broker(self) -> Broker:
        """Any node."""
        return self.random.choice(self.cluster.brokers)

    def leader(self) -> Broker:
        """The node that leads the queue; any node if nobody knows."""
        return self.cluster.leader_of(broker_name(self.project, self.queue)) or self.broker()

    def primary(self) -> Service:
        """The primary of the side-store; any member during an election."""
        return self.cluster.store.primary or self.random.choice(self.cluster.store.members)

    def gateway(self) -> FaultyGateway:
        """Either gateway."""
        return self.random.choice(self.cluster.gateways)


Fault = Callable[[Place], AbstractContextManager[str]]
P = TypeVar("P")


def killed(choose: Callable[[P], Service]) -> Callable[[P], AbstractContextManager[str]]:
    """SIGKILL for what is chosen."""

    @contextmanager
    def fault(place: P) -> Iterator[str]:
        victim = choose(place)
        victim.kill()
        yield victim.name

    return fault


def paused(choose: Callable[[P], Service]) -> Callable[[P], AbstractContextManager[str]]:
    """SIGSTOP for what is chosen, and SIGCONT."""

    @contextmanager
    def fault(place: P) -> Iterator[str]:
        victim = choose(place)
        if victim.alive:  # another fault may have killed it, or kill it yet
            victim.pause()
        try:
            yield victim.name
        finally:
            if victim.alive:
                victim.resume()

    return fault


@contextmanager
def worker_killed(place: Place) -> Iterator[str]:
    """One worker of a gateway dies; the gateway replaces it."""
    gateway = place.gateway()
    if pids := gateway.worker_pids:
        os.kill(place.random.choice(pids), signal.SIGKILL)
    yield gateway.name


@contextmanager
def worker_paused(place: Place) -> Iterator[str]:
    """One worker of a gateway stands still, with all that it has in hand."""
    gateway = place.gateway()
    pids = gateway.worker_pids
    pid = place.random.choice(pids) if pids else gateway.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield gateway.name
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def links(
    between: Callable[[P], list[tuple[str, str]]], state: Callable[[Random], State]
) -> Callable[[P], AbstractContextManager[str]]:
    """Connections that behave otherwise: those of pairs of services, by their names."""

    @contextmanager
    def fault(place: P) -> Iterator[str]:
        pairs, how = between(place), state(place.random)
        for one, other in pairs:
            place.cluster.network.set(one, other, how)
        try:
            yield pairs[0][0]
        finally:
            for one, other in pairs:
                place.cluster.network.set(one, other, State())

    return fault


def gateway_to_brokers(place: Place) -> list[tuple[str, str]]:
    """Of a gateway and all brokers."""
    gateway = place.gateway()
    return [(gateway.name, broker.name) for broker in place.cluster.brokers]


def gateway_to_store(place: Place) -> list[tuple[str, str]]:
    """Of a gateway and all members of the side-store."""
    gateway = place.gateway()
    return [(gateway.name, member.name) for member in place.cluster.store.members]


def _leader_to_brokers(place: Place) -> list[tuple[str, str]]:
    leader = place.leader()
    return [(leader.name, broker.name) for broker in place.cluster.brokers if broker is not leader]


def _primary_to_members(place: Place) -> list[tuple[str, str]]:
    primary = place.primary()
    return [(primary.name, member.name) for member in place.cluster.store.members if member is not primary]


def cut(random: Random) -> State:
    """Reset, and so are new ones."""
    return State(CUT)


def stalled(random: Random) -> State:
    """Nothing comes through."""
    return State(STALL)


def slow(random: Random) -> State:
    """All comes late."""
    return State(delay=random.uniform(*SLOW_LINK))


def disk_full(choose: Callable[[P], list[Service]]) -> Callable[[P], AbstractContextManager[str]]:
    """No space is left on the disk of the first of the chosen ones that has a small one."""

    @contextmanager
    def fault(place: P) -> Iterator[str]:
        victim = next(service for service in choose(place) if service.name in place.cluster.disks)
        disk = place.cluster.disks[victim.name]
        disk.fill()
        try:
            yield victim.name
        finally:
            disk.free()
            victim.kill()  # a mongod has ended itself, and a broker's replicas stay down until a restart

    return fault


def slow_sync(choose: Callable[[P], Service]) -> Callable[[P], AbstractContextManager[str]]:
    """The disk of what is chosen takes its time."""

    @contextmanager
    def fault(place: P) -> Iterator[str]:
        victim = choose(place)
        delay = int(place.random.uniform(*SLOW_SYNC) * 1_000_000)
        tracer = subprocess.Popen(
            [
                *("strace", "-f", "-qq", "-o", "/dev/null", "-p", str(victim.pid)),
                *("-e", "trace=fsync,fdatasync", "-e", f"inject=fsync,fdatasync:delay_enter={delay}"),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            yield victim.name
        finally:
            tracer.terminate()
            tracer.wait()

    return fault


@contextmanager
def all_killed(place: Place) -> Iterator[str]:
    """No gateway is left."""
    for gateway in place.cluster.gateways:
        gateway.kill()
    yield " ".join(gateway.name for gateway in place.cluster.gateways)


@contextmanager
def clock_stepped(place: Place) -> Iterator[str]:
    """The clock of one gateway jumps, and jumps back."""
    gateway = place.gateway()
    gateway.step_clock(place.random.randint(-STEP, STEP))
    try:
        yield gateway.name
    finally:
        gateway.step_clock(0)


#: Kinds that last longer than others, see LONG in run.py.
LONG = frozenset({"worker paused for longer than a lease", "gateway paused for longer than a lease"})

#: All kinds of faults by name.
KINDS: dict[str, Fault] = {
    "broker killed": killed(Place.broker),
    "broker paused": paused(Place.broker),
    "queue's leader killed": killed(Place.leader),
    "queue's leader paused": paused(Place.leader),
    "queue's leader cut off from its cluster": links(_leader_to_brokers, cut),
    "queue's leader stalled from its cluster": links(_leader_to_brokers, stalled),
    "slow links between brokers": links(_leader_to_brokers, slow),
    "primary killed": killed(Place.primary),
    "primary paused": paused(Place.primary),
    "primary cut off from its set": links(_primary_to_members, cut),
    "worker killed": worker_killed,
    "worker paused": worker_paused,
    "worker paused for longer than a lease": worker_paused,
    "gateway killed": killed(Place.gateway),
    "all gateways killed": all_killed,
    "gateway paused": paused(Place.gateway),
    "gateway paused for longer than a lease": paused(Place.gateway),
    "gateway cut off from brokers": links(gateway_to_brokers, cut),
    "gateway stalled from brokers": links(gateway_to_brokers, stalled),
    "slow links to brokers": links(gateway_to_brokers, slow),
    "gateway cut off from side-store": links(gateway_to_store, cut),
    "gateway stalled from side-store": links(gateway_to_store, stalled),
    "slow links to side-store": links(gateway_to_store, slow),
    "broker's disk full": disk_full(lambda place: [*place.cluster.brokers]),
    "side-store's disk full": disk_full(lambda place: [*place.cluster.store.members]),
    "slow fsync of queue's leader": slow_sync(Place.leader),
    "slow fsync of primary": slow_sync(Place.primary),
    "slow fsync of gateway": slow_sync(Place.gateway),
    "clock stepped": clock_stepped,
}

#: Kinds that strike gateways alone, and those of them that need several workers.
_GATEWAYS = frozenset({
    "gateway killed", "all gateways killed", "gateway paused", "gateway paused for longer than a lease",
    "clock stepped",
})
_WORKERS = frozenset({"worker killed", "worker paused", "worker paused for longer than a lease"})

#: Kinds that need a broker and a side-store, but not several of them.
_SINGLE = _GATEWAYS | _WORKERS | {
    "broker killed", "broker paused", "primary killed", "primary paused", "gateway cut off from brokers",
    "gateway stalled from brokers", "slow links to brokers", "gateway cut off from side-store",
    "gateway stalled from side-store", "slow links to side-store", "broker's disk full", "side-store's disk full",
    "slow fsync of queue's leader", "slow fsync of primary",
}


def kinds_on(place: str) -> list[str]:
    """The kinds that there can be on a cluster, on single nodes with a broker, or on gateways alone (``embedded``).

    Gateways that share a file are on one machine, whose clock is the same for both: it can't be wrong in one of them.
    """
    alone = _GATEWAYS - {"clock stepped"} | {"slow fsync of gateway"}
    fits = {"cluster": KINDS.keys() - {"slow fsync of gateway"}, "embedded": alone}
    return [kind for kind in KINDS if kind in fits.get(place, _SINGLE)]


def possible(kinds: Iterable[str], disks: Iterable[SmallDisk]) -> tuple[list[str], dict[str, str]]:
    """The kinds that this machine allows, and those that it does not with the reason."""
    missing, mounted = {}, all(disk.mounted for disk in disks)
    for kind in kinds:
        if "disk full" in kind and not mounted:
            missing[kind] = "needs the right to mount a file system"
        if "fsync" in kind and not _can_trace():
            missing[kind] = "needs strace, and the right to trace processes"
    return [kind for kind in kinds if kind not in missing], missing


def _can_trace() -> bool:
    if not shutil.which("strace"):
        return False
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            tracer = ["timeout", "1", "strace", "-qq", "-o", "/dev/null", "-p", str(sleeper.pid)]
            return subprocess.run(tracer, capture_output=True, text=True).stderr == ""
        finally:
            sleeper.kill()
