"""A MongoDB database: the driver's client, the direct way to the primary, the server's clock, and indexes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pymongo import ASCENDING, DESCENDING, DeleteOne, IndexModel, MongoClient, WriteConcern
from pymongo.errors import PyMongoError

from storage.errors import StoreUnavailable
from storage.mongodb.direct import DATES, Direct
from storage.mongodb.documents import (
    CLAIM,
    EXPIRES,
    HIDDEN_UNTIL,
    MOVE,
    NEVER,
    POOL,
    POSITION,
    QUEUE,
    SCOPE,
    UNTIL,
)
from storage.mongodb.reach import Call, Reach
from storage.mongodb.uri import check_uri, complaint, describe

T = TypeVar("T")

#: Without ``j`` a majority write waits for the journal's 100 ms tick (MongoDB manual, "Write Concern").
DURABLE = WriteConcern(w="majority", j=True)

#: The offset to the server's clock is measured again at this interval, in seconds.
CLOCK_REFRESH = 30.0

#: The clock is read until its error is at most so many seconds, and at most so often. Ids that several gateways make
#: are in order but for this error.
CLOCK_EXACT = 0.001
CLOCK_READINGS = 5

#: How fast we assume the two clocks drift apart, in seconds per second. Real clocks drift less.
CLOCK_DRIFT = 0.001

INDEXES = (
    # A claim wants expired holds first (there are few), then the free ones in order, then the lease.
    IndexModel([(QUEUE, ASCENDING), (HIDDEN_UNTIL, DESCENDING), (POSITION, ASCENDING)], name="visibility"),
    IndexModel(
        [(QUEUE, ASCENDING), (POSITION, ASCENDING)], name="position", partialFilterExpression={POSITION: {"$gt": 0}}
    ),
    IndexModel([(CLAIM, ASCENDING)], name="claim", partialFilterExpression={CLAIM: {"$exists": True}}),
    IndexModel([(EXPIRES, ASCENDING)], name="expiry", expireAfterSeconds=0),
)

QUEUE_INDEXES = (
    IndexModel([("p", ASCENDING), ("n", ASCENDING)], name="name", unique=True),
    IndexModel(
        [(POOL, ASCENDING), ("_id", ASCENDING)], name="pools", partialFilterExpression={POOL: {"$exists": True}}
    ),
    # Begins with _id for the order, and is empty while no queue moves.
    IndexModel(
        [("_id", ASCENDING), ("n", ASCENDING)], name="moves", partialFilterExpression={MOVE: {"$exists": True}}
    ),
)

RESERVATION_INDEXES = (
    IndexModel([(SCOPE, ASCENDING), (UNTIL, ASCENDING)], name="scope"),
    IndexModel([(UNTIL, ASCENDING)], name="expiry", expireAfterSeconds=0),
)


class Database:
    """The collections of a database. A replica set, majority writes, journaled.

    ``messages`` has landed messages, leases and tombstones (documents.py); ``queues`` the queues' documents,
    ``bridged`` marks of queues, ``records`` small documents such as pools, ``reservations`` what is recorded for a
    while, and ``locks`` what gateways have locked.
    """

    def __init__(self, uri: str, timeout: float, max_pool_size: int, direct: bool):
        """``timeout``: seconds that one call may take. ``direct``: whether commands may bypass the driver.

        Raises StoreMisconfigured.
        """
        check_uri(uri)
        try:
            self.client: MongoClient[dict[str, Any]] = MongoClient(
                uri,
                connect=False,
                appname="marconi",
                timeoutMS=int(timeout * 1000),
                maxPoolSize=max_pool_size,
            )
            self._database = self.client.get_default_database(
                "marconi",
                write_concern=DURABLE,
                codec_options=DATES,
            )
        except (PyMongoError, ValueError, OSError) as error:
            raise complaint(error) from None
        self.name = self._database.name
        self.described = describe(uri, self.name)
        self.timeout = timeout
        self.messages = self._database["messages"]
        self.queues = self._database["queues"]
        self.bridged = self._database["bridged"]
        self.locks = self._database["locks"]
        self.records = self._database["records"]
        self.reservations = self._database["reservations"]
        self._reach = Reach(timeout, lambda: self.client.admin.command("ping"), self._prepare)
        self.direct = Direct(self.client, uri, self.name, DURABLE, timeout, lambda: self._reach.left, direct)
        self._prepare_lock = threading.Lock()
        self._clock_offset = time.time() - time.monotonic()
        self._clock_read = float("-inf")
        self._clock_error = 0.0

    # -- calls --------------------------------------------------------------------------------------------------

    def calls(self, most: float | None = None) -> Call:
        """A context in which commands are sent. It translates the driver's exceptions to StoreUnavailable.

        The first call that reaches the server creates indexes and reads its clock; before, the clock is this machine's.
        All commands inside, and all calls, have one time limit: the timeout, or ``most`` seconds if that is less.
        """
        return self._reach.call(most)

    def find(self, query: Mapping[str, Any], most: int, **options: Any) -> list[dict[str, Any]]:
        """Documents of ``messages``, up to ``most``. ``options``: sort, hint and projection of the command."""
        return _first(
            self.direct.find("messages", query, most, **options),
            lambda: list(self.messages.find(query, limit=most, **options)),
        )

    def delete(self, query: Mapping[str, Any], one: bool) -> int:
        """Delete documents of ``messages``, up to one or all; returns how many."""
        # Unlike delete_many, the driver repeats delete_one by itself after a failover.
        return _first(
            self.direct.delete("messages", [query], 1 if one else 0),
            lambda: (self.messages.delete_one if one else self.messages.delete_many)(query).deleted_count,
        )

    def delete_each(self, queries: Sequence[Mapping[str, Any]]) -> int:
        """Delete up to one document of ``messages`` for each query; returns how many in all."""
        return _first(
            self.direct.delete("messages", queries, 1),
            lambda: self.messages.bulk_write([DeleteOne(query) for query in queries], ordered=False).deleted_count,
        )

    def insert(
        self, documents: Sequence[dict[str, Any]], driver: Callable[[Sequence[dict[str, Any]]], list[int]]
    ) -> list[int]:
        """Insert documents into ``messages``; the indexes of those that existed. ``driver`` inserts by the driver."""
        return _first(self.direct.insert("messages", documents), lambda: driver(documents))

    # -- life ---------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Return when the server takes writes: a replica set without a primary answers reads and pings."""
        with self.calls():
            self._read_clock()
            self.messages.update_one({"_id": "ping"}, {"$set": {EXPIRES: NEVER}}, upsert=True)

    def close(self) -> None:
        """Close all connections."""
        self.direct.close()
        self.client.close()

    @property
    def open_connections(self) -> int:
        """Number of connections that are open now."""
        servers = self.client._topology._servers.values() if self.client._topology is not None else ()
        return self.direct.open + sum(server.pool.active_sockets + len(server.pool.conns) for server in servers)

    def _prepare(self) -> None:
        if not self._prepare_lock.acquire(timeout=max(0.0, self._reach.left)):
            raise StoreUnavailable(self._reach.down or "MongoDB: the first call takes too long")
        try:
            if self._reach.prepared:
                return
            if self._reach.down is not None:  # found out by the thread that had the lock
                raise StoreUnavailable(self._reach.down)
            self._read_clock()
            self.messages.create_indexes(list(INDEXES))
            self.queues.create_indexes(list(QUEUE_INDEXES))
            self.reservations.create_indexes(list(RESERVATION_INDEXES))
            self.locks.create_index([("e", ASCENDING)], name="expiry", expireAfterSeconds=0)
        finally:
            self._prepare_lock.release()

    # -- clock --------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Milliseconds since the epoch on the primary's clock: the clock of all gateways, whatever theirs say."""
        return int((time.monotonic() + self._clock_offset) * 1000)

    def refresh_clock(self) -> None:
        """Measure the offset of the primary's clock again if the last measurement is old."""
        if time.monotonic() - self._clock_read > CLOCK_REFRESH:
            self._read_clock()

    def _read_clock(self) -> None:
        for _ in range(CLOCK_READINGS):
            sent = time.monotonic()
            answer = self._database.command("hello", codec_options=DATES)
            received = time.monotonic()
            # A slow answer is an inexact one. It is used only once the known offset may have drifted as far.
            error = (received - sent) / 2
            if error <= self._clock_error + CLOCK_DRIFT * (received - self._clock_read):
                self._clock_offset = int(answer["localTime"]) / 1000 - (sent + received) / 2
                self._clock_read, self._clock_error = received, error
            if error <= CLOCK_EXACT:
                return


def _first(result: T | None, driver: Callable[[], T]) -> T:
    """The result of a direct command; what the driver does if that is None, in what is left of the time."""
    return driver() if result is None else result
