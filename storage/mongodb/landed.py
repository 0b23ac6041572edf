"""The landed store in MongoDB: claims, lists, deletions. The modules of its base classes have the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bson import DatetimeMS
from pymongo import ASCENDING, DESCENDING, ReplaceOne, UpdateOne

from storage.combining import Combiner
from storage.errors import QueueGone, StoreUnavailable
from storage.landed import NOTHING
from storage.model import Claim, Clock, Message, Ring, Stats
from storage.mongodb.database import Database
from storage.mongodb.documents import (
    CLAIM,
    CLAIM_TTL,
    CLAIMS,
    CLIENT,
    EXPIRES,
    FREED,
    HIDDEN_UNTIL,
    LANDED,
    LEASE_FREE,
    LEASE_HELD,
    POSITION,
    QUEUE,
    SEALED,
    keys,
    lease_key,
    opened_by,
    to_message,
)
from storage.mongodb.grouping import MongoDBGrouping

#: Queues of which is remembered what their lease told.
QUEUES_REMEMBERED = 10_000

#: Deletes of one message each that are sent one by one, side by side; beyond that, commands at a time that carry all
#: others, and most deletes of one of them (docs/performance.md has the figures).
ALONE, TOGETHER, MOST = 4, 2, 64

#: Timeout for counting the messages of all queues, in seconds.
VOLUME_SECONDS = 2.0


class MongoDBLanded(MongoDBGrouping):
    """The fifth part of the landed store: what reads, claims, changes and removes messages."""

    def __init__(self, database: Database, clock: Clock):
        super().__init__(database, clock)
        #: The last position that a queue's lease told; 0 if it was none.
        self._last_seen: dict[str, int] = {}
        self._pages: Combiner[tuple[Any, ...], Sequence[Message]] = Combiner(self._list, self.timeout)
        self._deletes: Combiner[dict[str, Any], int | None] = Combiner(
            self._delete_each, self.timeout, MOST, ALONE, TOGETHER
        )

    # -- claims -------------------------------------------------------------------------------------------------

    def find_free(self, q: str, limit: int, ring: Ring | None = None) -> tuple[list[Message], bool]:
        with self._calls():
            while True:
                now = self.clock.now()
                documents = self._database.find(
                    {
                        QUEUE: q, HIDDEN_UNTIL: {"$gte": LEASE_FREE, "$lte": now}, EXPIRES: {"$gt": DatetimeMS(now)},
                    } | opened_by(ring),
                    limit, sort={HIDDEN_UNTIL: DESCENDING, POSITION: ASCENDING}, hint="visibility",
                )
                if documents and documents[0][HIDDEN_UNTIL] > 0:
                    self._put_back(q, now)
                    continue
                if not (documents and documents[-1][HIDDEN_UNTIL] < 0) and len(documents) < limit:
                    raise QueueGone(q)
                leased, last = False, None
                # A lease that is given back while MongoDB reads the index is found twice: held, and then free.
                while documents and documents[-1][HIDDEN_UNTIL] < 0:
                    lease = documents.pop()
                    leased = leased or (lease[HIDDEN_UNTIL] == LEASE_HELD and lease["until"] > now)
                    last = lease["last"]
                if leased or last is None or self._saw_all(q, last):
                    return [to_message(d) for d in documents], leased

    def _saw_all(self, q: str, last: int) -> bool:
        """Has nobody landed free messages up to ``last``, as the lease says, since this process looked last?

        MongoDB may pause within a find. A lister that lands and gives back its lease meanwhile would go unseen: the
        messages are read before the lease. (Claimers wait until a lister's lease is over, see gateway.core.landing.)
        """
        if self._last_seen.get(q, 0) == last:
            return True
        if len(self._last_seen) >= QUEUES_REMEMBERED:
            self._last_seen.clear()
        self._last_seen[q] = last
        return False

    def claim(self, q: str, messages: Sequence[Message], claim: Claim) -> list[Message]:
        wanted = {"_id": {"$in": keys(q, (m.id for m in messages))}}
        with self._calls():
            taken = self._messages.update_many(
                wanted | {HIDDEN_UNTIL: 0},
                {
                    "$set": {HIDDEN_UNTIL: claim.expires, CLAIM: claim.id, CLAIM_TTL: claim.ttl},
                    "$inc": {CLAIMS: 1},
                    "$max": {EXPIRES: DatetimeMS(claim.keep_until)},
                },
            ).modified_count
            if taken != len(messages):
                return [to_message(d) for d in self._messages.find(wanted | {CLAIM: claim.id}).sort(POSITION)]
        for message in messages:
            message.hidden_until, message.claim, message.claim_ttl = claim.expires, claim.id, claim.ttl
            message.claims += 1
            message.expires = max(message.expires, claim.keep_until)
        return list(messages)

    def get_claim(self, q: str, claim_id: str) -> list[Message]:
        with self._calls():
            now = self.clock.now()
            found = self._messages.find(
                {CLAIM: claim_id, QUEUE: q, HIDDEN_UNTIL: {"$gt": now}, EXPIRES: {"$gt": DatetimeMS(now)}}
            )
            return [to_message(d) for d in found.sort(POSITION)]

    def renew_claim(self, q: str, claim: Claim) -> bool:
        with self._calls():
            result = self._messages.update_many(
                {CLAIM: claim.id, QUEUE: q, HIDDEN_UNTIL: {"$gt": self.clock.now()}},
                {
                    "$set": {HIDDEN_UNTIL: claim.expires, CLAIM_TTL: claim.ttl},
                    "$max": {EXPIRES: DatetimeMS(claim.keep_until)},
                },
            )
        return result.matched_count > 0

    def release_claim(self, q: str, claim_id: str) -> int:
        with self._calls():
            return self._messages.update_many({CLAIM: claim_id, QUEUE: q}, FREED).matched_count

    # -- reading ------------------------------------------------------------------------------------------------

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
        """The same page for all threads that want it at this moment."""
        q, after, limit, not_from, claimed, delayed, ring = calls[0]
        with self._calls(self._pages.left):
            now = self.clock.now()
            visible: list[dict[str, Any]] = [{HIDDEN_UNTIL: {"$lte": now}}]
            if claimed:
                visible.append({CLAIM: {"$exists": True}})
            if delayed:
                visible.append({CLAIM: None})
            query: dict[str, Any] = {
                QUEUE: q, POSITION: {"$gt": after}, EXPIRES: {"$gt": DatetimeMS(now)}, "$or": visible,
            }
            query |= opened_by(ring)
            if not_from is not None:
                query[CLIENT] = {"$ne": not_from}
            documents = self._database.find(query, limit, sort={POSITION: ASCENDING}, hint="position")
        return [[to_message(d) for d in documents]] * len(calls)

    def get_messages(self, q: str, ids: Sequence[str]) -> list[Message]:
        with self._calls():
            query = {"_id": {"$in": keys(q, ids)}, EXPIRES: {"$gt": DatetimeMS(self.clock.now())}, **LANDED}
            return [to_message(d) for d in self._database.find(query, len(ids))]

    def newest(self, q: str) -> Message | None:
        return self._edge(q, DESCENDING)

    def _edge(self, q: str, order: int) -> Message | None:
        with self._calls():
            found = self._messages.find_one(
                {QUEUE: q, EXPIRES: {"$gt": DatetimeMS(self.clock.now())}, **LANDED},
                sort=[(POSITION, order)], hint="position",
            )
        return to_message(found) if found else None

    def stats(self, q: str) -> Stats:
        with self._calls():
            return replace(self._counts({QUEUE: q}), oldest=self._edge(q, ASCENDING), newest=self.newest(q))

    def volume(self) -> Stats:
        # All documents are read: what takes longer than a health check may is not worth the server's time.
        with self._calls(VOLUME_SECONDS):
            return self._counts({})

    def _counts(self, query: Mapping[str, Any]) -> Stats:
        """Counts of the messages that a query finds and that have not expired."""
        now = self.clock.now()
        groups = self._messages.aggregate([
            {"$match": {**query, EXPIRES: {"$gt": DatetimeMS(now)}, **LANDED}},
            {"$group": {
                "_id": {"$switch": {
                    "branches": [
                        {"case": {"$lte": [f"${HIDDEN_UNTIL}", now]}, "then": "free"},
                        {"case": {"$eq": [{"$type": f"${CLAIM}"}, "string"]}, "then": "claimed"},
                    ],
                    "default": "delayed",
                }},
                "count": {"$sum": 1},
            }},
        ])
        return Stats(**{group["_id"]: group["count"] for group in groups})

    # -- changing and deleting ----------------------------------------------------------------------------------

    def mark(self, q: str, messages: Sequence[Message]) -> None:
        with self._calls():
            self._messages.bulk_write(
                [UpdateOne({"_id": f"{q}/{m.id}", **LANDED}, {"$set": {SEALED: m.key or True}}) for m in messages],
                ordered=False,
            )

    def delete_unclaimed(self, q: str, ids: Sequence[str], remembered: Mapping[str, int] = NOTHING) -> int:
        return self._delete(
            q, ids, remembered, lambda now: {**LANDED, "$or": [{HIDDEN_UNTIL: {"$lte": now}}, {CLAIM: None}]}
        )

    def delete_claimed(
        self, q: str, ids: Sequence[str], claims: Sequence[str], remembered: Mapping[str, int] = NOTHING
    ) -> int:
        return self._delete(
            q, ids, remembered, lambda now: {HIDDEN_UNTIL: {"$gt": now}, CLAIM: {"$in": list(claims)}}
        )

    def _delete(
        self, q: str, ids: Sequence[str], remembered: Mapping[str, int], condition: Callable[[int], dict[str, Any]]
    ) -> int:
        """Delete messages that meet a condition. Those that are remembered become tombstones, each in one step.

        The driver sends these updates again if their answer is lost, and the server counts them once.
        """
        with self._calls():
            met = condition(self.clock.now())
            buried = [
                ReplaceOne({"_id": f"{q}/{id_}", **met}, {QUEUE: q, EXPIRES: DatetimeMS(remembered[id_])})
                for id_ in dict.fromkeys(ids) if id_ in remembered
            ] if remembered else []
            count = self._messages.bulk_write(buried, ordered=False).matched_count if buried else 0
            rest = keys(q, [id_ for id_ in ids if id_ not in remembered] if buried else ids)
            if buried and not rest:
                return count
            if len(rest) != 1:
                return count + self._database.delete({"_id": {"$in": rest}, **met}, False)
            one = {"_id": rest[0], **met}
            deleted = self._deletes.do(one)
            return count + (self._database.delete(one, True) if deleted is None else deleted)

    def _delete_each(self, queries: Sequence[dict[str, Any]]) -> Sequence[int | None]:
        """How many messages each query has deleted; None if it has to be asked alone, by its own thread.

        MongoDB tells only how many all have deleted together. If that is less than all, those that are there were not
        deleted. Those that are not there were, if they are as many as MongoDB has told.
        """
        if len(queries) == 1:
            with self._calls(self._deletes.left):
                return [self._database.delete(queries[0], True)]
        unknown = [None] * len(queries)
        try:
            with self._calls(self._deletes.left):
                count = self._database.delete_each(queries)
                if count == len(queries):
                    return [1] * len(queries)
                ids = [query["_id"] for query in queries]
                found = self._database.find({"_id": {"$in": ids}}, len(ids), projection={"_id": True})
        except StoreUnavailable:  # others may have more time than the one that has waited longest
            return unknown
        there = {document["_id"] for document in found}
        return [int(id_ not in there) for id_ in ids] if len(ids) - len(there) == count else unknown

    def purge(self, q: str) -> None:
        with self._calls():
            self._messages.delete_many({QUEUE: q, "_id": {"$ne": lease_key(q)}})
