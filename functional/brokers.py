"""The broker that tests of the whole gateway run on: RabbitMQ, or what `--broker` names."""

import os

from functional.installed import require
from functional.services.qpid import Qpid
from functional.services.rabbitmq import RabbitMQ
from functional.services.redis import Redis

Broker = RabbitMQ | Qpid | Redis

#: Brokers by the names that `--broker` takes.
BROKERS: dict[str, type[Broker]] = {"rabbitmq": RabbitMQ, "qpid": Qpid, "redis": Redis}

#: Environment variable with the name, for the processes of pytest-xdist.
BROKER = "MARCONI_TEST_BROKER"

#: Seconds until Redis gives to others what a dead gateway has held; the others do it at once. Test gateways have it as
#: their [bridge] lease.
LEASE = 5


def broker_option() -> str:
    """The name of the kind of broker that was asked for; the fixture of the shared one has it, too."""
    return os.environ.get(BROKER, "rabbitmq")


def broker_kind() -> type[Broker]:
    """The kind of broker that was asked for."""
    return BROKERS[broker_option()]


def make_broker() -> Broker:
    """A broker of that kind, not started yet."""
    return require(broker_kind())


def gives_back_after() -> float:
    """Seconds after the death of a gateway until the broker has given back all that it held."""
    return LEASE + 1.0 if broker_kind() is Redis else 0.0
