"""Keys that are bound to others in MongoDB: how copies are written, and which keys have messages that are free."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from bson import DatetimeMS
from pymongo import ASCENDING, DESCENDING

from storage.errors import QueueGone
from storage.model import TAG_BITS, Clock, Message
from storage.mongodb.database import Database
from storage.mongodb.documents import (
    COPIES,
    EXPIRES,
    HIDDEN_UNTIL,
    LANDED,
    POSITION,
    QUEUE,
    lease_key,
    to_document,
)
from storage.mongodb.landing import NEW, MongoDBLanding, Way

#: Maximum total size of bodies in bytes in a command that lands messages with their copies, of which there may be some
#: hundreds.
COPIED_AT_ONCE = 1024 * 1024

#: Distance between the positions of two messages with the same tag.
STEP = 1 << TAG_BITS


class MongoDBCopying(MongoDBLanding):
    """The second part of the landed store. The keys that are bound to another one are in the document of its lease."""

    def __init__(self, database: Database, clock: Clock):
        super().__init__(database, clock)
        #: Tells apart positions that are given without the lease of their key, as that of a claimer does.
        self._tag = 1 + secrets.randbelow(STEP - 1)

    def bind(self, q: str, copy: str) -> None:
        with self._calls():
            if not self._is_open(copy) or not self._messages.update_one(
                {"_id": lease_key(q)}, {"$addToSet": {COPIES: copy}}
            ).matched_count:
                raise QueueGone(q)

    def unbind(self, q: str, copy: str) -> None:
        with self._calls():
            self._messages.update_one({"_id": lease_key(q)}, {"$pull": {COPIES: copy}})

    def bound(self, q: str) -> list[str]:
        with self._calls():
            found = self._database.find({"_id": lease_key(q)}, 1, projection={COPIES: 1})
        return sorted(found[0].get(COPIES, ())) if found else []

    def land_copied(self, q: str, messages: Sequence[Message], owner: str) -> None:
        """See CopyingStore. The command that lands the messages under their lease lands the copies too."""
        def stages(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
            return _with_copies(q, documents, self._tag)

        self._land_under_lease(q, [to_document(q, m) for m in messages], owner, Way(stages, COPIED_AT_ONCE, NEW))

    # -- keys with messages -------------------------------------------------------------------------------------

    def ready(self, keys: Sequence[str]) -> list[str]:
        """See CopyingStore. The first message that is not hidden answers for its key, unless it has expired and waits
        to be removed. Then a second query looks at those after it.
        """
        if not keys:
            return []
        with self._calls():
            now = self.clock.now()
            # MongoDB goes from key to key in the index (DISTINCT_SCAN), however many messages are under each.
            first = self._messages.aggregate([
                {"$match": {QUEUE: {"$in": list(keys)}, **_shown(now)}},
                {"$sort": {QUEUE: ASCENDING, HIDDEN_UNTIL: DESCENDING, POSITION: ASCENDING}},
                {"$group": {"_id": f"${QUEUE}", EXPIRES: {"$first": f"${EXPIRES}"}}},
            ], hint="visibility")
            expires = {document["_id"]: int(document[EXPIRES]) for document in first}
            found = {key for key, until in expires.items() if until > now}
            if len(found) < len(expires):
                found |= self._with_living([key for key in expires if key not in found], now)
        return [key for key in keys if key in found]

    def edges(self, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See CopyingStore. Each of both queries takes one entry of an index for each key (DISTINCT_SCAN)."""
        if not keys:
            return {}
        among = {QUEUE: {"$in": list(keys)}}
        with self._calls():
            last = self._messages.aggregate([
                {"$match": {**among, **LANDED}},
                {"$sort": {QUEUE: DESCENDING, POSITION: DESCENDING}},
                {"$group": {"_id": f"${QUEUE}", "edge": {"$first": f"${POSITION}"}}},
            ], hint="position")
            positions = {document["_id"]: document["edge"] for document in last}
            if not positions:
                return {}
            latest = self._messages.aggregate([
                {"$match": {**among, HIDDEN_UNTIL: {"$gte": 0}}},
                {"$sort": {QUEUE: ASCENDING, HIDDEN_UNTIL: DESCENDING, POSITION: ASCENDING}},
                {"$group": {"_id": f"${QUEUE}", "edge": {"$first": f"${HIDDEN_UNTIL}"}}},
            ], hint="visibility")
            hidden = {document["_id"]: document["edge"] for document in latest}
        return {key: (position, hidden.get(key, 0)) for key, position in positions.items()}

    def _with_living(self, keys: Sequence[str], now: int) -> set[str]:
        """Those of the keys with a message that is free and has not expired at ``now`` (ms)."""
        living = self._messages.aggregate([
            {"$match": {QUEUE: {"$in": list(keys)}, **_shown(now)}},
            {"$group": {"_id": f"${QUEUE}"}},
            {"$lookup": {
                "from": "messages", "localField": "_id", "foreignField": QUEUE, "as": "living",
                "pipeline": [
                    {"$match": {**_shown(now), EXPIRES: {"$gt": DatetimeMS(now)}}},
                    {"$limit": 1},
                    {"$project": {"_id": 1}},
                ],
            }},
            {"$match": {"living": {"$ne": []}}},
            {"$project": {"_id": 1}},
        ], hint="visibility")
        return {document["_id"] for document in living}


def _shown(now: int) -> dict[str, Any]:
    """A condition on messages that are not hidden at ``now`` (ms), as in find_free."""
    return {HIDDEN_UNTIL: {"$gte": 0, "$lte": now}}


def _with_copies(q: str, documents: Sequence[Mapping[str, Any]], tag: int) -> list[dict[str, Any]]:
    """Stages from the lease of ``q`` to what is to be inserted: copies, then the documents themselves.

    So each message is sent once, however many copies there are, and nothing more is asked when nothing is bound.

    The lease of ``q`` puts its appends one after the other. So those of a key that is bound to ``q`` alone are in order
    without leases of their own: a post to a queue with many subscriptions would need all of them. Copies have the
    positions of their messages or, if there are later ones under their key, the next ones after these. They have a tag,
    so that they differ from those that the holder of the key's own lease gives at the same moment. It may have looked
    for the last position before that and land after it. Deliveries don't mind: they take what is free, and follow no
    markers.
    """
    itself = {"$eq": ["$key", {"$literal": q}]}
    last = {"$max": ["$last", {"$ifNull": [{"$first": f"$newest.{POSITION}"}, 0]}]}
    next_ = {"$add": [{"$subtract": [last, {"$mod": [last, STEP]}]}, STEP]}
    position = {"$max": [f"$landing.{POSITION}", {"$add": ["$next", {"$multiply": [STEP, "$number"]}]}]}
    # The _id of a message ends with a slash and its id.
    id_ = {"$substrBytes": ["$landing._id", len(q.encode()), -1]}
    copy = {"_id": {"$concat": ["$key", id_]}, QUEUE: "$key", POSITION: {"$add": [position, tag]}}
    return [
        {"$project": {
            "leases": {"$map": {"input": {"$ifNull": [f"${COPIES}", []]}, "in": {"$concat": ["$$this", "/"]}}},
        }},
        # A key that is closed has no lease, and gets no copy.
        {"$lookup": {"from": "messages", "localField": "leases", "foreignField": "_id", "as": "leases"}},
        {"$project": {"keys": {"$concatArrays": [
            {"$map": {"input": "$leases", "in": {"key": f"$$this.{QUEUE}", "last": "$$this.last"}}},
            [{"key": {"$literal": q}, "last": 0}],
        ]}}},
        {"$unwind": "$keys"},
        {"$replaceRoot": {"newRoot": "$keys"}},
        {"$lookup": {
            "from": "messages", "localField": "key", "foreignField": QUEUE, "as": "newest",
            "pipeline": [
                {"$match": LANDED}, {"$sort": {POSITION: DESCENDING}}, {"$limit": 1}, {"$project": {POSITION: 1}},
            ],
        }},
        {"$project": {"key": 1, "next": next_, "landing": {"$literal": documents}}},
        {"$unwind": {"path": "$landing", "includeArrayIndex": "number"}},
        {"$match": {"$or": [{"key": q}, {f"landing.{POSITION}": LANDED[POSITION]}]}},  # messages alone are copied
        {"$replaceRoot": {"newRoot": {"$cond": [itself, "$landing", {"$mergeObjects": ["$landing", copy]}]}}},
    ]
