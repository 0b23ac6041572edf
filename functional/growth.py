"""What more gateways make of it: `python -m functional.growth`.

Starts a private RabbitMQ and MongoDB, and 1, 2, 4 and 8 gateways, each of which may use the same small share of a core.
So they can show what they add to each other on a machine that has no more cores. Cycles (post, claim, delete), once
with a queue for each gateway and once all on one queue; the numbers of gateways take turns.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from statistics import median

from functional.deployments import beside, through
from functional.http import Api
from functional.services.cpu_share import cpu_share
from functional.services.gateway import Gateway, merge
from functional.services.mongodb import MongoDB
from functional.services.process import Missing, Service, StartFailed, started
from functional.services.rabbitmq import RabbitMQ
from gateway.bench.client import Client
from gateway.bench.cpu import CPUMeter
from gateway.bench.driver import Task, Window
from gateway.bench.messages import random_body
from gateway.bench.processes import LoadFailed, ProcessPool
from gateway.bench.report import table
from gateway.bench.rounds import head_lines
from gateway.bench.wire import Address
from gateway.bench.workloads import CYCLE_CONNECTIONS, Workload, named

#: Numbers of gateways.
NUMBERS = (1, 2, 4, 8)

#: Seconds until the processes of the load have got their tasks, and between two turns.
START_DELAY, SETTLE = 0.3, 1.0

PROJECT = "growth"
TIMEOUT = 30.0
BODY_BYTES = 1024


class Growth:
    """Gateways that are measured in groups. ``behind``: broker and side-store, whose CPU time is read as well."""

    def __init__(self, gateways: Sequence[Gateway], behind: Sequence[Service], pool: ProcessPool):
        self._gateways = gateways
        self._meters = {"gateways": CPUMeter([gateway.pid for gateway in gateways])} | {
            service.name: CPUMeter([service.pid]) for service in behind
        }
        self._pool = pool
        self._body = random_body(BODY_BYTES)

    def turn(
        self, work: Workload, number: int, is_shared: bool, warm_up: float, duration: float
    ) -> tuple[float, dict[str, float]]:
        """Messages per second of the first ``number`` gateways, and the cores that each kind of process used."""
        names = [f"growth-{uuid.uuid4().hex[:8]}" for _ in range(1 if is_shared else number)]
        api = Api(self._gateways[0].url, PROJECT)
        for name in names:
            api.put(f"/v2/queues/{name}").raise_for_status()
        begin = time.monotonic() + START_DELAY
        window = Window(begin, begin + warm_up, begin + warm_up + duration)
        self._pool.begin([
            self._task(work, gateway, names[index % len(names)], window)
            for index, gateway in enumerate(self._gateways[:number])
        ])
        time.sleep(max(0.0, window.measure - time.monotonic()))
        before = self._read()
        time.sleep(max(0.0, window.end - time.monotonic()))
        after = self._read()
        outcome = self._pool.finish()
        for name in names:
            api.delete(f"/v2/queues/{name}").raise_for_status()
        time.sleep(SETTLE)
        if outcome.first_error:
            print(f"{number} gateways: {outcome.first_error}", file=sys.stderr)
        messages = outcome.operation(work.counted).messages
        return messages / duration, {name: (after[name] - before[name]) / duration for name in before}

    def _read(self) -> dict[str, float]:
        return {name: meter.seconds() for name, meter in self._meters.items()}

    def _task(self, work: Workload, gateway: Gateway, queue: str, window: Window) -> Task:
        address = Address.of(gateway.url)
        head = head_lines(address, PROJECT)
        clients = tuple(
            (job, Client(index, count, address.prefix, head, (queue,), work.batch, self._body))
            for job, count in work.roles for index in range(count)
        )
        return Task(address, clients, window, TIMEOUT)


def measure(growth: Growth, works: Sequence[str], options: argparse.Namespace) -> str:
    """The table of all that was asked for."""
    rows = []
    for name in works:
        work = named(name)
        for is_shared in (False, True):
            found: dict[int, list[tuple[float, dict[str, float]]]] = {number: [] for number in NUMBERS}
            for turn in range(options.rounds):
                for number in NUMBERS if turn % 2 == 0 else reversed(NUMBERS):
                    print(f"{name}, round {turn + 1}, {number} gateways", file=sys.stderr)
                    found[number].append(growth.turn(work, number, is_shared, options.warm_up, options.duration))
            for number in NUMBERS:
                rates = [rate for rate, _ in found[number]]
                if not all(first for first, _ in found[1]):
                    raise LoadFailed("one gateway moved nothing in a turn; make --duration and --warm-up longer")
                ratios = [rate / first for rate, (first, _) in zip(rates, found[1], strict=True)]
                cores = {kind: median(cpu[kind] for _, cpu in found[number]) for kind in found[number][0][1]}
                rows.append((
                    name, "all on one" if is_shared else "one each", str(number), f"{median(rates):,.0f}",
                    f"{median(ratios):.2f}×", f"{min(ratios):.2f}–{max(ratios):.2f}",
                    ", ".join(f"{kind} {used:.2f}" for kind, used in cores.items()),
                ))
    return table(("work", "queues", "gateways", "msg/s", "of one", "low–high", "cores"), rows)


def main() -> int:
    """The command line; 0 when everything was measured, whatever came of it."""
    parser = argparse.ArgumentParser(prog="python -m functional.growth", description=__doc__)
    parser.add_argument("--share", type=float, default=0.125, help="of a core, of each gateway (%(default)g)")
    parser.add_argument("--duration", type=float, default=5.0, help="seconds of a turn (%(default)g)")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds before a turn (%(default)g)")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each number of gateways (%(default)s)")
    parser.add_argument("--workload", "-w", action="append", help="may be repeated (cycle-1, cycle-20)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that the services end
    print(f"load of the machine before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    print(f"{CYCLE_CONNECTIONS} connections to each gateway, which has {options.share:g} of a core")
    try:
        with contextlib.ExitStack() as stack:
            rabbitmq, mongodb = started(stack, RabbitMQ(), print), started(stack, MongoDB(), print)
            configured = merge(through(rabbitmq), beside(mongodb, "marconi"))
            gateways = [started(stack, Gateway(configured), print) for _ in range(max(NUMBERS))]
            for gateway in gateways:
                stack.enter_context(cpu_share(gateway.pid, options.share))
            pool = stack.enter_context(ProcessPool(max(NUMBERS)))
            growth = Growth(gateways, (rabbitmq, mongodb), pool)
            print(measure(growth, options.workload or ("cycle-1", "cycle-20"), options))
    except (LoadFailed, Missing, StartFailed) as failure:
        sys.exit(str(failure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
