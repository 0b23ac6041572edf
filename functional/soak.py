"""Does the gateway's memory grow? `python -m functional.soak`.

Starts a private RabbitMQ, MongoDB and gateway, sends millions of messages through them, in and out, and looks at the
gateway's memory meanwhile. The exit status is 1 if it has grown.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import psutil

from functional.deployments import beside, loopback, sqlite, through
from functional.services.gateway import Gateway, merge
from functional.services.mongodb import MongoDB
from functional.services.process import Missing, Service, StartFailed, started
from functional.services.rabbitmq import RabbitMQ
from gateway.bench.processes import LoadFailed
from gateway.bench.progress import Progress
from gateway.bench.report import errors, table
from gateway.bench.rounds import BenchFailed, Server, run
from gateway.bench.settings import Settings
from gateway.bench.workloads import named

#: Messages of a request: more than by default, so that a gateway is done with millions of them in minutes.
BATCH = 100

#: Bytes of a body: small, for the same reason. The limit on a post's size stays as it is.
BODY = 256

#: Part of the messages after which caches are full and pools have grown: what is compared begins there.
SETTLED = 0.2

#: What the median of the last looks may be, by that of the first ones after SETTLED.
GROWTH = 1.05

#: Looks that each of these medians is made of.
LOOKS = 3


@dataclass(frozen=True)
class Look:
    """After so many messages, the resident memory of each process in bytes."""

    messages: int
    rate: float
    memory: Sequence[int]


def resident(service: Service) -> int:
    """Bytes of memory of a service with its children."""
    process = psutil.Process(service.pid)
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


def grown(looks: Sequence[Look]) -> float:
    """The gateway's memory at the end, by that after the first messages. ValueError if there are too few looks."""
    settled = [look.memory[0] for look in looks if look.messages >= SETTLED * looks[-1].messages]
    if len(settled) < 2 * LOOKS:
        raise ValueError("too few messages to say whether the memory grows")
    return median(settled[-LOOKS:]) / median(settled[:LOOKS])


def soak(messages: int, embedded: bool, settings: Settings, progress: Progress) -> tuple[list[str], list[Look]]:
    """Send so many messages in and out; the names of what was looked at, the gateway first, and the looks."""
    limits = {"transport": {"max_messages_per_claim_or_pop": BATCH, "max_messages_per_page": BATCH}}
    with contextlib.ExitStack() as stack:
        behind: list[Service] = []
        if embedded:
            gateway = Gateway({})
            gateway.configure(merge(limits, loopback(), sqlite(gateway.folder)))
        else:
            rabbitmq, mongodb = started(stack, RabbitMQ(), progress.say), started(stack, MongoDB(), progress.say)
            behind = [rabbitmq, mongodb]
            gateway = Gateway(merge(limits, through(rabbitmq), beside(mongodb, "marconi")))
        started(stack, gateway, progress.say)
        services = [gateway, *behind]
        looks: list[Look] = []
        done = 0
        while done < messages:
            (result,) = run([Server("gateway", gateway.url)], [named(f"pop-{BATCH}")], settings, progress)
            ((turn,),) = result.turns.values()
            if wrong := errors([turn]):
                raise BenchFailed(f"{dict(wrong)}, the first: {turn.first_error}")
            done += turn.operations["pop"].all_messages
            looks.append(Look(done, turn.rate, [resident(service) for service in services]))
            progress.note(f"{done:>12,} messages: {looks[-1].memory[0] / 2**20:.1f} MiB")
    return [service.name for service in services], looks


def main() -> int:
    """The command line; 0 if the memory has not grown."""
    parser = argparse.ArgumentParser(prog="python -m functional.soak", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000, help="in and out (%(default)s)")
    parser.add_argument("--step", type=float, default=20.0, help="seconds between two looks (%(default)g)")
    parser.add_argument("--embedded", action="store_true", help="without a broker, and with SQLite")
    options = parser.parse_args()
    settings = replace(Settings(), duration=options.step, warm_up=0.0, rounds=1, body_size=BODY)
    progress = Progress(sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that the services end
    try:
        names, looks = soak(options.messages, options.embedded, settings, progress)
        growth = grown(looks)
    except (BenchFailed, LoadFailed, Missing, StartFailed, ValueError) as failure:
        sys.exit(str(failure))
    rows = [
        (f"{look.messages:,}", f"{look.rate:,.0f}", *(f"{size / 2**20:.1f}" for size in look.memory)) for look in looks
    ]
    print(table(("messages", "req/s", *(f"{name} MiB" for name in names)), rows))
    print(f"\nThe gateway's memory at the end: {growth:.3f} times that after {SETTLED:.0%} of the messages.")
    return 0 if growth <= GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
