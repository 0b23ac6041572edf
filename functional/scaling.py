"""What makes the gateway faster or slower: `python -m functional.scaling`.

Starts a private RabbitMQ and MongoDB, and asks one question after the other: does a long backlog slow it down, do many
claimed messages, many queues; what do workers, threads, connections and larger messages make of it? Each answer is a
ratio to the first row of its table, in the same run.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from functional.deployments import beside, through
from functional.services.gateway import Gateway, Options, merge
from functional.services.mongodb import MongoDB
from functional.services.process import Missing, StartFailed, started
from functional.services.rabbitmq import RabbitMQ
from gateway.bench.cpu import CPUMeter
from gateway.bench.processes import LoadFailed
from gateway.bench.progress import Progress
from gateway.bench.report import latency, notes, summary, table
from gateway.bench.rounds import BenchFailed, Result, Server, run
from gateway.bench.settings import Settings
from gateway.bench.workloads import Workload, named

CYCLES = ("cycle-1", "cycle-20")

HEAD = ("work", "with", "req/s", "low–high", "ratio", "claim p99 ms", "ratio", "CPU ms/req")


@dataclass(frozen=True)
class Case:
    """One way to run the work: changes to the settings of the load, and to the gateway's [wsgi]."""

    label: str
    load: Mapping[str, Any] = field(default_factory=dict)
    wsgi: Mapping[str, object] = field(default_factory=dict)
    connections: int | None = None


@dataclass(frozen=True)
class Question:
    """Cases that are compared with the first of them. ``again``: the first one once more at the end, and its mean."""

    text: str
    works: Sequence[str]
    cases: Sequence[Case]
    again: bool = False


def questions(backlog: int, claimed: int, queues: int) -> Mapping[str, Question]:
    """All of them, by name; so many messages and queues are many."""
    busy = max(1, queues // 100)
    return {
        "backlog": Question("messages waiting in the queue", CYCLES, [
            Case("empty queue"), Case(f"{backlog:,} waiting", {"backlog": backlog}),
        ], again=True),
        "claimed": Question("messages claimed at once", CYCLES, [
            Case("none"), Case(f"{claimed:,} claimed", {"claimed": claimed}),
        ], again=True),
        "queues": Question("many queues", ["cycle-1"], [
            Case("1 queue"), Case(f"{queues:,} queues, {busy:,} busy", {"queues": busy, "idle_queues": queues - busy}),
        ], again=True),
        "workers": Question("worker processes", ["post-1", "cycle-1"], [
            Case("1 worker", connections=16), *(Case(f"{n} workers", {}, {"workers": n}, 16) for n in (2, 4)),
        ]),
        "threads": Question("threads", ["post-1", "cycle-1"], [
            Case("1 thread", {}, {"threads": 1}, 16),
            *(Case(f"{n} threads", {}, {"threads": n}, 16) for n in (2, 4, 8, 16, 32)),
        ]),
        "connections": Question("clients at once", ["post-1", "cycle-1"], [
            Case("1 connection", connections=1), *(Case(f"{n} connections", connections=n) for n in (2, 4, 8, 16, 64)),
        ]),
        "sizes": Question("size of a body", ["post-1", "cycle-1"], [
            Case("128 bytes", {"body_size": 128}),
            *(Case(f"{size // 1024} KiB", {"body_size": size}) for size in (1024, 8 * 1024, 64 * 1024, 250 * 1024)),
        ]),
    }


def answer(question: Question, services: Options, settings: Settings, progress: Progress) -> tuple[str, list[str]]:
    """The table, and what has to be said about it. Cases that differ in the load alone share a gateway."""
    results: dict[str, dict[str, list[Result]]] = {work: {} for work in question.works}
    with contextlib.ExitStack() as stack:
        gateways: dict[str, Gateway] = {}
        for case in [*question.cases, *(question.cases[:1] if question.again else ())]:
            key = repr(case.wsgi)
            if key not in gateways:
                gateways[key] = started(stack, Gateway(merge(services, {"wsgi": case.wsgi})), progress.say)
            server = Server(case.label, gateways[key].url, meter=CPUMeter([gateways[key].pid]))
            works = [_work(work, case) for work in question.works]
            found = run([server], works, replace(settings, **case.load), progress)
            for work, result in zip(question.works, found, strict=True):
                results[work].setdefault(case.label, []).append(result)
    rows = [
        row for work in question.works for row in _rows(work, [results[work][case.label] for case in question.cases])
    ]
    said = [note for of_work in results.values() for found in of_work.values() for note in notes(found)]
    return table(HEAD, rows), said


def _work(work: str, case: Case) -> Workload:
    found = named(work)
    return found if case.connections is None else found.with_connections(case.connections)


def _rows(work: str, cases: Sequence[Sequence[Result]]) -> list[tuple[str, ...]]:
    """A row for each case; of each it has the results of all its runs."""
    first = cases[0]
    rows = []
    for results in cases:
        (label,) = results[0].turns
        turns = [turn for result in results for turn in result.turns[label]]
        found = summary(turns, results[0].workload.counted)
        cpu = found.cpu_per_request
        rows.append((
            work, label, f"{found.rate.median:,.0f}", f"{found.rate.low:,.0f}–{found.rate.high:,.0f}",
            _ratio(results, first, _rate), _shown(mean(map(_claim_p99, results))), _ratio(results, first, _claim_p99),
            _shown(cpu.median if cpu else 0.0, 3),
        ))
    return rows


def _rate(result: Result) -> float:
    (turns,) = result.turns.values()
    return summary(turns, result.workload.counted).rate.median


def _claim_p99(result: Result) -> float:
    """Milliseconds, of all rounds; 0 if nothing was claimed."""
    (turns,) = result.turns.values()
    found = latency(turns, "claim")
    return found.p99 if found else 0.0


def _ratio(ours: Sequence[Result], first: Sequence[Result], figure: Callable[[Result], float]) -> str:
    """Of the means: what a machine loses or gains meanwhile is in the first case's before and after."""
    base = mean(map(figure, first))
    return f"{mean(map(figure, ours)) / base:.2f}×" if base else "–"


def _shown(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if value else "–"


def main() -> int:
    """The command line; 0 when everything was measured, whatever came of it."""
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m functional.scaling", description=__doc__)
    parser.add_argument("--duration", type=float, default=defaults.duration, help="seconds of a turn (%(default)g)")
    parser.add_argument("--warm-up", type=float, default=defaults.warm_up, help="seconds before a turn (%(default)g)")
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help="turns of each case (%(default)s)")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="messages that wait (%(default)s)")
    parser.add_argument("--claimed", type=int, default=100_000, help="messages claimed at once (%(default)s)")
    parser.add_argument("--queues", type=int, default=10_000, help="of which a hundredth is busy (%(default)s)")
    names = [*questions(0, 0, 0)]
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"{', '.join(names)} (all)")
    options = parser.parse_args()
    asked = questions(options.backlog, options.claimed, options.queues)
    if unknown := set(options.questions) - set(names):
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    settings = replace(defaults, duration=options.duration, warm_up=options.warm_up, rounds=options.rounds)
    progress = Progress(sys.stderr)
    print(f"load of the machine before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that the services end
    try:
        with contextlib.ExitStack() as stack:
            rabbitmq, mongodb = started(stack, RabbitMQ(), progress.say), started(stack, MongoDB(), progress.say)
            services = merge(through(rabbitmq), beside(mongodb, "marconi"))
            for name in options.questions or names:
                text, said = answer(asked[name], services, settings, progress)
                progress.close()
                print("\n".join([f"\n## {asked[name].text}\n", text, *said]), flush=True)
    except (BenchFailed, LoadFailed, Missing, StartFailed) as failure:
        sys.exit(str(failure))
    progress.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
