"""One run: queues go round all pools under load, with faults or without, and the verdict."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from functional.faults.checker import Report, Violation, check, describe
from functional.faults.clients import Claimer, GroupClaimer, Lister, Popper, Producer, Reader
from functional.faults.history import POST, Fault, History
from functional.faults.kinds import possible
from functional.faults.load import Load, Say
from functional.faults.plan import DELAYED, FIFO, GROUPS
from functional.faults.repeating import KEY, Repeater
from functional.faults.run import CALM, LASTS, LASTS_LONG, RESTS, keep_logs
from functional.migration.journey import Journey
from functional.migration.kinds import KINDS, LONG, Place
from functional.migration.pools import Pools
from gateway.core.migration.move import DRAINING, LANDED, SETTLING, SWITCHING, WAITING
from gateway.core.queues.names import broker_name

#: Queues that move. All kinds of clients use the first; the second is read by listers alone, who must see all of it;
#: the third is a FIFO queue.
WORK, FEED, ORDERED = MOVING = "work", "feed", "ordered"

#: Queues that stay, by which it is seen that gateways work.
PROBES = ("probe-1", "probe-2")

#: Seconds that the post which waits longest may take without faults.
LONGEST_POST = 2.0

#: Share of faults that wait for a phase of a move, and how many seconds they wait for it.
AIMED, AIMING = 0.7, 12.0

#: Seconds for which a broker's new queue can be lost in a crash: see RabbitMQ.until_saved.
UNSAVED = 5.0


@dataclass
class Result:
    """``report``: the verdict on what clients were told. ``longest``: seconds of the post that took longest."""

    report: Report
    history: History
    journey: Journey
    longest: float

    def lines(self) -> list[str]:
        """For people."""
        ended = [hop for hop in self.journey.hops if hop.ended is not None]
        return [
            f"{len(ended)} moves, {len(self.history.faults)} faults, longest post {self.longest:.2f} s",
            *self.report.lines(),
        ]


def run(
    seed: int,
    duration: float,
    say: Say,
    faults: bool = True,
    names: Sequence[str] = (),
    kinds: Sequence[str] = (),
    mutant: str | None = None,
    save: Path | None = None,
) -> Result:
    """Let queues move for ``duration`` seconds, with ``faults`` drawn by ``seed`` of these kinds or of all.

    ``names``: pools to use, all if none. ``save``: a folder that keeps the history and the gateways' logs.
    """
    begun = time.monotonic()

    def told(text: str) -> None:
        say(f"{time.monotonic() - begun:7.1f} {text}")

    with Pools(told, names, mutant, faulty=faults) as pools:
        return run_on(pools, seed, duration, say, faults, kinds, save)


def run_on(
    pools: Pools,
    seed: int,
    duration: float,
    say: Say,
    faults: bool = True,
    kinds: Sequence[str] = (),
    save: Path | None = None,
) -> Result:
    """The same with pools that have been started. Without ``faults`` it lasts for one round at least."""
    history = History()

    def told(text: str) -> None:
        say(f"{history.now():7.1f} {text}")

    project = f"migration-{uuid.uuid4().hex[:8]}"
    pools.make_queues(project, {WORK: {}, FEED: {}, ORDERED: FIFO} | dict.fromkeys(PROBES, {}))
    load = _load(history, pools, project, str(seed))
    journey = Journey(history, pools, project, MOVING, told)
    load.start()
    try:
        time.sleep(CALM)
        journey.start()
        if faults:
            allowed, missing = possible(kinds or KINDS, pools.disks.values())
            for kind, why in missing.items():
                told(f"left out: {kind}, which {why}")
            _strike(pools, load, journey, project, Random(seed), duration, allowed, told)
        else:
            time.sleep(duration)
            journey.until_round()
        journey.finish()
        time.sleep(CALM)
    finally:
        if save is not None:
            keep_logs(pools.gateways, save, seed)
        load.finish(told)
        if save is not None:
            history.save(save / f"{seed}.jsonl")
    report = check(history)
    _nothing_left_behind(report, pools, project, journey.place)
    return Result(report, history, journey, _posts(report, history, faults))


def _load(history: History, pools: Pools, project: str, seed: str) -> Load:
    load = Load(history, pools.gateways, project, seed, PROBES)
    load.add_producers(Producer, WORK, 4)
    load.add_consumers(Claimer, WORK, 4)
    load.add_consumers(Popper, WORK)
    load.add_listers(Lister, WORK, 2)
    load.add_producers(Producer, FEED)
    load.add_consumers(Reader, FEED)
    load.add_listers(Lister, FEED, 2)
    load.add_producers(Producer, ORDERED, 2, groups=GROUPS, delayed=DELAYED)
    load.add_producers(Repeater, ORDERED, groups=GROUPS, by=KEY)
    load.add_consumers(GroupClaimer, ORDERED, 3)
    load.add_listers(Lister, ORDERED)
    return load


def _strike(
    pools: Pools,
    load: Load,
    journey: Journey,
    project: str,
    random: Random,
    duration: float,
    kinds: Sequence[str],
    say: Say,
) -> None:
    """Faults until the time is over, most of them in a phase of a move that is drawn, too."""
    history = load.history
    end = history.now() + duration
    bag: list[str] = []
    while history.now() < end and journey.failed is None:
        if not bag:
            bag.extend(random.sample(kinds, len(kinds)))
        name = bag.pop()
        if random.random() < AIMED:
            _await_phase(journey, random.choice((WAITING, LANDED, DRAINING, SWITCHING, SETTLING)))
        time.sleep(random.uniform(0, 0.5))
        if name in ("broker killed", "broker's disk full"):
            _await_saved(pools, journey, project)
        at, phase = history.now(), journey.phase
        with KINDS[name](Place(pools, random)) as victim:
            say(f"{name}: {victim}, phase {phase}")
            time.sleep(random.uniform(*(LASTS_LONG if name in LONG else LASTS)))
        pools.until_up()
        mended = history.now()
        recovered = load.until_good(mended)
        say(f"mended at {mended:.1f}, service again after {max(0.0, recovered - mended):.1f} s")
        history.faults += [Fault(name, each, at, mended, recovered) for each in victim.split()]
        time.sleep(random.uniform(*RESTS))


def _await_phase(journey: Journey, phase: str) -> None:
    deadline = time.monotonic() + AIMING
    while journey.phase != phase and time.monotonic() < deadline:
        time.sleep(0.02)


def _await_saved(pools: Pools, journey: Journey, project: str) -> None:
    """Wait until the broker that queues move to would know them after a crash."""
    broker = pools.broker_of(journey.place)
    if broker is None:
        return
    deadline = time.monotonic() + UNSAVED
    while journey.phase in (WAITING, LANDED) and time.monotonic() < deadline:
        time.sleep(0.05)
    for queue in MOVING:
        try:
            broker.service.until_saved(broker_name(project, queue))
        except TimeoutError:  # it is not there yet
            continue


def _posts(report: Report, history: History, faults: bool) -> float:
    """Without faults every post is taken, and in time; the seconds of the longest one."""
    posts = [call for call in history.calls if call.kind == POST]
    longest = max(posts, key=lambda call: call.returned - call.invoked)
    if not faults:
        for call in posts:
            if not call.succeeded:
                report.violations.append(Violation("no post is refused", f"{describe(call)}: {call.error}"))
        if longest.returned - longest.invoked > LONGEST_POST:
            report.violations.append(Violation(f"no post takes more than {LONGEST_POST:g} s", describe(longest)))
    return longest.returned - longest.invoked


def _nothing_left_behind(report: Report, pools: Pools, project: str, place: str) -> None:
    for queue in MOVING:
        if others := [pool for pool in pools.holders(project, queue) if pool != place]:
            report.violations.append(
                Violation("nothing is left in an old place", f"{queue}, which is in {place}, is in {others} as well")
            )
