"""The combinations of bridge and side-store that the functional tests run against."""

import base64
from dataclasses import dataclass
from pathlib import Path

from functional.brokers import LEASE, Broker
from functional.services.gateway import Options, merge
from functional.services.mongodb import MongoDB

#: What every test gateway has switched on. The key has the 32 bytes of AES-256.
COMMON: Options = {
    "DEFAULT": {"admin_mode": True},
    "signed_url": {"secret_key": "a secret of the functional tests"},
    "encryption": {"key": base64.b64encode(bytes(range(32))).decode()},
}


@dataclass(frozen=True)
class Deployment:
    """A way to run the gateway: what carries the messages, what keeps the rest, how many workers.

    One that is not `usual` is used only where `--deployment` names it. All tests run on those that matter most: the
    embedded default, and what the gateway is for.
    """

    bridge: str
    side_store: str
    workers: int = 1
    usual: bool = True
    matters_most: bool = False

    @property
    def name(self) -> str:
        """As in `--deployment`."""
        return f"{self.bridge}+{self.side_store}" + (f" x{self.workers}" if self.workers > 1 else "")

    @property
    def database(self) -> str:
        """Its own database, so that deployments can share one MongoDB."""
        return f"marconi_{self.bridge}_{self.workers}"

    @property
    def needs_rabbitmq(self) -> bool:
        """Whether RabbitMQ carries the messages, in queues of the type `bridge`."""
        return self.bridge in ("quorum", "classic")

    @property
    def needs_mongodb(self) -> bool:
        """Whether MongoDB is the side-store."""
        return self.side_store == "mongodb"


DEPLOYMENTS = {
    deployment.name: deployment
    for deployment in (
        Deployment("loopback", "sqlite", matters_most=True),
        Deployment("loopback", "mongodb"),
        Deployment("quorum", "mongodb", matters_most=True),
        Deployment("classic", "mongodb"),
        Deployment("quorum", "sqlite"),
        Deployment("quorum", "mongodb", workers=2),
        Deployment("redis", "mongodb", usual=False),
        Deployment("redis", "sqlite", usual=False),
        Deployment("qpid", "mongodb", usual=False),
    )
}


def through(broker: Broker, queue_type: str = "quorum") -> Options:
    """Options for messages on `broker`, in queues of `queue_type` if it is RabbitMQ."""
    return {"bridge": {"uri": broker.uri, "queue_type": queue_type, "lease": LEASE}}


def loopback() -> Options:
    """Options for messages that never leave the side-store."""
    return {"bridge": {"uri": "loopback://"}}


def beside(mongodb: MongoDB, database: str) -> Options:
    """Options for `database` of `mongodb` as the side-store."""
    return {"side_store": {"uri": mongodb.database_uri(database)}}


def sqlite(folder: Path) -> Options:
    """Options for a side-store file in `folder`."""
    return {"side_store": {"uri": f"sqlite:///{folder.absolute()}/marconi.db"}}


def embedded(folder: Path) -> Options:
    """Options of a gateway that needs no service, with its data in `folder`."""
    return merge(COMMON, loopback(), sqlite(folder))
