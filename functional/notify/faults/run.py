"""One run: subscriptions under load, faults one after the other, and the verdict."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random

from functional.faults.history import Fault
from functional.faults.load import NotRecovered
from functional.faults.run import CALM, DOUBLE, LASTS, RESTS, keep_logs
from functional.notify.faults.checker import Report, check
from functional.notify.faults.cluster import REQUEST_TIMEOUT, NotifyCluster
from functional.notify.faults.history import NotifyHistory
from functional.notify.faults.kinds import FORGETTING, KINDS, LONG, Place
from functional.notify.faults.load import Load
from functional.notify.faults.owner import Owner
from functional.notify.faults.receivers import receiving
from functional.notify.faults.stories import undelivered
from gateway.core.queues.names import delivery_name

QUEUES = ("orders", "events")

#: Seconds that a pause lasts which is to be longer than a process' right to deliver.
LASTS_LONG = 11.0, 16.0

#: Seconds for which nothing more may be delivered until what is left counts as lost: a receiver that has failed is
#: tried after a minute at the latest.
NO_PROGRESS = 90.0

#: Seconds without progress after which dead letters are looked at.
STUCK = 4.0

#: Seconds in which something may still come that must not.
AFTERWARDS = 2.0

Say = Callable[[str], None]


def run(
    seed: int,
    duration: float,
    say: Say,
    kinds: Sequence[str] = (),
    mutant: str | None = None,
    save: Path | None = None,
    size: int = 1,
) -> tuple[Report, NotifyHistory]:
    """Run ``duration`` seconds of faults drawn by ``seed``, of these kinds or of all.

    ``save``: a folder that keeps the history and the logs. ``size``: number of brokers, and of mongods.
    """
    begun = time.monotonic()

    def told(text: str) -> None:
        say(f"{time.monotonic() - begun:7.1f} {text}")

    with NotifyCluster(told, mutant, size) as cluster:
        history = NotifyHistory(REQUEST_TIMEOUT)
        begun = time.monotonic()
        project = f"notify-{uuid.uuid4().hex[:8]}"
        cluster.make_queues(project, [*QUEUES])
        with receiving(history, seed) as receivers:
            owner = Owner(history, cluster.gateways, project, QUEUES, receivers, seed)
            owner.begin()
            told(f"{len(history.subscriptions)} subscriptions")
            load = Load(history, cluster.gateways, project, QUEUES, seed)
            load.start()
            owner.start()
            try:
                told(f"all fast receivers are told from {load.until_good(history.now()):.1f} on")
                striking = _Striking(cluster, load, owner, project, Random(seed), history, told)
                striking.strike(duration, kinds or [*KINDS])
                time.sleep(CALM)
                load.finish()
                owner.finish()
                for receiver in receivers:
                    receiver.recover()
                _settle(history, owner, told)
            finally:
                cluster.network.heal()
                if save is not None:
                    keep_logs([*cluster.gateways, *cluster.notifiers], save, seed)
                    history.save(save / f"{seed}.jsonl")
        return check(history), history


class _Striking:
    def __init__(
        self, cluster: NotifyCluster, load: Load, owner: Owner, project: str, random: Random, history: NotifyHistory,
        say: Say,
    ) -> None:
        self._cluster = cluster
        self._load = load
        self._owner = owner
        self._project = project
        self._random = random
        self._history = history
        self._say = say
        self._bag: list[str] = []

    def strike(self, duration: float, kinds: Sequence[str]) -> None:
        """Faults until the time is over: every kind once, in any order, then all of them again."""
        end = self._history.now() + duration
        while self._history.now() < end:
            names = [self._draw(kinds)]
            if self._random.random() < DOUBLE:
                names.append(self._draw(kinds))
            self._one_time(names)
            time.sleep(self._random.uniform(*RESTS))

    def _draw(self, kinds: Sequence[str]) -> str:
        if not self._bag:
            self._bag.extend(self._random.sample(kinds, len(kinds)))
        return self._bag.pop()

    def _one_time(self, names: Sequence[str]) -> None:
        begun: list[tuple[str, str, float]] = []
        with ExitStack() as stack:
            if FORGETTING & set(names):
                stack.enter_context(self._owner.still())
                self._await_saved()
            for name in names:
                place = Place(self._cluster, self._project, self._random.choice(QUEUES), self._random)
                at = self._history.now()
                victim = stack.enter_context(KINDS[name](place))
                begun.append((name, victim, at))
                self._say(f"{name}: {victim}")
                time.sleep(self._random.uniform(*(LASTS_LONG if name in LONG else LASTS)))
        self._cluster.until_up()
        mended = self._history.now()
        try:
            recovered = self._load.until_good(mended)
        except TimeoutError as error:
            raise NotRecovered(f"after {', '.join(names)}: {error}") from None
        self._say(f"mended at {mended:.1f}, all fast receivers told of news after {recovered - mended:.1f} s")
        for name, victim, at in begun:
            self._history.faults.append(Fault(name, victim, at, mended, recovered, alone=len(begun) == 1))

    def _await_saved(self) -> None:
        """Wait until brokers would know all delivery queues after a crash."""
        for subscription in self._owner.living:
            for broker in self._cluster.brokers:
                if broker.alive:
                    broker.until_saved(delivery_name(self._project, subscription.queue, subscription.id))


def _settle(history: NotifyHistory, owner: Owner, say: Say) -> None:
    """Wait until everything is delivered or dead, or nothing happens any more."""
    left, changed_at, looked_at = len(undelivered(history)), history.now(), 0.0
    say(f"{left} deliveries are left")
    while left and history.now() - changed_at < NO_PROGRESS:
        time.sleep(0.5)
        if history.now() - max(changed_at, looked_at) > STUCK:
            owner.list_dead()
            looked_at = history.now()
        now_left = len(undelivered(history))
        if now_left != left:
            left, changed_at = now_left, history.now()
    time.sleep(AFTERWARDS)
    owner.list_dead()
    history.looked = history.now()
