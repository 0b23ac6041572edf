"""The gateway on each broker that it has a bridge to, and Zaqar on Redis, as servers that `marconi bench` can measure.

Everything is on the disk before it is confirmed: RabbitMQ's quorum queues, Broker-J's Derby, Redis' log of changes,
MongoDB's journal, SQLite's log. Each server has its own broker, so that what one leaves behind does not slow down
another one.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from functional.brokers import Broker
from functional.deployments import beside, sqlite
from functional.peers.zaqar import Zaqar, on_redis
from functional.services.gateway import Gateway, merge
from functional.services.mongodb import MongoDB
from functional.services.process import started
from functional.services.qpid import Qpid
from functional.services.rabbitmq import RabbitMQ
from functional.services.redis import Redis
from gateway.bench.cpu import CPUMeter
from gateway.bench.rounds import Server

RABBITMQ, REDIS, REDIS_SQLITE, QPID = "rabbitmq+mongodb", "redis+mongodb", "redis+sqlite", "qpid+mongodb"
ZAQAR = "zaqar on redis"

PAIRS = (
    (REDIS, RABBITMQ), (QPID, RABBITMQ), (REDIS_SQLITE, REDIS),
    (RABBITMQ, ZAQAR), (REDIS, ZAQAR), (REDIS_SQLITE, ZAQAR), (QPID, ZAQAR),
)


class WarmQpid(Qpid):
    """Broker-J with Java's usual compiler, which takes longer to warm up and is quicker then."""

    java_options = ("-Xmx1g", "-XX:-UsePerfData")


@dataclass(frozen=True)
class Measured:
    """Servers to measure in turns, and the meters of what is behind them, by name."""

    servers: list[Server]
    watched: dict[str, CPUMeter]


def serve(stack: contextlib.ExitStack, cache: Path, say: Callable[[str], None]) -> Measured:
    """Start all of them; the stack ends them. Raises Missing or StartFailed."""
    mongodb = started(stack, MongoDB(), say)
    rabbitmq, qpid = started(stack, RabbitMQ(), say), started(stack, WarmQpid(), say)
    redis, beside_sqlite, of_zaqar = (started(stack, Redis(), say) for _ in range(3))
    gateways = {
        RABBITMQ: on(rabbitmq, mongodb),
        REDIS: on(redis, mongodb),
        REDIS_SQLITE: on(beside_sqlite),
        QPID: on(qpid, mongodb),
    }
    servers = []
    for name, gateway in gateways.items():
        started(stack, gateway, say)
        servers.append(Server(name, gateway.url, meter=CPUMeter([gateway.pid])))
    zaqar = started(stack, Zaqar(on_redis(f"redis://127.0.0.1:{of_zaqar.port}"), cache), say)
    servers.append(Server(ZAQAR, zaqar.url, meter=CPUMeter([zaqar.pid])))
    return Measured(servers, {
        "RabbitMQ": CPUMeter([rabbitmq.pid]),
        "Broker-J": CPUMeter([qpid.pid]),
        "Redis": CPUMeter([redis.pid, beside_sqlite.pid, of_zaqar.pid]),
        "MongoDB": CPUMeter([mongodb.pid]),
    })


def on(broker: Broker, mongodb: MongoDB | None = None) -> Gateway:
    """A gateway on a broker, not started yet, with all defaults but where its services are; without MongoDB on SQLite.

    Each has its own database, so that one MongoDB serves several.
    """
    gateway = Gateway({})
    side_store = beside(mongodb, f"marconi_{broker.name}") if mongodb else sqlite(gateway.folder)
    gateway.configure(merge({"bridge": {"uri": broker.uri}}, side_store))
    return gateway
