"""How a queue's messages leave MongoDB and come into another store: keys, exports, removals."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from bson import DatetimeMS
from pymongo import ASCENDING, DeleteOne
from pymongo.errors import DuplicateKeyError

from storage.landed import SEEN_FOR
from storage.model import MOST_EXPORTED, Clock, Message, content_size, within_bytes
from storage.mongodb.copying import MongoDBCopying
from storage.mongodb.database import Database
from storage.mongodb.documents import (
    CLAIM,
    CLAIMS,
    COPIES,
    EXPIRES,
    HIDDEN_UNTIL,
    LANDED,
    LEASE_FREE,
    NEVER,
    POSITION,
    QUEUE,
    id_of,
    keys,
    lease_key,
    to_message,
)

#: Removed keys that remove_late() looks after; older ones are left to the TTL index.
REMOVED_AT_MOST = 10_000


class MongoDBMoving(MongoDBCopying):
    """The third part of the landed store: what opens, closes and empties keys, and reads all that is under one."""

    def __init__(self, database: Database, clock: Clock):
        super().__init__(database, clock)
        #: When late messages under a removed key may be removed (monotonic seconds), and the key. Keys that do not fit
        #: keep late messages till they expire; nobody sees them.
        self._removed: deque[tuple[float, str]] = deque(maxlen=REMOVED_AT_MOST)

    # -- keys ---------------------------------------------------------------------------------------------------

    def open_queue(self, q: str, last: int = 0, copies: Sequence[str] = ()) -> None:
        # From the start, as it ends the search for free messages: where nothing comes after the place to search from,
        # WiredTiger looks before it, past all that was deleted in the last minutes.
        change: dict[str, Any] = {
            "$setOnInsert": {QUEUE: q, HIDDEN_UNTIL: LEASE_FREE, "until": 0, EXPIRES: NEVER}, "$max": {"last": last},
        }
        if copies:
            change["$addToSet"] = {COPIES: {"$each": [*copies]}}
        with self._calls():
            try:
                self._messages.update_one({"_id": lease_key(q)}, change, upsert=True)
            except DuplicateKeyError:  # two first posts at the same moment
                self._messages.update_one({"_id": lease_key(q)}, change)

    def close_queue(self, q: str) -> None:
        with self._calls():
            self._messages.delete_one({"_id": lease_key(q)})

    def remove_queue(self, q: str) -> None:
        with self._calls():
            self.close_queue(q)
            self.remove_closed(q)

    def remove_closed(self, q: str) -> None:
        """Remove everything that is kept under a closed key, now and once more after SEEN_FOR seconds."""
        with self._calls():
            self._messages.delete_many({QUEUE: q})
        self._removed.append((time.monotonic() + SEEN_FOR, q))

    def remove_late(self) -> None:
        """Remove what claimers have landed under removed keys of queues that they had seen just before.

        A key that is open again is left alone: its queue has come back from another store.
        """
        while self._removed and self._removed[0][0] < time.monotonic():
            q = self._removed[0][1]
            with self._calls():
                if not self._is_open(q):
                    self._messages.delete_many({QUEUE: q})
            self._removed.popleft()

    # -- moving to another store --------------------------------------------------------------------------------

    def export(self, q: str, after: int, limit: int, most_bytes: int = MOST_EXPORTED) -> list[Message]:
        query = {QUEUE: q, POSITION: {"$gt": after}, EXPIRES: {"$gt": DatetimeMS(self.clock.now())}}
        with self._calls(), self._messages.find(
            query, limit=limit, sort=[(POSITION, ASCENDING)], hint="position", batch_size=limit
        ) as found:
            return within_bytes((to_message(document) for document in found), most_bytes, content_size)

    def remove(self, q: str, messages: Sequence[Message]) -> set[str]:
        if not messages:
            return set()
        with self._calls():
            deleted = self._messages.bulk_write(
                [
                    DeleteOne({
                        "_id": f"{q}/{m.id}", HIDDEN_UNTIL: m.hidden_until, CLAIM: m.claim, CLAIMS: m.claims,
                        EXPIRES: DatetimeMS(m.expires),
                    })
                    for m in messages
                ],
                ordered=False,
            ).deleted_count
            if deleted == len(messages):
                return set()
            there = {"_id": {"$in": keys(q, (m.id for m in messages))}, **LANDED}
            return {id_of(document) for document in self._messages.find(there, projection=["_id"])}

    def list_tombstones(self, q: str, after: str, limit: int) -> list[tuple[str, int]]:
        # A 0 comes right after a slash. Two slashes are in the key of a lease's document that says what was landed.
        of_queue = {"$gt": f"{q}/{after}", "$lt": f"{q}0"}
        query = {
            "_id": of_queue, QUEUE: q, HIDDEN_UNTIL: {"$exists": False},
            EXPIRES: {"$gt": DatetimeMS(self.clock.now())}, "$nor": [{"_id": {"$gte": f"{q}//", "$lt": f"{q}/0"}}],
        }
        with self._calls():
            found = self._messages.find(
                query, projection=[EXPIRES], limit=limit, sort=[("_id", ASCENDING)], hint="_id_"
            )
            return [(id_of(document), int(document[EXPIRES])) for document in found]
