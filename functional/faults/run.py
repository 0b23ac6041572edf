"""One run: a cluster under load, faults one after the other, and the verdict."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random

from functional.faults.checker import FINAL, Report, check
from functional.faults.clients import PAGE, Claimer, Client, Lister, Popper, Probe, Producer, Reader, Sweeper
from functional.faults.cluster import HEALTHY_TIMEOUT, TIMEOUT, Cluster
from functional.faults.history import LIST, Call, Fault, History, Seen
from functional.faults.kinds import KINDS, LONG, Place, possible
from functional.http import Api
from functional.wait import wait_until

#: Seconds that a fault lasts, and that the cluster has rest after it has recovered, from and to.
LASTS = 1.5, 7.0
RESTS = 0.5, 2.0

#: Seconds that a pause lasts which is to be longer than a lease: that is the side-store's timeout and five more.
LASTS_LONG = TIMEOUT + 6.0, 15.0

#: Seconds of load before the first fault, and after the last one.
CALM = 3.0

#: Share of faults that come while another one lasts.
DOUBLE = 0.2

#: Seconds of ttl of the messages that are to expire.
BRIEF_TTL = 60

WORK, POPPED, FEED, BRIEF, PROBES = ("work-1", "work-2"), "popped", "feed", "brief", ("probe-1", "probe-2")

Say = Callable[[str], None]


class NotRecovered(AssertionError):
    """There was no service again in time after a fault was mended."""


def run(
    seed: int,
    duration: float,
    say: Say,
    kinds: Sequence[str] = (),
    mutant: str | None = None,
    save: Path | None = None,
) -> tuple[Report, History]:
    """Run ``duration`` seconds of faults drawn by ``seed``, of these kinds or of all that are possible here.

    ``save``: a folder that keeps the history and the gateways' logs.
    """
    history = History()

    def told(text: str) -> None:
        say(f"{history.now():7.1f} {text}")

    with Cluster(told, mutant) as cluster:
        history = History()
        allowed, missing = possible(cluster)
        for kind, reason in missing.items():
            told(f"left out: {kind}, which {reason}")
        project = f"faults-{uuid.uuid4().hex[:8]}"
        cluster.make_queues(project, [*WORK, POPPED, FEED, BRIEF, *PROBES])
        load = Load(history, cluster, project, str(seed))
        load.start()
        try:
            time.sleep(CALM)
            _strike(cluster, load, project, Random(seed), duration, [k for k in kinds or allowed if k in allowed], told)
            time.sleep(CALM)
        finally:
            cluster.network.heal()
            if save is not None:
                _keep_logs(cluster, save, seed)
            load.finish(told)
        if save is not None:
            history.save(save / f"{seed}.jsonl")
        return check(history), history


def _keep_logs(cluster: Cluster, folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for gateway in cluster.gateways:
        shutil.copy(gateway.log_path, folder / f"{seed}-{gateway.name}.log")


def _strike(
    cluster: Cluster, load: Load, project: str, random: Random, duration: float, kinds: Sequence[str], say: Say
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
                place = Place(cluster, project, random.choice(WORK), random)
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
            history.faults.append(Fault(name, victim, at, mended, recovered, alone=len(begun) == 1))
        time.sleep(random.uniform(*RESTS))


class Load:
    """All the clients."""

    def __init__(self, history: History, cluster: Cluster, project: str, seed: str) -> None:
        self.history = history
        self._api = Api(cluster.gateways[0].url, project)
        self._queues = [*WORK, POPPED, FEED, BRIEF, *PROBES]

        def make(kind: type[Client], queue: str, number: int = 1, **more: int) -> list[Client]:
            names = [f"{kind.__name__.lower()}-{n}-{queue}" for n in range(1, number + 1)]
            return [kind(name, history, cluster.gateways, project, queue, seed, **more) for name in names]

        self._producers = [
            *(client for queue in WORK for client in make(Producer, queue, 2)),
            *make(Producer, POPPED),
            *make(Producer, FEED),
            *make(Producer, BRIEF, ttl=BRIEF_TTL),
        ]
        self._consumers = [
            *(client for queue in WORK for client in make(Claimer, queue, 3)),
            *(client for queue in WORK for client in make(Sweeper, queue)),
            *make(Popper, POPPED),
            *make(Reader, FEED),
            *make(Sweeper, BRIEF),
        ]
        self._listers = make(Lister, FEED, 2)
        self._probes = [
            Probe(f"probe-{gateway.name}", history, [gateway], project, queue, seed)
            for gateway, queue in zip(cluster.gateways, PROBES, strict=True)
        ]

    def start(self) -> None:
        """Let all clients begin."""
        for client in [*self._producers, *self._consumers, *self._listers, *self._probes]:
            client.start()

    def until_good(self, since: float) -> float:
        """Wait until each gateway has done a round of work that began after ``since``; when the last of them began."""
        wait_until(
            lambda: all((probe.good_since or 0) > since for probe in self._probes), HEALTHY_TIMEOUT, "service again"
        )
        return max(probe.good_since or 0 for probe in self._probes)

    def finish(self, say: Say) -> None:
        """Stop, and list what is left."""
        _stop(self._producers)
        _stop(self._probes)
        _stop(self._consumers)
        for queue in self._queues:
            say(f"{queue}: {self._list_all(queue)} messages are left")
        since = self.history.now()
        wait_until(lambda: all(self._has_caught_up(lister, since) for lister in self._listers), 60, "the listers")
        _stop(self._listers)

    def _has_caught_up(self, lister: Client, since: float) -> bool:
        return any(
            call.client == lister.name and call.invoked > since and call.status == 200 and not call.seen
            for call in self.history.calls[-200:]
        )

    def _list_all(self, queue: str) -> int:
        """List a queue from its beginning to its end until two such walks see the same; how many messages."""
        before: set[str] = set()
        deadline = time.monotonic() + HEALTHY_TIMEOUT
        while True:
            found = self._walk(queue, deadline)
            if found == before:
                return len(found)
            before = found

    def _walk(self, queue: str, deadline: float) -> set[str]:
        found: set[str] = set()
        path: str | None = f"/v2/queues/{queue}/messages?echo=true&include_claimed=true&limit={PAGE}"
        while path:
            call = Call(LIST, "final", "gateway-1", queue, self.history.now(), walk=FINAL)
            answer = self._api.get(path)
            call.returned, call.status = self.history.now(), answer.status_code
            if answer.status_code != 200:
                if time.monotonic() > deadline:
                    raise NotRecovered(f"listing {queue} in the end: {answer.text}")
                time.sleep(0.5)
                continue
            page = answer.json()
            call.seen = [Seen(m["id"], m["body"]["producer"], m["body"]["number"]) for m in page["messages"]]
            self.history.add(call)
            found |= {seen.id for seen in call.seen}
            path = page["links"][0]["href"] if page["links"] else None
        return found


def _stop(clients: Sequence[Client]) -> None:
    for client in clients:
        client.stop.set()
    for client in clients:
        client.join()
