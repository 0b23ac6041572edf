"""What goes wrong: each kind of fault begins when its context is entered and is mended when that is left.

What is dead then is started once all faults of that time are mended: a broker waits for its peers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random

from functional.faults.cluster import Broker, Cluster, FaultyGateway
from functional.faults.network import CUT, STALL, State
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

    cluster: Cluster
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


def _killed(choose: Callable[[Place], Service]) -> Fault:
    @contextmanager
    def fault(place: Place) -> Iterator[str]:
        victim = choose(place)
        victim.kill()
        yield victim.name

    return fault


def _paused(choose: Callable[[Place], Service]) -> Fault:
    @contextmanager
    def fault(place: Place) -> Iterator[str]:
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


def _links(between: Callable[[Place], list[tuple[str, str]]], state: Callable[[Random], State]) -> Fault:
    @contextmanager
    def fault(place: Place) -> Iterator[str]:
        pairs, how = between(place), state(place.random)
        for one, other in pairs:
            place.cluster.network.set(one, other, how)
        try:
            yield pairs[0][0]
        finally:
            for one, other in pairs:
                place.cluster.network.set(one, other, State())

    return fault


def _gateway_to_brokers(place: Place) -> list[tuple[str, str]]:
    gateway = place.gateway()
    return [(gateway.name, broker.name) for broker in place.cluster.brokers]


def _gateway_to_store(place: Place) -> list[tuple[str, str]]:
    gateway = place.gateway()
    return [(gateway.name, member.name) for member in place.cluster.store.members]


def _leader_to_brokers(place: Place) -> list[tuple[str, str]]:
    leader = place.leader()
    return [(leader.name, broker.name) for broker in place.cluster.brokers if broker is not leader]


def _primary_to_members(place: Place) -> list[tuple[str, str]]:
    primary = place.primary()
    return [(primary.name, member.name) for member in place.cluster.store.members if member is not primary]


def _cut(random: Random) -> State:
    return State(CUT)


def _stalled(random: Random) -> State:
    return State(STALL)


def _slow(random: Random) -> State:
    return State(delay=random.uniform(*SLOW_LINK))


def _disk_full(choose: Callable[[Place], list[Service]]) -> Fault:
    @contextmanager
    def fault(place: Place) -> Iterator[str]:
        victim = next(service for service in choose(place) if service.name in place.cluster.disks)
        disk = place.cluster.disks[victim.name]
        disk.fill()
        try:
            yield victim.name
        finally:
            disk.free()
            victim.kill()  # a mongod has ended itself, and a broker's replicas stay down until a restart

    return fault


def _slow_sync(choose: Callable[[Place], Service]) -> Fault:
    @contextmanager
    def fault(place: Place) -> Iterator[str]:
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
    "broker killed": _killed(Place.broker),
    "broker paused": _paused(Place.broker),
    "queue's leader killed": _killed(Place.leader),
    "queue's leader paused": _paused(Place.leader),
    "queue's leader cut off from its cluster": _links(_leader_to_brokers, _cut),
    "queue's leader stalled from its cluster": _links(_leader_to_brokers, _stalled),
    "slow links between brokers": _links(_leader_to_brokers, _slow),
    "primary killed": _killed(Place.primary),
    "primary paused": _paused(Place.primary),
    "primary cut off from its set": _links(_primary_to_members, _cut),
    "worker killed": worker_killed,
    "worker paused": worker_paused,
    "worker paused for longer than a lease": worker_paused,
    "gateway killed": _killed(Place.gateway),
    "gateway paused": _paused(Place.gateway),
    "gateway paused for longer than a lease": _paused(Place.gateway),
    "gateway cut off from brokers": _links(_gateway_to_brokers, _cut),
    "gateway stalled from brokers": _links(_gateway_to_brokers, _stalled),
    "slow links to brokers": _links(_gateway_to_brokers, _slow),
    "gateway cut off from side-store": _links(_gateway_to_store, _cut),
    "gateway stalled from side-store": _links(_gateway_to_store, _stalled),
    "slow links to side-store": _links(_gateway_to_store, _slow),
    "broker's disk full": _disk_full(lambda place: [*place.cluster.brokers]),
    "side-store's disk full": _disk_full(lambda place: [*place.cluster.store.members]),
    "slow fsync of queue's leader": _slow_sync(Place.leader),
    "slow fsync of primary": _slow_sync(Place.primary),
    "clock stepped": clock_stepped,
}


def possible(cluster: Cluster) -> tuple[list[str], dict[str, str]]:
    """The kinds that this machine allows, and those that it does not with the reason."""
    missing = {}
    for kind in KINDS:
        if "disk full" in kind and not all(disk.mounted for disk in cluster.disks.values()):
            missing[kind] = "needs the right to mount a file system"
        if "fsync" in kind and not _can_trace():
            missing[kind] = "needs strace, and the right to trace processes"
    return [kind for kind in KINDS if kind not in missing], missing


def _can_trace() -> bool:
    if not shutil.which("strace"):
        return False
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            tracer = ["timeout", "1", "strace", "-qq", "-o", "/dev/null", "-p", str(sleeper.pid)]
            return subprocess.run(tracer, capture_output=True, text=True).stderr == ""
        finally:
            sleeper.kill()
