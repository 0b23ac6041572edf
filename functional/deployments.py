"""The combinations of bridge and side-store that the functional tests run against."""

import base64
from dataclasses import dataclass
from pathlib import Path

from functional.services.gateway import Options, merge
from functional.services.mongodb import MongoDB
from functional.services.rabbitmq import RabbitMQ

#: What every test gateway has switched on. The key has the 32 bytes of AES-256.
COMMON: Options = {
    "DEFAULT": {"admin_mode": True},
    "signed_url": {"secret_key": "a secret of the functional tests"},
    "encryption": {"key": base64.b64encode(bytes(range(32))).decode()},
}


@dataclass(frozen=True)
class Deployment:
    """A way to run the gateway: what carries the messages, what keeps the rest, how many workers."""

    bridge: str
    side_store: str
    workers: int = 1

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
        """Whether a broker carries the messages."""
        return self.bridge != "loopback"

    @property
    def needs_mongodb(self) -> bool:
        """Whether MongoDB is the side-store."""
        return self.side_store == "mongodb"


DEPLOYMENTS = {
    deployment.name: deployment
    for deployment in (
        Deployment("loopback", "sqlite"),
        Deployment("loopback", "mongodb"),
        Deployment("quorum", "mongodb"),
        Deployment("classic", "mongodb"),
        Deployment("quorum", "sqlite"),
        Deployment("quorum", "mongodb", workers=2),
    )
}


def through(rabbitmq: RabbitMQ, queue_type: str = "quorum") -> Options:
    """Options for messages in queues of `queue_type` on `rabbitmq`."""
    return {"bridge": {"uri": rabbitmq.uri, "queue_type": queue_type}}


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
