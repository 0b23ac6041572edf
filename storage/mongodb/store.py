"""Side-store in MongoDB: a replica set, majority writes, journaled.

Collection ``messages`` holds three kinds of documents, told apart by ``h``:

* landed messages, ``h`` >= 0: hidden until (ms), 0 = free;
* a queue's landing lease, ``h`` -1 while held and -2 while not. It lies here so that one query shows a claimer both
  the free messages and whether somebody is landing right now. It is there as long as the queue: see `land`;
* tombstones, without ``h``: ids whose landing is to be a no-op.

``_id`` is ``<queue key>/<message id>``: a message id is unique in its queue only, native AMQP producers choose theirs.

Collection ``queues`` holds the queues' documents, ``locks`` what gateways have locked.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

from bson import DatetimeMS
from bson.errors import BSONError
from oslo_config import cfg
from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient, ReturnDocument, UpdateOne, WriteConcern
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from storage.base import (
    MOST_METADATA,
    SEEN_FOR,
    Claim,
    Message,
    Queue,
    Ring,
    SideStore,
    Stats,
    message_key,
    new_incarnation,
    split_name,
    within_bytes,
)
from storage.combining import Combiner
from storage.errors import LeaseLost, QueueGone, StoreUnavailable, Unstorable
from storage.mongodb.direct import DUPLICATE_KEY, Direct
from storage.mongodb.reach import MAX_ERROR, Call, Reach
from storage.mongodb.uri import check_uri, complaint, describe
from storage.mongodb.wire import DATES

T = TypeVar("T")

#: Without ``j`` a majority write waits for the journal's 100 ms tick (MongoDB manual, "Write Concern").
DURABLE = WriteConcern(w="majority", j=True)

#: Bytes of bodies that are landed by a direct command at the most; the driver makes several commands of more.
DIRECTLY = 16 * 1024 * 1024

#: Seconds for counting the messages of all queues.
VOLUME_SECONDS = 2.0

LEASE_HELD = -1
LEASE_FREE = -2

#: Milliseconds for which it is recorded that messages have landed under a lease, in case the answer is lost.
DONE_KNOWN_FOR = 60_000

#: Bytes of bodies in one command that lands under the lease: it is a document of at most 16 MiB itself.
LANDED_AT_ONCE = 15 * 1024 * 1024

#: Deleted queues that maintain() looks after at the most.
DELETED_AT_MOST = 10_000

#: Milliseconds for which it is remembered when a lock was given up.
LOCKS_KNOWN_FOR = 60_000

#: Expiry of documents that must outlive every query's ``e > now`` and the TTL index: the year 9999.
NEVER = DatetimeMS(253_370_764_800_000)

#: Seconds after which the offset to the server's clock is measured again.
CLOCK_REFRESH = 30.0

#: Seconds that the two clocks may drift apart in one, by far.
CLOCK_DRIFT = 0.001

#: What the driver raises for a document that MongoDB can't hold (DocumentTooLarge is a BSONError), before it sends it.
UNSTORABLE = (BSONError, OverflowError, UnicodeEncodeError)

#: Error codes by which the server says the same: BadValue, InvalidBSON, BSONObjectTooLarge, KeyTooLong, and two of an
#: update that makes a document too large (MongoDB's error_codes.yml).
NEVER_STORED = frozenset({2, 22, 10334, 17280, 17419, 17420})

INDEXES = (
    # A claim wants expired holds first (there are few), then the free ones in order, then the lease.
    IndexModel([("q", ASCENDING), ("h", DESCENDING), ("s", ASCENDING)], name="visibility"),
    IndexModel([("q", ASCENDING), ("s", ASCENDING)], name="position", partialFilterExpression={"s": {"$gt": 0}}),
    IndexModel([("c", ASCENDING)], name="claim", partialFilterExpression={"c": {"$exists": True}}),
    IndexModel([("e", ASCENDING)], name="expiry", expireAfterSeconds=0),
)


class MongoDBStore(SideStore):
    """``mongodb://host[,host...]/database?replicaSet=name`` or ``mongodb+srv://``."""

    OPTS = (
        cfg.FloatOpt(
            "timeout", default=5.0, min=0.1, max=60.0,
            help="Seconds that one call to the side-store may take before the request is answered 503.",
        ),
        cfg.IntOpt(
            "max_pool_size", default=32, min=1, max=1000,
            help="MongoDB: connections that one gateway process keeps at the most.",
        ),
    )

    def __init__(self, uri: str, options: Any):
        self.timeout = options.timeout
        check_uri(uri)
        try:
            self._client: MongoClient[dict[str, Any]] = MongoClient(
                uri,
                connect=False,
                appname="marconi",
                timeoutMS=int(self.timeout * 1000),
                maxPoolSize=options.max_pool_size,
            )
            self._database = self._client.get_default_database(
                "marconi",
                write_concern=DURABLE,
                codec_options=DATES,
            )
        except (PyMongoError, ValueError, OSError) as error:
            raise complaint(error) from None
        self._described = describe(uri, self._database.name)
        self._reach = Reach(self.timeout, lambda: self._client.admin.command("ping"), self._prepare)
        self._direct = Direct(self._client, uri, self._database.name, DURABLE, self.timeout, lambda: self._reach.left)
        self._queues = self._database["queues"]
        self._bridged = self._database["bridged"]
        self._messages = self._database["messages"]
        self._locks = self._database["locks"]
        self._prepare_lock = threading.Lock()
        self._clock_offset = time.time() - time.monotonic()
        self._clock_read = float("-inf")
        self._clock_error = 0.0
        #: When what others have landed in a deleted queue may be removed (monotonic seconds), and its key. What falls
        #: out stays till it expires; nobody sees it.
        self._deleted: deque[tuple[float, str]] = deque(maxlen=DELETED_AT_MOST)
        self._pages: Combiner[tuple[Any, ...], Sequence[Message]] = Combiner(self._list, self.timeout)

    def describe(self) -> str:
        return self._described

    # -- life ---------------------------------------------------------------------------------------------------

    def _calls(self, most: float | None = None) -> Call:
        """Make indexes on the first call that reaches the server; translate the driver's exceptions.

        Inside of it now() is the server's clock; before the first call it is only this machine's. All commands inside,
        and all calls, have one time limit: the timeout, or ``most`` seconds if that is less.
        """
        return self._reach.call(most)

    def _directly(self, direct: Callable[[], T | None], driver: Callable[[], T]) -> T:
        """What a direct command comes to; when that is None what the driver does, in what is left of the time."""
        result = direct()
        return driver() if result is None else result

    def _prepare(self) -> None:
        if not self._prepare_lock.acquire(timeout=max(0.0, self._reach.left)):
            raise StoreUnavailable(self._reach.down or "MongoDB: the first call takes too long")
        try:
            if self._reach.prepared:
                return
            if self._reach.down is not None:  # whoever had the lock has waited for it
                raise StoreUnavailable(self._reach.down)
            self._read_clock()
            self._messages.create_indexes(list(INDEXES))
            self._queues.create_index([("p", ASCENDING), ("n", ASCENDING)], name="name", unique=True)
            self._locks.create_index([("e", ASCENDING)], name="expiry", expireAfterSeconds=0)
        finally:
            self._prepare_lock.release()

    def _read_clock(self) -> None:
        """Measure the offset of the primary's clock: the clock of all gateways, whatever theirs say."""
        sent = time.monotonic()
        answer = self._database.command("hello", codec_options=DATES)
        received = time.monotonic()
        # A slow answer says little of the time. It counts only once what is known may have drifted as far.
        error = (received - sent) / 2
        if error <= self._clock_error + CLOCK_DRIFT * (received - self._clock_read):
            self._clock_offset = int(answer["localTime"]) / 1000 - (sent + received) / 2
            self._clock_read, self._clock_error = received, error

    def ping(self) -> None:
        with self._calls():
            self._read_clock()
            # A replica set without a primary answers reads and pings; what counts here is that it takes writes.
            self._messages.update_one({"_id": "ping"}, {"$set": {"e": NEVER}}, upsert=True)

    def close(self) -> None:
        self._direct.close()
        self._client.close()

    def now(self) -> int:
        return int((time.monotonic() + self._clock_offset) * 1000)

    def maintain(self) -> int:
        with self._calls():
            if time.monotonic() - self._clock_read > CLOCK_REFRESH:
                self._read_clock()
            while self._deleted and self._deleted[0][0] < time.monotonic():
                self._messages.delete_many({"q": self._deleted[0][1]})
                self._deleted.popleft()
        return 0  # the TTL index removes what has expired

    def connections(self) -> int:
        servers = self._client._topology._servers.values() if self._client._topology is not None else ()
        return self._direct.open + sum(server.pool.active_sockets + len(server.pool.conns) for server in servers)

    # -- queues -------------------------------------------------------------------------------------------------

    def lock(self, name: str, owner: str, seconds: float) -> int | None:
        with self._calls():
            now = self.now()
            until = now + int(seconds * 1000)
            try:
                before = self._locks.find_one_and_update(
                    {"_id": name, "until": {"$lte": now}},
                    {"$set": {"owner": owner, "until": until, "e": DatetimeMS(until + LOCKS_KNOWN_FOR)}},
                    upsert=True,
                )
            except DuplicateKeyError:  # the document is there, but held: the upsert tried to make a second one
                return None
        return before["until"] if before is not None else 0

    def unlock(self, name: str, owner: str, after: float = 0.0) -> None:
        with self._calls():
            until = self.now() + int(after * 1000)
            self._locks.update_one(
                {"_id": name, "owner": owner},
                {"$set": {"until": until, "e": DatetimeMS(until + LOCKS_KNOWN_FOR)}, "$unset": {"owner": 1}},
            )

    def create_queue(self, q: str, metadata: bytes | None) -> bool:
        project, name = split_name(q)
        with self._calls():
            now = self.now()
            # Versions begin with the time, so that none of a deleted queue comes again.
            document = {
                "_id": q, "p": project, "n": name, "m": metadata or b"{}", "v": now, "i": new_incarnation(now),
            }
            try:
                self._queues.insert_one(document)
                made = True
            except DuplicateKeyError:
                made = False
                if metadata is not None:
                    self._queues.update_one({"_id": q}, {"$set": {"m": metadata}, "$inc": {"v": 1}})
            found = document if made else self._queues.find_one({"_id": q})
            if found is not None:
                # From the start, as it ends the search for free messages: where nothing comes behind the place to
                # search from, WiredTiger looks in front of it, past all that was deleted in the last minutes.
                key = _queue(found).key
                lease = {"q": key, "h": LEASE_FREE, "until": 0, "last": 0, "e": NEVER}
                with suppress(DuplicateKeyError):  # two first posts at the same moment
                    self._messages.update_one({"_id": _lease_id(key)}, {"$setOnInsert": lease}, upsert=True)
        return made

    def get_queue(self, q: str) -> Queue | None:
        with self._calls():
            found = self._queues.find_one({"_id": q})
        return _queue(found) if found else None

    def replace_metadata(self, q: str, metadata: bytes, version: int) -> bool:
        with self._calls():
            result = self._queues.update_one({"_id": q, "v": version}, {"$set": {"m": metadata}, "$inc": {"v": 1}})
        return result.matched_count == 1

    def delete_queue(self, q: str) -> None:
        with self._calls():
            found = self._queues.find_one({"_id": q})
            if found is None:
                return
            key = _queue(found).key
            # The lease first: from then on nothing lands any more.
            self._messages.delete_one({"_id": _lease_id(key)})
            self._queues.delete_one({"_id": q, "i": found.get("i")})
            self._messages.delete_many({"q": key})
        # A claimer may have seen the queue just before, and land a moment later.
        self._deleted.append((time.monotonic() + SEEN_FOR, key))

    def list_queues(
        self, project: str, after: str, limit: int, part: str = "", most_bytes: int = MOST_METADATA
    ) -> list[Queue]:
        with self._calls(), self._queues.find(
            _named(project, after, part), limit=limit, sort=[("n", ASCENDING)], batch_size=limit
        ) as found:
            return within_bytes((_queue(document) for document in found), most_bytes)

    def list_names(self, project: str, after: str, limit: int, part: str = "") -> list[str]:
        with self._calls():
            found = self._queues.find(
                _named(project, after, part), {"_id": 0, "n": 1}, limit=limit, sort=[("n", ASCENDING)]
            )
            return [document["n"] for document in found]

    def count_queues(self, project: str, part: str = "") -> int:
        with self._calls():
            return self._queues.count_documents(_named(project, "", part))

    def queue_keys(self, after: str, limit: int) -> list[str]:
        with self._calls():
            found = self._queues.find({"_id": {"$gt": after}}, {"_id": 1}, limit=limit, sort=[("_id", ASCENDING)])
            return [document["_id"] for document in found]

    # -- queues that read from an exchange of others -------------------------------------------------------------

    def mark_bridged(self, q: str) -> str:
        mark = uuid4().hex
        with self._calls():
            try:
                self._bridged.update_one({"_id": q}, {"$set": {"mark": mark}}, upsert=True)
            except DuplicateKeyError:  # two at the same moment
                self._bridged.update_one({"_id": q}, {"$set": {"mark": mark}})
        return mark

    def list_bridged(self, after: str, limit: int) -> list[tuple[str, str]]:
        with self._calls():
            found = self._bridged.find({"_id": {"$gt": after}}).sort("_id", ASCENDING).limit(limit)
            return [(one["_id"], one["mark"]) for one in found]

    def unmark_bridged(self, q: str, mark: str) -> None:
        with self._calls():
            self._bridged.delete_one({"_id": q, "mark": mark})

    # -- landing ------------------------------------------------------------------------------------------------

    def acquire_lease(self, q: str, owner: str, seconds: float) -> int | None:
        with self._calls():
            now = self.now()
            lease = self._messages.find_one_and_update(
                {"_id": _lease_id(q), "$or": [{"h": LEASE_FREE}, {"until": {"$lte": now}}]},
                {"$set": {"h": LEASE_HELD, "owner": owner, "until": now + int(seconds * 1000)}},
                return_document=ReturnDocument.AFTER,
            )
            if lease is None:
                if not self._is_there(q):
                    raise QueueGone(q)
                return None
            # Claimers land without the lease, and their clock may run a little ahead of ours.
            landed = self._messages.find_one({"q": q, **LANDED}, {"s": 1}, sort=[("s", DESCENDING)], hint="position")
        return max(lease["last"], landed["s"] if landed else 0)

    def renew_lease(self, q: str, owner: str, seconds: float) -> bool:
        with self._calls():
            now = self.now()
            return self._messages.update_one(
                {"_id": _lease_id(q), "h": LEASE_HELD, "owner": owner, "until": {"$gt": now}},
                {"$set": {"until": now + int(seconds * 1000)}},
            ).matched_count == 1

    def release_lease(self, q: str, owner: str, last: int) -> None:
        with self._calls():
            self._messages.update_one(
                {"_id": _lease_id(q), "owner": owner},
                {"$set": {"h": LEASE_FREE, "until": 0}, "$max": {"last": last}},
            )

    def land(
        self, q: str, messages: Sequence[Message], owner: str | None = None, seen: float | None = None
    ) -> set[str]:
        """See SideStore. Without an owner one insert does it, as claims can afford no more. If the queue was not seen
        just before, it is looked for afterwards: when it has gone, what was inserted goes too.
        """
        if not messages:
            return set()
        documents = [_document(q, m) for m in messages]
        if owner is not None:
            return {_id_of(documents[index]) for index in self._land_under_lease(q, documents, owner)}
        with self._calls(), _unstorable():
            if sum([len(m.body) + len(m.properties or b"") for m in messages]) <= DIRECTLY:
                there = self._directly(
                    lambda: self._direct.insert("messages", documents), lambda: self._insert(documents)
                )
            else:
                there = self._insert(documents)
            if (seen is None or time.monotonic() - seen > SEEN_FOR) and not self._is_there(q):
                self._messages.delete_many({"q": q})
                raise QueueGone(q)
        return {messages[index].id for index in there}

    def _is_there(self, q: str) -> bool:
        return bool(self._find({"_id": _lease_id(q)}, 1, projection={"_id": 1}))

    def _land_under_lease(self, q: str, documents: Sequence[dict[str, Any]], owner: str) -> set[int]:
        """Insert the documents if ``owner`` holds the lease at that moment; which were there already.

        One command finds the lease and inserts: a holder that was stopped for longer than the lease must not insert
        positions that others have gone past. A transaction would do it too, but one of a gateway that dies or stops in
        the middle of it keeps others from the queue for a minute.
        """
        there: set[int] = set()
        with self._calls(), _unstorable():
            for part in _parts(documents):
                now = self.now()
                # Inserted behind the others, so where it is they have been inserted, whatever has become of them since.
                done = {"_id": f"{_lease_id(q)}/{uuid4().hex}", "q": q, "e": DatetimeMS(now + DONE_KNOWN_FOR)}
                lost: AutoReconnect | None = None
                try:
                    self._messages.aggregate([
                        {"$match": {"_id": _lease_id(q), "owner": owner, "h": LEASE_HELD, "until": {"$gt": now}}},
                        {"$project": {"landing": {"$literal": [*(documents[index] for index in part), done]}}},
                        {"$unwind": "$landing"},
                        {"$replaceRoot": {"newRoot": "$landing"}},
                        {"$merge": {"into": "messages", "whenMatched": "keepExisting", "whenNotMatched": "insert"}},
                    ])
                except AutoReconnect as error:  # it may have been done all the same
                    lost = error
                keys = [*(documents[index]["_id"] for index in part), done["_id"], _lease_id(q)]
                positions = {
                    d["_id"]: d.get("s") for d in self._messages.find({"_id": {"$in": keys}}, projection=["s"])
                }
                if done["_id"] not in positions:
                    if lost is not None:
                        raise lost
                    raise LeaseLost(q) if _lease_id(q) in positions else QueueGone(q)
                there |= {
                    index for index in part
                    if positions.get(documents[index]["_id"], documents[index]["s"]) != documents[index]["s"]
                }
        return there

    def _insert(self, documents: Sequence[dict[str, Any]]) -> list[int]:
        """Insert by the driver: which were there already, but for those that a first try has inserted.

        Nobody else gives a message the same position.
        """
        try:
            self._messages.insert_many(documents, ordered=False)
            return []
        except BulkWriteError as error:
            there = _duplicates(error)
        keys = [documents[index]["_id"] for index in there]
        positions = {d["_id"]: d.get("s") for d in self._messages.find({"_id": {"$in": keys}}, projection=["s"])}
        return [index for index in there if positions.get(documents[index]["_id"]) != documents[index]["s"]]

    def free(self, q: str, limit: int, ring: Ring | None = None) -> tuple[list[Message], bool]:
        with self._calls():
            while True:
                now = self.now()
                documents = self._find(
                    {"q": q, "h": {"$gte": LEASE_FREE, "$lte": now}, "e": {"$gt": DatetimeMS(now)}} | _opened_by(ring),
                    limit, sort={"h": DESCENDING, "s": ASCENDING}, hint="visibility",
                )
                if not documents or documents[0]["h"] <= 0:
                    break
                self._messages.update_many(
                    {"q": q, "h": {"$gt": 0, "$lte": now}}, {"$set": {"h": 0}, "$unset": {"c": 1, "t": 1}}
                )
        leased = False
        if documents and documents[-1]["h"] < 0:
            lease = documents.pop()
            leased = lease["h"] == LEASE_HELD and lease["until"] > now
        elif len(documents) < limit:
            raise QueueGone(q)
        return [_message(d) for d in documents], leased

    def claim(self, q: str, messages: Sequence[Message], claim: Claim) -> list[Message]:
        wanted = {"_id": {"$in": _keys(q, (m.id for m in messages))}}
        with self._calls():
            taken = self._messages.update_many(
                wanted | {"h": 0},
                {
                    "$set": {"h": claim.expires, "c": claim.id, "t": claim.ttl},
                    "$inc": {"n": 1},
                    "$max": {"e": DatetimeMS(claim.keep_until)},
                },
            ).modified_count
            if taken != len(messages):
                return [_message(d) for d in self._messages.find(wanted | {"c": claim.id}).sort("s")]
        for message in messages:
            message.hidden_until, message.claim, message.claim_ttl = claim.expires, claim.id, claim.ttl
            message.claims += 1
            message.expires = max(message.expires, claim.keep_until)
        return list(messages)

    # -- reading and deleting -----------------------------------------------------------------------------------

    def list_messages(
        self,
        q: str,
        after: int,
        limit: int,
        *,
        not_from: str | None = None,
        claimed: bool = False,
        delayed: bool = False,
        ring: Ring | None = None,
    ) -> Sequence[Message]:
        call = (q, after, limit, not_from, claimed, delayed, ring)
        return self._pages.do(call, key=call)

    def _list(self, calls: Sequence[tuple[Any, ...]]) -> list[Sequence[Message]]:
        """The same page for all who want it at this moment."""
        q, after, limit, not_from, claimed, delayed, ring = calls[0]
        with self._calls(self._pages.left):
            now = self.now()
            visible: list[dict[str, Any]] = [{"h": {"$lte": now}}]
            if claimed:
                visible.append({"c": {"$exists": True}})
            if delayed:
                visible.append({"c": None})
            query: dict[str, Any] = {"q": q, "s": {"$gt": after}, "e": {"$gt": DatetimeMS(now)}, "$or": visible}
            query |= _opened_by(ring)
            if not_from is not None:
                query["u"] = {"$ne": not_from}
            documents = self._find(query, limit, sort={"s": ASCENDING}, hint="position")
        return [[_message(d) for d in documents]] * len(calls)

    def get_messages(self, q: str, ids: Sequence[str]) -> list[Message]:
        with self._calls():
            query = {"_id": {"$in": _keys(q, ids)}, "e": {"$gt": DatetimeMS(self.now())}, **LANDED}
            return [_message(d) for d in self._find(query, len(ids))]

    def known(self, q: str, ids: Sequence[str]) -> set[str]:
        with self._calls():
            # With the lease, which says whether the queue is still there.
            found = self._find({"_id": {"$in": _keys(q, ["", *ids])}}, len(ids) + 1, projection={"_id": 1})
        known = {_id_of(d) for d in found}
        if "" not in known:
            raise QueueGone(q)
        known.discard("")
        return known

    def mark(self, q: str, messages: Sequence[Message]) -> None:
        with self._calls():
            self._messages.bulk_write(
                [UpdateOne({"_id": f"{q}/{m.id}", **LANDED}, {"$set": {"x": m.key or True}}) for m in messages],
                ordered=False,
            )

    def newest(self, q: str) -> Message | None:
        return self._edge(q, DESCENDING)

    def _edge(self, q: str, order: int) -> Message | None:
        with self._calls():
            found = self._messages.find_one(
                {"q": q, "e": {"$gt": DatetimeMS(self.now())}, **LANDED}, sort=[("s", order)], hint="position"
            )
        return _message(found) if found else None

    def delete_unclaimed(self, q: str, ids: Sequence[str]) -> int:
        return self._delete(_keys(q, ids), lambda now: {**LANDED, "$or": [{"h": {"$lte": now}}, {"c": None}]})

    def delete_claimed(self, q: str, ids: Sequence[str], claims: Sequence[str]) -> int:
        return self._delete(_keys(q, ids), lambda now: {"h": {"$gt": now}, "c": {"$in": list(claims)}})

    def _delete(self, keys: list[str], condition: Callable[[int], dict[str, Any]]) -> int:
        with self._calls():
            one = len(keys) == 1
            query = {"_id": keys[0] if one else {"$in": keys}, **condition(self.now())}
            # Unlike delete_many, the driver repeats delete_one by itself after a failover.
            return self._directly(
                lambda: self._direct.delete("messages", query, 1 if one else 0),
                lambda: (self._messages.delete_one if one else self._messages.delete_many)(query).deleted_count,
            )

    def _find(self, query: Mapping[str, Any], most: int, **options: Any) -> list[dict[str, Any]]:
        """Messages' documents, ``most`` of them at the most. ``options``: sort, hint and projection of the command."""
        return self._directly(
            lambda: self._direct.find("messages", query, most, **options),
            lambda: list(self._messages.find(query, limit=most, **options)),
        )

    def tombstone(self, q: str, expires: Mapping[str, int]) -> set[str]:
        if not expires:
            return set()
        documents = [{"_id": f"{q}/{id_}", "q": q, "e": DatetimeMS(until)} for id_, until in expires.items()]
        with self._calls():
            try:
                self._messages.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                _duplicates(error)
            landed = self._messages.find({"_id": {"$in": _keys(q, expires)}, **LANDED}, projection=["_id"])
            return {_id_of(d) for d in landed}

    def purge(self, q: str) -> None:
        with self._calls():
            self._messages.delete_many({"q": q, "_id": {"$ne": _lease_id(q)}})

    def stats(self, q: str) -> Stats:
        with self._calls():
            return replace(self._counts({"q": q}), oldest=self._edge(q, ASCENDING), newest=self.newest(q))

    def volume(self) -> Stats:
        # All documents are read: what takes longer than a health check may is not worth the server's time.
        with self._calls(VOLUME_SECONDS):
            return self._counts({})

    def _counts(self, query: Mapping[str, Any]) -> Stats:
        """Counts of the living messages that a query finds."""
        now = self.now()
        groups = self._messages.aggregate([
            {"$match": {**query, "e": {"$gt": DatetimeMS(now)}, **LANDED}},
            {"$group": {
                "_id": {"$switch": {
                    "branches": [
                        {"case": {"$lte": ["$h", now]}, "then": "free"},
                        {"case": {"$eq": [{"$type": "$c"}, "string"]}, "then": "claimed"},
                    ],
                    "default": "delayed",
                }},
                "count": {"$sum": 1},
            }},
        ])
        return Stats(**{group["_id"]: group["count"] for group in groups})

    # -- claims -------------------------------------------------------------------------------------------------

    def get_claim(self, q: str, claim_id: str) -> list[Message]:
        with self._calls():
            now = self.now()
            found = self._messages.find({"c": claim_id, "q": q, "h": {"$gt": now}, "e": {"$gt": DatetimeMS(now)}})
            return [_message(d) for d in found.sort("s")]

    def renew_claim(self, q: str, claim: Claim) -> bool:
        with self._calls():
            result = self._messages.update_many(
                {"c": claim.id, "q": q, "h": {"$gt": self.now()}},
                {
                    "$set": {"h": claim.expires, "t": claim.ttl},
                    "$max": {"e": DatetimeMS(claim.keep_until)},
                },
            )
        return result.matched_count > 0

    def release_claim(self, q: str, claim_id: str) -> int:
        with self._calls():
            return self._messages.update_many(
                {"c": claim_id, "q": q}, {"$set": {"h": 0}, "$unset": {"c": 1, "t": 1}}
            ).matched_count


def _parts(documents: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    """Indexes of documents that go into one command each."""
    part: list[int] = []
    size = 0
    for index, document in enumerate(documents):
        length = len(document["b"]) + len(document.get("r", b""))
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


#: What tells a landed message from a lease and a tombstone.
LANDED: Mapping[str, Any] = {"s": {"$gt": 0}}


def _keys(q: str, ids: Any) -> list[str]:
    return [f"{q}/{id_}" for id_ in ids]


def _id_of(document: Mapping[str, Any]) -> str:
    key: str = document["_id"]
    return key.rpartition("/")[2]


def _lease_id(q: str) -> str:
    return f"{q}/"  # no message id is empty


def _duplicates(error: BulkWriteError) -> list[int]:
    """Which documents were there already. Raises Unstorable, or the error again when that is not all that it says."""
    failures = error.details["writeErrors"]
    for failure in failures:
        if failure["code"] in NEVER_STORED:
            raise Unstorable(f"MongoDB: {str(failure.get('errmsg'))[:MAX_ERROR]}") from error
    if error.details["writeConcernErrors"] or any(failure["code"] != DUPLICATE_KEY for failure in failures):
        raise error
    return [failure["index"] for failure in failures]


def _named(project: str, after: str, part: str) -> dict[str, Any]:
    """A query for a project's queues behind the name ``after`` with ``part`` in their name; the index answers it."""
    name: dict[str, Any] = {"$gt": after}
    if part:
        name["$regex"] = re.escape(part)
    return {"p": project, "n": name}


def _queue(document: Mapping[str, Any]) -> Queue:
    return Queue(
        document["n"], bytes(document["m"]), document["v"], message_key(document["_id"], document.get("i", ""))
    )


def _opened_by(ring: Ring | None) -> dict[str, Any]:
    """A condition: what a ring may open. Not so is what bears the id of another key, or the ring's own."""
    if ring is None:
        return {}
    others = f"(?!{'|'.join(ring.keys)})" if ring.keys else ""
    return {"x": {"$not": {"$regex": rf"^{others}k|\?{ring.id}"}}}


def _document(q: str, m: Message) -> dict[str, Any]:
    """Rare fields are left out when they say nothing; the names are short because every document repeats them."""
    document: dict[str, Any] = {
        "_id": f"{q}/{m.id}", "q": q, "s": m.seq, "h": m.hidden_until, "n": m.claims, "p": m.posted,
        "e": DatetimeMS(m.expires), "u": m.client, "b": m.body,
    }
    if m.claim is not None:
        document["c"] = m.claim
        document["t"] = m.claim_ttl
    if m.encrypted:
        document["x"] = m.key or True
    if m.properties is not None:
        document["r"] = m.properties
    return document


def _message(d: Mapping[str, Any]) -> Message:
    x = d.get("x", False)
    return Message(
        _id_of(d), d["p"], int(d["e"]), d["b"], d["u"], bool(x),
        d["s"], d["h"], d.get("c"), d.get("t", 0), d["n"], d.get("r"), x if isinstance(x, str) else "",
    )
