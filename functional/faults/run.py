"""One run: a cluster or single nodes under load, faults one after the other, and the verdict."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random

from functional.faults.checker import Report, check
from functional.faults.cluster import TIMEOUT, Cluster, FaultyGateway
from functional.faults.history import Fault, History
from functional.faults.kinds import KINDS, LONG, Place, kinds_on, possible
from functional.faults.load import Load, NotRecovered, Say
from functional.faults.plan import PARTS, PROBES, add_clients, queues
from functional.faults.single import Single

#: Seconds that a fault lasts, and that the cluster has rest after it has recovered, from and to.
LASTS = 1.5, 7.0
RESTS = 0.5, 2.0

#: Seconds that a pause lasts which is to be longer than a lease: that is the side-store's timeout and five more.
LASTS_LONG = TIMEOUT + 6.0, 15.0

#: Seconds of load before the first fault, and after the last one.
CALM = 3.0

#: Share of faults that come while another one lasts.
DOUBLE = 0.2

#: Where a run takes place unless it is on single nodes.
CLUSTER = "cluster"

def run(
    seed: int,
    duration: float,
    say: Say,
    kinds: Sequence[str] = (),
    mutant: str | None = None,
    save: Path | None = None,
    on: str = CLUSTER,
    parts: Sequence[str] = (),
    keys: bool = True,
) -> tuple[Report, History]:
    """Run ``duration`` seconds of faults drawn by ``seed``, of these kinds or of all that are possible here.

    ``save``: a folder that keeps the history and the gateways' logs. ``on``: `CLUSTER`, or what single nodes carry the
    messages. ``parts``: of the load, all if none are given. Without ``keys`` nothing tells repeated posts from new
    ones, which must not go well.
    """
    history = History()

    def told(text: str) -> None:
        say(f"{history.now():7.1f} {text}")

    parts = parts or [*PARTS]
    with Cluster(told, mutant) if on == CLUSTER else Single(on, told, mutant) as cluster:
        history = History()
        allowed, missing = possible(kinds_on(on), cluster.disks.values())
        for kind, reason in missing.items():
            told(f"left out: {kind}, which {reason}")
        project = f"faults-{uuid.uuid4().hex[:8]}"
        cluster.make_queues(project, queues(parts))
        load = Load(history, cluster.gateways, project, str(seed), PROBES)
        add_clients(load, parts, keys)
        load.start()
        try:
            time.sleep(CALM)
            _strike(cluster, load, project, Random(seed), duration, [k for k in kinds or allowed if k in allowed], told)
            time.sleep(CALM)
        finally:
            cluster.network.heal()
            if save is not None:
                keep_logs(cluster.gateways, save, seed)
            load.finish(told, cluster.gives_back_after)
        if save is not None:
            history.save(save / f"{seed}.jsonl")
        return check(history), history


def keep_logs(gateways: Sequence[FaultyGateway], folder: Path, seed: int) -> None:
    """Copy the gateways' logs to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for gateway in gateways:
        shutil.copy(gateway.log_path, folder / f"{seed}-{gateway.name}.log")


def _strike(
    cluster: Cluster | Single,
    load: Load,
    project: str,
    random: Random,
    duration: float,
    kinds: Sequence[str],
    say: Say,
) -> None:
    """Faults until the time is over: every kind once, in any order, then all of them again."""
    history = load.history
    end = history.now() + duration
    bag: list[str] = []

    def draw() -> str:
        if not bag:
            bag.extend(random.sample(kinds, len(kinds)))
        return bag.pop()

    while history.now() < end:
        names = [draw()]
        if random.random() < DOUBLE:
            names.append(draw())
        begun: list[tuple[str, str, float]] = []
        with ExitStack() as stack:
            for name in names:
                place = Place(cluster, project, random.choice(load.queues), random)
                at = history.now()
                victim = stack.enter_context(KINDS[name](place))
                begun.append((name, victim, at))
                say(f"{name}: {victim}")
                time.sleep(random.uniform(*(LASTS_LONG if name in LONG else LASTS)))
        cluster.until_up()
        mended = history.now()
        try:
            recovered = load.until_good(mended)
        except TimeoutError as error:
            raise NotRecovered(f"after {', '.join(names)}: {error}") from None
        say(f"mended at {mended:.1f}, service again after {max(0.0, recovered - mended):.1f} s")
        for name, victim, at in begun:
            alone = len(begun) == 1
            history.faults += [Fault(name, each, at, mended, recovered, alone) for each in victim.split()]
        time.sleep(random.uniform(*RESTS))

