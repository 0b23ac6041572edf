"""How messages land in MongoDB: leases, positions, tombstones."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from bson import DatetimeMS
from bson.errors import BSONError
from pymongo import DESCENDING, ReturnDocument
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, OperationFailure

from storage.errors import LeaseLost, QueueGone, Unstorable
from storage.landed import SEEN_FOR, LandedStore
from storage.model import Clock, Message
from storage.mongodb.database import Database
from storage.mongodb.direct import DUPLICATE_KEY
from storage.mongodb.documents import (
    BODY,
    EXPIRES,
    HIDDEN_UNTIL,
    LANDED,
    LEASE_FREE,
    LEASE_HELD,
    NEVER,
    POSITION,
    PROPERTIES,
    QUEUE,
    id_of,
    keys,
    lease_key,
    to_document,
)
from storage.mongodb.reach import MAX_ERROR

#: Bytes of bodies that a direct command lands; the driver makes several commands of more.
DIRECTLY = 16 * 1024 * 1024

#: Milliseconds for which it is recorded that messages have landed under a lease, in case the answer is lost.
DONE_KNOWN_FOR = 60_000

#: Bytes of bodies in one command that lands under the lease: the command itself is a document of up to 16 MiB.
LANDED_AT_ONCE = 15 * 1024 * 1024

#: Deleted queues that remove_late() looks after; older ones are left to the TTL index.
DELETED_AT_MOST = 10_000

#: What the driver raises for a document that MongoDB can't hold (DocumentTooLarge is a BSONError), before it sends it.
UNSTORABLE = (BSONError, OverflowError, UnicodeEncodeError)

#: Error codes by which the server says the same: BadValue, InvalidBSON, BSONObjectTooLarge, KeyTooLong, and two of an
#: update that makes a document too large (MongoDB's error_codes.yml).
NEVER_STORED = frozenset({2, 22, 10334, 17280, 17419, 17420})


class MongoDBLanding(LandedStore):
    """The first half of the landed store: what adds messages. A queue has a lease, held or not, while it exists."""

    def __init__(self, database: Database, clock: Clock):
        super().__init__(clock, database.timeout)
        self._database = database
        self._calls = database.calls
        self._messages = database.messages
        #: When late messages of a deleted queue may be removed (monotonic seconds), and its key. Keys that do not fit
        #: keep late messages till they expire; nobody sees them.
        self._deleted: deque[tuple[float, str]] = deque(maxlen=DELETED_AT_MOST)

    # -- queues -------------------------------------------------------------------------------------------------

    def open_queue(self, q: str) -> None:
        """Let messages land under a queue's key."""
        # From the start, as it ends the search for free messages: where nothing comes after the place to search from,
        # WiredTiger looks before it, past all that was deleted in the last minutes.
        lease = {QUEUE: q, HIDDEN_UNTIL: LEASE_FREE, "until": 0, "last": 0, EXPIRES: NEVER}
        with self._calls(), suppress(DuplicateKeyError):  # two first posts at the same moment
            self._messages.update_one({"_id": lease_key(q)}, {"$setOnInsert": lease}, upsert=True)

    def close_queue(self, q: str) -> None:
        """Let nothing land under a queue's key any more, except for claimers that have just seen the queue."""
        with self._calls():
            self._messages.delete_one({"_id": lease_key(q)})

    def remove_closed(self, q: str) -> None:
        """Remove everything that is kept under the key of a closed queue, now and once more after SEEN_FOR seconds."""
        with self._calls():
            self._messages.delete_many({QUEUE: q})
        self._deleted.append((time.monotonic() + SEEN_FOR, q))

    def remove_late(self) -> None:
        """Remove what claimers have landed in closed queues that they had seen just before."""
        while self._deleted and self._deleted[0][0] < time.monotonic():
            with self._calls():
                self._messages.delete_many({QUEUE: self._deleted[0][1]})
            self._deleted.popleft()

    def _is_open(self, q: str) -> bool:
        return bool(self._database.find({"_id": lease_key(q)}, 1, projection={"_id": 1}))

    # -- the lease ----------------------------------------------------------------------------------------------

    def acquire_lease(self, q: str, owner: str, seconds: float) -> int | None:
        with self._calls():
            now = self.clock.now()
            lease = self._messages.find_one_and_update(
                {"_id": lease_key(q), "$or": [{HIDDEN_UNTIL: LEASE_FREE}, {"until": {"$lte": now}}]},
                {"$set": {HIDDEN_UNTIL: LEASE_HELD, "owner": owner, "until": now + int(seconds * 1000)}},
                return_document=ReturnDocument.AFTER,
            )
            if lease is None:
                if not self._is_open(q):
                    raise QueueGone(q)
                return None
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

    def release_lease(self, q: str, owner: str, last: int) -> None:
        with self._calls():
            self._messages.update_one(
                {"_id": lease_key(q), "owner": owner},
                {"$set": {HIDDEN_UNTIL: LEASE_FREE, "until": 0}, "$max": {"last": last}},
            )

    # -- landing ------------------------------------------------------------------------------------------------

    def land(
        self, q: str, messages: Sequence[Message], owner: str | None = None, seen: float | None = None
    ) -> set[str]:
        """See LandedStore. Without an owner one insert does it, as claims can afford no more. If the queue was not seen
        just before, it is looked for afterwards: when it has gone, what was inserted is removed.
        """
        if not messages:
            return set()
        documents = [to_document(q, m) for m in messages]
        if owner is not None:
            return {id_of(documents[index]) for index in self._land_under_lease(q, documents, owner)}
        with self._calls(), _unstorable():
            if sum([len(m.body) + len(m.properties or b"") for m in messages]) <= DIRECTLY:
                there = self._database.insert(documents, self._insert)
            else:
                there = self._insert(documents)
            if (seen is None or time.monotonic() - seen > SEEN_FOR) and not self._is_open(q):
                self._messages.delete_many({QUEUE: q})
                raise QueueGone(q)
        return {messages[index].id for index in there}

    def _land_under_lease(self, q: str, documents: Sequence[dict[str, Any]], owner: str) -> set[int]:
        """Insert the documents if ``owner`` holds the lease at that moment; the indexes of those that existed.

        One command finds the lease and inserts: a holder that was stopped for longer than the lease must not insert
        positions that other gateways have passed. A transaction would do it too, but when a gateway dies or stops in
        the middle of one, it keeps the others from the queue for a minute.
        """
        there: set[int] = set()
        with self._calls(), _unstorable():
            for part in _parts(documents):
                now = self.clock.now()
                # Inserted after the others: if it exists they have been inserted, whatever has become of them since.
                done_key = f"{lease_key(q)}/{uuid4().hex}"
                done = {"_id": done_key, QUEUE: q, EXPIRES: DatetimeMS(now + DONE_KNOWN_FOR)}
                lost: AutoReconnect | None = None
                try:
                    self._messages.aggregate([
                        {"$match": {
                            "_id": lease_key(q), "owner": owner, HIDDEN_UNTIL: LEASE_HELD, "until": {"$gt": now},
                        }},
                        {"$project": {"landing": {"$literal": [*(documents[index] for index in part), done]}}},
                        {"$unwind": "$landing"},
                        {"$replaceRoot": {"newRoot": "$landing"}},
                        {"$merge": {"into": "messages", "whenMatched": "keepExisting", "whenNotMatched": "insert"}},
                    ])
                except AutoReconnect as error:  # it may have been done all the same
                    lost = error
                positions = self._positions([*(documents[index]["_id"] for index in part), done_key, lease_key(q)])
                if done_key not in positions:
                    if lost is not None:
                        raise lost
                    raise LeaseLost(q) if lease_key(q) in positions else QueueGone(q)
                there |= {
                    index for index in part
                    if positions.get(documents[index]["_id"], documents[index][POSITION]) != documents[index][POSITION]
                }
        return there

    def _insert(self, documents: Sequence[dict[str, Any]]) -> list[int]:
        """Insert by the driver; the indexes of documents that existed, except for those that a first try has inserted.

        Nobody else gives a message the same position.
        """
        try:
            self._messages.insert_many(documents, ordered=False)
            return []
        except BulkWriteError as error:
            there = _duplicates(error)
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
                _duplicates(error)
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


def _parts(documents: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    """Indexes of documents that go into one command each."""
    part: list[int] = []
    size = 0
    for index, document in enumerate(documents):
        length = len(document[BODY]) + len(document.get(PROPERTIES, b""))
        if part and size + length > LANDED_AT_ONCE:
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


def _duplicates(error: BulkWriteError) -> list[int]:
    """Which documents existed. Raises Unstorable, or the error again when it says something else too."""
    failures = error.details["writeErrors"]
    for failure in failures:
        if failure["code"] in NEVER_STORED:
            raise Unstorable(f"MongoDB: {str(failure.get('errmsg'))[:MAX_ERROR]}") from error
    if error.details["writeConcernErrors"] or any(failure["code"] != DUPLICATE_KEY for failure in failures):
        raise error
    return [failure["index"] for failure in failures]
