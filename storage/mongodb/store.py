"""The side-store in MongoDB: its options, and its two parts on one database."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

from storage.base import SideStore
from storage.mongodb.catalogue import MongoDBCatalogue
from storage.mongodb.database import Database
from storage.mongodb.landed import MongoDBLanded


class MongoDBStore(SideStore):
    """``mongodb://host[,host...]/database?replicaSet=name`` or ``mongodb+srv://``."""

    OPTS = (
        cfg.FloatOpt(
            "timeout", default=5.0, min=0.1, max=60.0,
            help="Maximum time in seconds of a call to the side-store. After that the request is answered 503.",
        ),
        cfg.IntOpt(
            "max_pool_size", default=32, min=1, max=1000,
            help="MongoDB: maximum number of the driver's connections in one gateway process.",
        ),
        cfg.BoolOpt(
            "direct", default=True,
            help="MongoDB: send finds, inserts and deletes of messages straight to the primary, which costs less CPU"
            " than its driver does. false sends everything through the driver.",
        ),
    )

    def __init__(self, uri: str, options: Any):
        self.timeout = options.timeout
        self._database = Database(uri, self.timeout, options.max_pool_size, options.direct)
        self.landed: MongoDBLanded = MongoDBLanded(self._database, self)
        self.catalogue: MongoDBCatalogue = MongoDBCatalogue(self._database, self.landed, self)

    def ping(self) -> None:
        self._database.ping()

    def close(self) -> None:
        self._database.close()

    def now(self) -> int:
        return self._database.now()

    def maintain(self) -> int:
        with self._database.calls():
            self._database.refresh_clock()
            self.landed.remove_late()
        return 0  # the TTL index removes what has expired

    def connections(self) -> int:
        return self._database.open_connections

    def fallbacks(self) -> int:
        return self._database.direct.fallbacks

    def describe(self) -> str:
        return self._database.described
