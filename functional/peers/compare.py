"""The gateway beside its peers, all in one run: `python -m functional.peers.compare`.

In parts, of which `--part` chooses. `messaging`: a private RabbitMQ and MongoDB, the gateway on both of them and one
without them, Zaqar on the same MongoDB, and a bare Flask view. `physical`: the gateway beside what its broker and its
side-store do for bare publishers and writers. `brokers`: the gateway on RabbitMQ, Redis and Qpid Broker-J, and Zaqar on
Redis. `management`: the gateway and a RabbitMQ with the management plugin. `notifications`: those of `marconi notify`
and of Zaqar with its notifier, and posts to queues with and without subscribers. `fifo`: FIFO and ordinary queues of
two gateways, and FIFO queues of ElasticMQ. The servers of a part are measured in turns. Prints what the project asks of
itself, and whether it was reached.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from functional.deployments import beside, loopback, sqlite, through
from functional.peers import brokers, elasticmq, fifo, notifications, physical
from functional.peers.goals import EMBEDDED, HYBRID, MANAGEMENT, THROUGH, ZAQAR, goals_table
from functional.peers.rabbitmq_management import ManagedRabbitMQ
from functional.peers.zaqar import DEFAULT_CACHE, Zaqar, on_mongodb
from functional.services.gateway import Gateway, merge
from functional.services.mongodb import MongoDB
from functional.services.process import Missing, StartFailed, started
from functional.services.rabbitmq import RabbitMQ
from gateway.bench.ceiling import Ceiling
from gateway.bench.command import CEILING, bare_server
from gateway.bench.cpu import CPUMeter
from gateway.bench.plot import plot
from gateway.bench.processes import LoadFailed
from gateway.bench.progress import Progress
from gateway.bench.report import (
    client_cpu,
    document,
    notes,
    ratios_table,
    results_table,
    watched_table,
)
from gateway.bench.rounds import BenchFailed, Result, Server, run
from gateway.bench.settings import Settings
from gateway.bench.workloads import STANDARD, named

PAIRS = ((HYBRID, ZAQAR), (EMBEDDED, ZAQAR), (HYBRID, CEILING), (EMBEDDED, CEILING))

#: Workloads of the first part: cycles with 4 connections, and with more.
WORKS = (*STANDARD, "cycle-1x16", "cycle-1x32", "cycle-20x16", "cycle-20x32")

#: What can be measured, in this order.
PARTS = ("messaging", "physical", "brokers", "management", "notifications", "fifo")


@dataclass(frozen=True)
class Part:
    """Servers measured together: what came of it, the same for programs, and as text."""

    results: Sequence[Result]
    document: dict[str, Any]
    text: str


def messaging(settings: Settings, works: Sequence[str], cache: Path, progress: Progress) -> Part:
    """The servers of the Messaging API and the bare one."""
    with contextlib.ExitStack() as stack:
        rabbitmq, mongodb = started(stack, RabbitMQ(), progress.say), started(stack, MongoDB(), progress.say)
        hybrid = started(stack, Gateway(merge(through(rabbitmq), beside(mongodb, "marconi"))), progress.say)
        embedded = started(stack, _embedded(), progress.say)
        zaqar = started(stack, Zaqar(on_mongodb(f"mongodb://{mongodb.host}"), cache), progress.say)
        workloads = [named(work) for work in works]
        limit = max((workload.batch for workload in workloads if workload.counted == "list"), default=1)
        servers = [
            Server(HYBRID, hybrid.url, meter=CPUMeter([hybrid.pid])),
            Server(EMBEDDED, embedded.url, meter=CPUMeter([embedded.pid])),
            Server(ZAQAR, zaqar.url, meter=CPUMeter([zaqar.pid])),
            bare_server(stack.enter_context(Ceiling(settings.body_size, limit))),
        ]
        watched = {"RabbitMQ": CPUMeter([rabbitmq.pid]), "MongoDB": CPUMeter([mongodb.pid])}
        return measured(servers, run(servers, workloads, settings, progress, watched), settings, PAIRS)


def possible(settings: Settings, progress: Progress) -> Part:
    """The gateway, and bare publishers and writers at its broker and its side-store."""
    with contextlib.ExitStack() as stack:
        rabbitmq, mongodb = started(stack, RabbitMQ(), progress.say), started(stack, MongoDB(), progress.say)
        hybrid = started(stack, Gateway(merge(through(rabbitmq), beside(mongodb, "marconi"))), progress.say)
        rows = physical.measure(Server(HYBRID, hybrid.url), rabbitmq, mongodb, settings, progress)
    return Part([], {"rows": [asdict(row) for row in rows]}, physical.rows_table(rows))


def by_broker(settings: Settings, works: Sequence[str], cache: Path, progress: Progress) -> Part:
    """The gateway on each broker, and Zaqar on Redis."""
    with contextlib.ExitStack() as stack:
        found = brokers.serve(stack, cache, progress.say)
        results = run(found.servers, [named(work) for work in works], settings, progress, found.watched)
        return measured(found.servers, results, settings, brokers.PAIRS)


def management(settings: Settings, progress: Progress) -> Part:
    """The gateway and the management plugin, each with a broker of its own."""
    with contextlib.ExitStack() as stack:
        rabbitmq, mongodb = started(stack, RabbitMQ(), progress.say), started(stack, MongoDB(), progress.say)
        hybrid = started(stack, Gateway(merge(through(rabbitmq), beside(mongodb, "marconi"))), progress.say)
        managed = started(stack, ManagedRabbitMQ(), progress.say)
        # The plugin is all of the broker, so the gateway's broker and side-store count as well.
        whole = CPUMeter([hybrid.pid, rabbitmq.pid, mongodb.pid])
        servers = [Server(HYBRID, hybrid.url, meter=whole), managed.management]
        results = run(servers, [named(work) for work in THROUGH], settings, progress)
        return measured(servers, results, settings, ((HYBRID, MANAGEMENT),))


def notified(settings: Settings, cache: Path, progress: Progress) -> Part:
    """Notifications of the gateway and of Zaqar, and the price of a post."""
    with contextlib.ExitStack() as stack:
        found = notifications.serve(stack, cache, progress.say)
        sent = notifications.measure(found, settings, progress)
        posted = notifications.measure_posts(found, settings, progress)
        rest = measured(found.servers, posted, settings, notifications.PAIRS)
        texts = [
            notifications.rates_table(sent), "CPU ms/notification of other processes:", watched_table(sent), rest.text,
        ]
        results = [*sent, *posted]
        return Part(results, document(results, found.servers, settings, notifications.PAIRS), "\n\n".join(texts))


def in_order(settings: Settings, cache: Path, progress: Progress) -> Part:
    """FIFO queues beside ordinary ones and beside ElasticMQ's."""
    with contextlib.ExitStack() as stack:
        found = fifo.serve(stack, cache, progress.say)
        works = [named(work) for work in fifo.WORKS]
        results = run(found.servers, works, settings, progress, found.watched, keep=True)
        rest = measured(found.servers, results, settings, fifo.PAIRS)
        return replace(rest, text=f"{rest.text}\n\nMessages:\n\n{fifo.flow_table(results, found.counts)}")


def _embedded() -> Gateway:
    """The gateway as it is without any configuration, but for its port and where its file is."""
    gateway = Gateway({})
    gateway.configure(merge(loopback(), sqlite(gateway.folder)))
    return gateway


def measured(
    servers: Sequence[Server], results: Sequence[Result], settings: Settings, pairs: Sequence[tuple[str, str]]
) -> Part:
    """All that is said about a run."""
    texts = [results_table(results), "Ratios, median of the rounds:", ratios_table(results, pairs)]
    if other := watched_table(results):
        texts += ["CPU ms/msg of other processes:", other]
    texts += ["\n".join([f"The client used at most {client_cpu(results):.2f} cores.", *notes(results)])]
    return Part(results, document(results, servers, settings, pairs), "\n\n".join(texts))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, by default of the command line."""
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m functional.peers.compare", description=__doc__)
    parser.add_argument("--duration", type=float, default=defaults.duration, help="seconds of a turn (%(default)g)")
    parser.add_argument("--warm-up", type=float, default=defaults.warm_up, help="seconds before it (%(default)g)")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each server (%(default)s)")
    parser.add_argument("--workload", "-w", action="append", help=f"may be repeated ({', '.join(WORKS)})")
    parser.add_argument("--part", "-p", action="append", choices=PARTS, help="may be repeated (all)")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of Zaqar and ElasticMQ (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a bar chart of the first part there, SVG")
    return parser.parse_args(arguments)


def main() -> int:
    """The command line; 0 when everything was measured, whatever came of it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that the services end
    options = parse()
    settings = Settings(duration=options.duration, warm_up=options.warm_up, rounds=options.rounds)
    progress = Progress(sys.stderr)
    print(f"load of the machine before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n", flush=True)
    parts: dict[str, Part] = {}

    def done(name: str, part: Part) -> None:
        """Print it at once: what comes after it may fail."""
        progress.close()
        print(f"## {name}\n\n{part.text}\n", flush=True)
        parts[name] = part

    run_part: dict[str, Callable[[], Part]] = {
        "messaging": lambda: messaging(settings, options.workload or WORKS, options.cache, progress),
        "physical": lambda: possible(settings, progress),
        "brokers": lambda: by_broker(settings, options.workload or STANDARD, options.cache, progress),
        "management": lambda: management(settings, progress),
        "notifications": lambda: notified(settings, options.cache, progress),
        "fifo": lambda: in_order(settings, options.cache, progress),
    }
    chosen = [name for name in PARTS if name in (options.part or PARTS)]
    try:
        if "fifo" in chosen:
            elasticmq.fetch(options.cache)  # the last part must not fail after hours because Maven is missing
        for name in chosen:
            done(name, run_part[name]())
    except (BenchFailed, LoadFailed, Missing, StartFailed) as failure:
        sys.exit(str(failure))
    if goals := goals_table([result for part in parts.values() for result in part.results]):
        print(f"## goals\n\n{goals}")
    if options.json:
        documents = {name: part.document for name, part in parts.items()}
        options.json.write_bytes(orjson.dumps(documents, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if options.plot:
        shown = next((part.results for part in parts.values() if part.results), [])
        options.plot.write_text(plot(shown), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
