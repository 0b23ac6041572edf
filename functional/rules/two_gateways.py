"""Two gateways A and B on one store, and what several modules ask of them."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pika
import pytest
from pymongo import MongoClient

from functional.deployments import COMMON, DEPLOYMENTS, beside, loopback, sqlite, through
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, Options, merge
from functional.services.process import start_together

#: Deployments on which two gateways can share everything, by their names.
EMBEDDED, BESIDE_MONGODB, HYBRID = "loopback+sqlite", "loopback+mongodb", "quorum+mongodb"

#: What the names of these tests' broker objects begin with; the gateways may bridge them.
PREFIX = "two-"

BRIDGING: Options = {"bridging": {"allow": [f"* * / {kind}:{PREFIX}*" for kind in ("queue", "exchange")]}}


@dataclass(frozen=True)
class Two:
    """Two gateways on one store, which can be looked into."""

    name: str
    options: Options
    first: Gateway
    second: Gateway

    @property
    def has_broker(self) -> bool:
        """Do messages wait in a broker?"""
        return DEPLOYMENTS[self.name].needs_rabbitmq

    def clients(self) -> tuple[Api, Api]:
        """A client of each, in one project of their own."""
        a = Api(self.first.url)
        return a, Api(self.second.url, a.project)

    def has_stored(self, text: str, project: str) -> bool:
        """Does the side-store have this in clear in a project's messages?"""
        return text.encode() in self._stored(project)

    def _stored(self, project: str) -> bytes:
        uri = str(self.options["side_store"]["uri"])
        if uri.startswith("sqlite"):
            with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
                return _values(database)
        with MongoClient(uri) as client:
            found = client.get_default_database()["messages"].find({"q": {"$regex": f"^{project}/"}})
            return b"\n".join(repr(document).encode() for document in found)


def _values(database: sqlite3.Connection) -> bytes:
    """Whatever a database has in its tables."""
    tables = [table for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return b"\n".join(
        value if isinstance(value, bytes) else str(value).encode()
        for table in tables for row in database.execute(f"SELECT * FROM {table}") for value in row
    )


@contextmanager
def two_gateways(name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Two]:
    """Start two on a database of their own."""
    options = merge(COMMON, BRIDGING, side_options(name, request, folder))
    gateways = [require(lambda: Gateway(options)) for _ in range(2)]
    try:
        start_together(gateways)
        yield Two(name, options, *gateways)
    finally:
        for gateway in gateways:
            gateway.close()


def side_options(name: str, request: pytest.FixtureRequest, folder: Path) -> Options:
    """Bridge and side-store of a deployment, with a database of its own."""
    deployment = DEPLOYMENTS[name]
    bridge = through(request.getfixturevalue("shared_broker")) if deployment.needs_rabbitmq else loopback()
    if not deployment.needs_mongodb:
        return merge(bridge, sqlite(folder))
    return merge(bridge, beside(request.getfixturevalue("mongodb"), f"two_{uuid.uuid4().hex[:12]}"))


class Broker:
    """What stands beside the gateways on their broker."""

    def __init__(self, connection: pika.BlockingConnection) -> None:
        self.channel = connection.channel()
        self.channel.confirm_delivery()

    def queue(self) -> str:
        """A queue of somebody else's."""
        name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
        self.channel.queue_declare(name, durable=True)
        return name

    def exchange(self) -> tuple[str, str]:
        """An exchange of somebody else's, and the one queue that is bound to it."""
        exchange, queue = f"{PREFIX}{uuid.uuid4().hex[:12]}", self.queue()
        self.channel.exchange_declare(exchange, "fanout", durable=True)
        self.channel.queue_bind(queue, exchange)
        return exchange, queue

    def publish(self, queue: str, body: bytes, properties: pika.BasicProperties | None = None) -> None:
        """Put a message into a queue; returns when the broker has it."""
        self.channel.basic_publish("", queue, body, properties, mandatory=True)

    def drain(self, queue: str) -> list[tuple[pika.BasicProperties, bytes]]:
        """Take all messages out of a queue."""
        taken = []
        while True:
            method, properties, body = self.channel.basic_get(queue, auto_ack=True)
            if method is None:
                return taken
            taken.append((properties, body))
