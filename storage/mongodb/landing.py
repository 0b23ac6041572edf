"""How messages land in MongoDB: leases, positions, tombstones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from bson import DatetimeMS, Timestamp
from bson.errors import BSONError
from pymongo import DESCENDING, DeleteOne, WriteConcern
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from storage.errors import LeaseLost, QueueGone, Unstorable
from storage.landed import SEEN_FOR, LandedStore
from storage.model import Clock, Message
from storage.mongodb.database import Database
from storage.mongodb.direct import DUPLICATE_KEY
from storage.mongodb.documents import (
    BODY,
    CLAIM,
    EXPIRES,
    HIDDEN_UNTIL,
    LANDED,
    LEASE_FREE,
    LEASE_HELD,
    POSITION,
    PROPERTIES,
    QUEUE,
    id_of,
    keys,
    lease_key,
    to_document,
)
from storage.mongodb.reach import MAX_ERROR

#: Maximum total size of bodies in bytes that a direct command lands. The driver splits more into several commands.
DIRECTLY = 16 * 1024 * 1024

#: How long we record that messages have landed under a lease, in milliseconds, in case the answer is lost.
DONE_KNOWN_FOR = 60_000

#: Maximum total size of bodies in bytes in a command that lands under the lease. The command itself is a document of up
#: to 16 MiB.
LANDED_AT_ONCE = 15 * 1024 * 1024

#: Exceptions of the driver for a document that MongoDB can't store (DocumentTooLarge is a BSONError). Nothing was sent
#: then.
UNSTORABLE = (BSONError, OverflowError, UnicodeEncodeError)

#: Error codes by which the server says the same: BadValue, InvalidBSON, BSONObjectTooLarge, KeyTooLong, and two of an
#: update that makes a document too large (MongoDB's error_codes.yml).
NEVER_STORED = frozenset({2, 22, 10334, 17280, 17419, 17420})

#: What $merge does where a document exists, in the order in which it is tried. With "fail" it inserts many documents at
#: once, which costs a quarter; then what exists is an error, and the others of a command are inserted or not.
KNOWN = ("keepExisting",)
NEW = ("fail", "keepExisting")


@dataclass(frozen=True, slots=True)
class Way:
    """How documents land under a lease.

    ``stages`` lead from the lease to the documents that are to be inserted, in their order. A command has ``most``
    bytes of bodies. ``tries``: KNOWN or NEW.
    """

    stages: Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]
    most: int
    tries: Sequence[str]


class MongoDBLanding(LandedStore):
    """The first part of the landed store: what adds messages. A queue has a lease, held or not, while it exists."""

    def __init__(self, database: Database, clock: Clock):
        super().__init__(clock, database.timeout)
        self._database = database
        self._calls = database.calls
        self._messages = database.messages
        self._quick = database.messages.with_options(write_concern=WriteConcern(w=1, j=False))
        #: When this process has taken a lease last, by the server's log.
        self._leased = Timestamp(0, 0)
        self._leased_lock = threading.Lock()

    def _is_open(self, q: str) -> bool:
        return bool(self._database.find({"_id": lease_key(q)}, 1, projection={"_id": 1}))

    # -- the lease ----------------------------------------------------------------------------------------------

    def acquire_lease(self, q: str, owner: str, seconds: float, alone: bool = False) -> int | None:
        with self._calls(), self._database.client.start_session() as session:
            now = self.clock.now()
            lease = self._messages.find_one_and_update(
                {"_id": lease_key(q), "$or": [{HIDDEN_UNTIL: LEASE_FREE}, {"until": {"$lte": now}}]},
                {"$set": {HIDDEN_UNTIL: LEASE_HELD, "owner": owner, "until": now + int(seconds * 1000)}},
                projection=["last", HIDDEN_UNTIL], session=session,
            )
            if lease is None:
                if not self._is_open(q):
                    raise QueueGone(q)
                return None
            with self._leased_lock:
                self._leased = max(self._leased, session.operation_time or self._leased)
            if alone and lease[HIDDEN_UNTIL] == LEASE_FREE:  # as it was
                return int(lease["last"])
            # Claimers land without the lease, and their clock may run a little ahead of ours.
            landed = self._messages.find_one(
                {QUEUE: q, **LANDED}, {POSITION: 1}, sort=[(POSITION, DESCENDING)], hint="position"
            )
        return max(lease["last"], landed[POSITION] if landed else 0)

    def renew_lease(self, q: str, owner: str, seconds: float) -> bool:
        with self._calls():
            now = self.clock.now()
            return self._messages.update_one(
                {"_id": lease_key(q), HIDDEN_UNTIL: LEASE_HELD, "owner": owner, "until": {"$gt": now}},
                {"$set": {"until": now + int(seconds * 1000)}},
            ).matched_count == 1

    def release_lease(self, q: str, owner: str, last: int, quick: bool = False) -> None:
        with self._calls():
            (self._quick if quick else self._messages).update_one(
                {"_id": lease_key(q), "owner": owner},
                {"$set": {HIDDEN_UNTIL: LEASE_FREE, "until": 0}, "$max": {"last": last}},
            )

    # -- landing ------------------------------------------------------------------------------------------------

    def land(
        self, q: str, messages: Sequence[Message], owner: str | None = None, seen: float | None = None
    ) -> set[str]:
        """See LandedStore. Without an owner one insert does it, as claims can afford no more. If the queue was not seen
        just before, it is looked for afterwards: when it has gone, what was inserted is removed again.
        """
        if not messages:
            return set()
        documents = [to_document(q, m) for m in messages]
        if owner is not None:
            existed = self._land_under_lease(q, documents, owner, Way(documents_of, LANDED_AT_ONCE, KNOWN))
            return {messages[index].id for index in existed}
        with self._calls(), _unstorable():
            if sum([len(m.body) + len(m.properties or b"") for m in messages]) <= DIRECTLY:
                there = self._database.insert(documents, self._insert)
            else:
                there = self._insert(documents)
            if (seen is None or time.monotonic() - seen > SEEN_FOR) and not self._is_open(q):
                self._take_back(documents, there)
                raise QueueGone(q)
        return {messages[index].id for index in there}

    def _take_back(self, documents: Sequence[dict[str, Any]], there: Sequence[int]) -> None:
        """Remove documents that were inserted under a key that is closed; ``there``: indexes of those that existed.

        What else is under the key may be on its way to another store. So may these be by now: that does no harm, as
        they are recognized there when they come from the broker once more.
        """
        inserted = [
            DeleteOne({"_id": d["_id"], POSITION: d[POSITION], HIDDEN_UNTIL: d[HIDDEN_UNTIL], CLAIM: d.get(CLAIM)})
            for index, d in enumerate(documents) if index not in there
        ]
        if inserted:
            self._messages.bulk_write(inserted, ordered=False)

    def _land_under_lease(self, q: str, documents: Sequence[dict[str, Any]], owner: str, way: Way) -> set[int]:
        """Insert the documents if ``owner`` holds the lease at that moment; the indexes of those that existed.

        One command finds the lease and inserts: a holder that was stopped for longer than the lease must not insert
        positions that other gateways have passed. A transaction would do it too, but when a gateway dies or stops in
        the middle of one, it keeps the others from the queue for a minute.
        """
        there: set[int] = set()
        with self._calls(), _unstorable():
            for part in _parts(documents, way.most):
                positions = self._land_part(q, [documents[index] for index in part], owner, way)
                there |= {
                    index for index in part
                    if positions.get(documents[index]["_id"], documents[index][POSITION]) != documents[index][POSITION]
                }
        return there

    def _land_part(
        self, q: str, documents: Sequence[dict[str, Any]], owner: str, way: Way
    ) -> dict[str, int | None]:
        """Insert what goes into one command; see _positions. Raises LeaseLost and QueueGone."""
        # Inserted after the others: if it exists they have been inserted, whatever has become of them since.
        done_key = f"{lease_key(q)}/{uuid4().hex}"
        done = {"_id": done_key, QUEUE: q, EXPIRES: DatetimeMS(self.clock.now() + DONE_KNOWN_FOR)}
        for there in way.tries:
            failure: PyMongoError | None = None
            try:
                self._messages.aggregate([
                    {"$match": {
                        "_id": lease_key(q), "owner": owner, HIDDEN_UNTIL: LEASE_HELD,
                        "until": {"$gt": self.clock.now()},
                    }},
                    *way.stages([*documents, done]),
                    {"$merge": {"into": "messages", "whenMatched": there, "whenNotMatched": "insert"}},
                ])
            except (AutoReconnect, DuplicateKeyError) as error:  # it may have been done all the same
                failure = error
            positions = self._positions([*(document["_id"] for document in documents), done_key, lease_key(q)])
            if done_key in positions:
                return positions
            if not isinstance(failure, DuplicateKeyError):
                break
        if failure is not None:
            raise failure
        raise LeaseLost(q) if lease_key(q) in positions else QueueGone(q)

    def _insert(self, documents: Sequence[dict[str, Any]]) -> list[int]:
        """Insert by the driver; the indexes of documents that existed, except for those that a first try has inserted.

        Nobody else gives a message the same position.
        """
        try:
            self._messages.insert_many(documents, ordered=False)
            return []
        except BulkWriteError as error:
            there = duplicates(error)
        positions = self._positions([documents[index]["_id"] for index in there])
        return [index for index in there if positions.get(documents[index]["_id"]) != documents[index][POSITION]]

    def _positions(self, keys_: Sequence[str]) -> dict[str, int | None]:
        """The documents that exist, by ``_id``, with their positions; a lease and a tombstone have none."""
        found = self._messages.find({"_id": {"$in": keys_}}, projection=[POSITION])
        return {document["_id"]: document.get(POSITION) for document in found}

    # -- tombstones ---------------------------------------------------------------------------------------------

    def tombstone(self, q: str, expires: Mapping[str, int]) -> set[str]:
        if not expires:
            return set()
        documents = [{"_id": f"{q}/{id_}", QUEUE: q, EXPIRES: DatetimeMS(until)} for id_, until in expires.items()]
        with self._calls():
            try:
                self._messages.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                duplicates(error)
            landed = self._messages.find({"_id": {"$in": keys(q, expires)}, **LANDED}, projection=["_id"])
            return {id_of(d) for d in landed}

    def landed_or_deleted(self, q: str, ids: Sequence[str]) -> set[str]:
        with self._calls():
            # With the lease, which says whether the queue still exists.
            found = self._database.find({"_id": {"$in": keys(q, ["", *ids])}}, len(ids) + 1, projection={"_id": 1})
        known = {id_of(d) for d in found}
        if "" not in known:
            raise QueueGone(q)
        known.discard("")
        return known


def documents_of(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stages from a lease to documents."""
    return [
        {"$project": {"landing": {"$literal": documents}}},
        {"$unwind": "$landing"},
        {"$replaceRoot": {"newRoot": "$landing"}},
    ]


def _parts(documents: Sequence[Mapping[str, Any]], most: int) -> Iterator[list[int]]:
    """Indexes of documents that go into one command each, with ``most`` bytes of bodies."""
    part: list[int] = []
    size = 0
    for index, document in enumerate(documents):
        length = len(document[BODY]) + len(document.get(PROPERTIES, b""))
        if part and size + length > most:
            yield part
            part, size = [], 0
        part.append(index)
        size += length
    if part:
        yield part


@contextmanager
def _unstorable() -> Iterator[None]:
    """Raises Unstorable for what the server refuses for good to store."""
    try:
        yield
    except (*UNSTORABLE, OperationFailure) as error:
        if isinstance(error, OperationFailure) and error.code not in NEVER_STORED:
            raise
        raise Unstorable(f"MongoDB: {type(error).__name__}: {str(error)[:MAX_ERROR]}") from error


def duplicates(error: BulkWriteError) -> list[int]:
    """Which documents existed. Raises Unstorable, or the error again when it says something else too."""
    failures = error.details["writeErrors"]
    for failure in failures:
        if failure["code"] in NEVER_STORED:
            raise Unstorable(f"MongoDB: {str(failure.get('errmsg'))[:MAX_ERROR]}") from error
    if error.details["writeConcernErrors"] or any(failure["code"] != DUPLICATE_KEY for failure in failures):
        raise error
    return [failure["index"] for failure in failures]
