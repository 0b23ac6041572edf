"""The catalogue in MongoDB: queues, and the pools that they are in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from storage.model import (
    DEFAULT_POOL,
    MOST_METADATA,
    Clock,
    Queue,
    message_key,
    metadata_size,
    new_incarnation,
    split_name,
    within_bytes,
)
from storage.mongodb.database import Database
from storage.mongodb.documents import MOVE, POOL
from storage.mongodb.moving import MongoDBMoving
from storage.mongodb.records import MongoDBRecords

#: Fields of a queue's document; ``_id`` is ``<project>/<queue>``. POOL is not there in the default pool, and NOTIFIES
#: only in queues that notify.
PROJECT = "p"
NAME = "n"
METADATA = "m"
VERSION = "v"
INCARNATION = "i"
NOTIFIES = "nt"


class MongoDBCatalogue(MongoDBRecords):
    """The second half of the catalogue: the collection ``queues``."""

    def __init__(self, database: Database, landed: MongoDBMoving, clock: Clock):
        """``landed``: what has landed in the queues. ``clock``: the side-store itself."""
        super().__init__(database, clock)
        self._queues = database.queues
        self._landed = landed

    # -- queues -------------------------------------------------------------------------------------------------

    def create_queue(
        self, q: str, metadata: bytes | None, pool: str = DEFAULT_POOL, copies: Sequence[str] = ()
    ) -> bool:
        project, name = split_name(q)
        with self._calls():
            now = self._clock.now()
            # Versions begin with the time, so that no version of a deleted queue is used again.
            document = {
                "_id": q, PROJECT: project, NAME: name, METADATA: metadata or b"{}", VERSION: now,
                INCARNATION: new_incarnation(now),
            }
            if pool != DEFAULT_POOL:
                document[POOL] = pool
            if copies:
                document[NOTIFIES] = True
            try:
                self._queues.insert_one(document)
                is_new = True
            except DuplicateKeyError:
                is_new = False
                if metadata is not None:
                    self._queues.update_one({"_id": q}, {"$set": {METADATA: metadata}, "$inc": {VERSION: 1}})
            found = document if is_new else self._queues.find_one({"_id": q})
            if found is not None and (is_new or (POOL not in found and MOVE not in found)):
                self._landed.open_queue(_queue(found).key, copies=copies)
        return is_new

    def get_queue(self, q: str) -> Queue | None:
        with self._calls():
            found = self._queues.find_one({"_id": q})
        return _queue(found) if found else None

    def replace_metadata(self, q: str, metadata: bytes, version: int) -> bool:
        with self._calls():
            result = self._queues.update_one(
                {"_id": q, VERSION: version}, {"$set": {METADATA: metadata}, "$inc": {VERSION: 1}}
            )
        return result.matched_count == 1

    def set_notifies(self, q: str, notifies: bool = True) -> bool:
        change = {"$set": {NOTIFIES: True}} if notifies else {"$unset": {NOTIFIES: ""}}
        with self._calls():
            return self._queues.update_one({"_id": q}, change).matched_count == 1

    def delete_queue(self, q: str) -> None:
        with self._calls():
            found = self._queues.find_one({"_id": q})
            if found is None:
                return
            key = _queue(found).key
            self._landed.close_queue(key)
            self._queues.delete_one({"_id": q, INCARNATION: found.get(INCARNATION)})
            self._landed.remove_closed(key)

    def list_queues(
        self, project: str, after: str, limit: int, part: str = "", most_bytes: int = MOST_METADATA
    ) -> list[Queue]:
        with self._calls(), self._queues.find(
            _named(project, after, part), limit=limit, sort=[(NAME, ASCENDING)], batch_size=limit
        ) as found:
            return within_bytes((_queue(document) for document in found), most_bytes, metadata_size)

    def list_names(self, project: str, after: str, limit: int, part: str = "") -> list[str]:
        with self._calls():
            found = self._queues.find(
                _named(project, after, part), {"_id": 0, NAME: 1}, limit=limit, sort=[(NAME, ASCENDING)]
            )
            return [document[NAME] for document in found]

    def count_queues(self, project: str, part: str = "") -> int:
        with self._calls():
            return self._queues.count_documents(_named(project, "", part))

    def queue_keys(self, after: str, limit: int) -> list[str]:
        with self._calls():
            found = self._queues.find({"_id": {"$gt": after}}, {"_id": 1}, limit=limit, sort=[("_id", ASCENDING)])
            return [document["_id"] for document in found]

    # -- pools --------------------------------------------------------------------------------------------------

    def change_move(self, q: str, before: bytes | None, move: bytes | None, pool: str | None = None) -> bool:
        changes: dict[str, dict[str, Any]] = {}
        for field, value, absent in ((MOVE, move, move is None), (POOL, pool, pool == DEFAULT_POOL)):
            if absent:
                changes.setdefault("$unset", {})[field] = 1
            elif value is not None:
                changes.setdefault("$set", {})[field] = value
        with self._calls():
            if self._queues.update_one({"_id": q, MOVE: before}, changes).matched_count:
                return True
            found = self._queues.find_one({"_id": q})
        if found is None:
            return False
        queue = _queue(found)
        return queue.move == move and pool in (None, queue.pool)

    def list_moving(self, after: str, limit: int) -> list[str]:
        return self._names({MOVE: {"$exists": True}}, after, limit, "moves")

    def list_in_pool(self, pool: str, after: str, limit: int) -> list[str]:
        if pool == DEFAULT_POOL:
            return self._names({POOL: None}, after, limit, "_id_")
        return self._names({POOL: pool}, after, limit, "pools")

    def _names(self, query: Mapping[str, Any], after: str, limit: int, index: str) -> list[str]:
        with self._calls():
            found = self._queues.find(
                {**query, "_id": {"$gt": after}}, {"_id": 1}, limit=limit, sort=[("_id", ASCENDING)], hint=index
            )
            return [document["_id"] for document in found]


def _named(project: str, after: str, part: str) -> dict[str, Any]:
    """A query for a project's queues after the name ``after`` with ``part`` in their name; the index answers it."""
    name: dict[str, Any] = {"$gt": after}
    if part:
        name["$regex"] = re.escape(part)
    return {PROJECT: project, NAME: name}


def _queue(document: Mapping[str, Any]) -> Queue:
    return Queue(
        document[NAME], bytes(document[METADATA]), document[VERSION],
        message_key(document["_id"], document.get(INCARNATION, "")), document.get(POOL, DEFAULT_POOL),
        document.get(MOVE), document.get(NOTIFIES, False),
    )
