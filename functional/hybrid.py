"""The whole gateway for a look around: `python -m functional.hybrid`.

Starts a private broker, a private MongoDB and a gateway on top of them, and removes every trace of them on Ctrl-C or
SIGTERM.
"""

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn, TypeVar

from functional.deployments import COMMON, beside, through
from functional.services.gateway import Gateway, find_command, merge
from functional.services.mongodb import MongoDB, find_mongod
from functional.services.ports import is_free
from functional.services.process import Missing, Service, StartFailed
from functional.services.qpid import Qpid, find_qpid
from functional.services.rabbitmq import RabbitMQ, find_scripts
from functional.services.redis import Redis, find_server

#: The port that OpenStack's messaging service is known for.
DEFAULT_PORT = 8888

S = TypeVar("S", bound=Service)


@dataclass(frozen=True)
class Broker:
    """A kind of broker: `find` raises Missing if it is not installed; `service` has its address as `uri`."""

    label: str
    find: Callable[[], object]
    service: Callable[[], Any]


#: By the name in `--broker`.
BROKERS = {
    "rabbitmq": Broker("RabbitMQ", find_scripts, RabbitMQ),
    "qpid": Broker("Qpid Broker-J", find_qpid, Qpid),
    "redis": Broker("Redis", find_server, Redis),
}


def check(broker: Broker, port: int) -> None:
    """Complain about everything that is in the way, before anything is started."""
    problems = []
    for find in (broker.find, find_mongod, find_command):
        try:
            find()
        except Missing as missing:
            problems.append(str(missing))
    if not is_free(port):
        problems.append(f"port {port} on 127.0.0.1 is in use; choose another with --port")
    if problems:
        sys.exit("\n".join(problems))


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def started(label: str, service: S) -> S:
    """Start `service` and tell how long that took."""
    say(f"starting {label} ...")
    begin = time.monotonic()
    service.start()
    say(f"  ready after {time.monotonic() - begin:.1f} s")
    return service


def run(broker: Broker, port: int) -> None:
    """Run all three until the gateway ends or somebody interrupts."""
    with contextlib.ExitStack() as stack:
        carrier = stack.enter_context(contextlib.closing(broker.service()))
        started(broker.label, carrier)
        mongodb = stack.enter_context(contextlib.closing(MongoDB()))
        started("MongoDB", mongodb)
        options = merge(COMMON, through(carrier), beside(mongodb, "marconi"))
        gateway = stack.enter_context(contextlib.closing(Gateway(options, port)))
        started("the gateway", gateway)
        stack.callback(gateway.stop)
        stack.callback(say, "stopping ...")
        say(
            f"\n  HTTP     {gateway.url}/v2/"
            f"\n  broker   {carrier.uri}"
            f"\n  MongoDB  {mongodb.uri}"
            f"\n  log      {gateway.log_path}"
            f"\n\nCtrl-C stops all of it."
        )
        code = gateway.wait()
        sys.exit(f"the gateway exited with {code}; its log ends with:\n{gateway.tail()}")


def leave(signum: int, frame: FrameType | None) -> NoReturn:
    """Unwind as for Ctrl-C, once: a second signal must not interrupt the cleaning up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m functional.hybrid", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="HTTP port on 127.0.0.1 (default: %(default)s)"
    )
    parser.add_argument("--broker", choices=BROKERS, default="rabbitmq", help="(default: %(default)s)")
    arguments = parser.parse_args()
    broker = BROKERS[arguments.broker]
    check(broker, arguments.port)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        run(broker, arguments.port)
    except StartFailed as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
