"""The catalogue in MongoDB: queues, marks of bridged queues, locks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from bson import DatetimeMS
from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from storage.catalogue import Catalogue
from storage.model import MOST_METADATA, Clock, Queue, message_key, new_incarnation, split_name, within_bytes
from storage.mongodb.database import Database
from storage.mongodb.landing import MongoDBLanding

#: Milliseconds for which it is remembered when a lock was given up.
LOCKS_KNOWN_FOR = 60_000

#: Fields of a queue's document; ``_id`` is ``<project>/<queue>``. A lock has EXPIRES too.
PROJECT = "p"
NAME = "n"
METADATA = "m"
VERSION = "v"
INCARNATION = "i"
EXPIRES = "e"


class MongoDBCatalogue(Catalogue):
    """The collections ``queues``, ``bridged`` and ``locks``."""

    def __init__(self, database: Database, landed: MongoDBLanding, clock: Clock):
        """``landed``: what has landed in the queues. ``clock``: the side-store itself."""
        self._calls = database.calls
        self._queues = database.queues
        self._bridged = database.bridged
        self._locks = database.locks
        self._landed = landed
        self._clock = clock

    # -- locks --------------------------------------------------------------------------------------------------

    def lock(self, name: str, owner: str, seconds: float) -> int | None:
        with self._calls():
            now = self._clock.now()
            until = now + int(seconds * 1000)
            try:
                before = self._locks.find_one_and_update(
                    {"_id": name, "until": {"$lte": now}},
                    {"$set": {"owner": owner, "until": until, EXPIRES: DatetimeMS(until + LOCKS_KNOWN_FOR)}},
                    upsert=True,
                )
            except DuplicateKeyError:  # the document exists, but is held: the upsert tried to insert a second one
                return None
        return before["until"] if before is not None else 0

    def unlock(self, name: str, owner: str, after: float = 0.0) -> None:
        with self._calls():
            until = self._clock.now() + int(after * 1000)
            self._locks.update_one(
                {"_id": name, "owner": owner},
                {"$set": {"until": until, EXPIRES: DatetimeMS(until + LOCKS_KNOWN_FOR)}, "$unset": {"owner": 1}},
            )

    # -- queues -------------------------------------------------------------------------------------------------

    def create_queue(self, q: str, metadata: bytes | None) -> bool:
        project, name = split_name(q)
        with self._calls():
            now = self._clock.now()
            # Versions begin with the time, so that no version of a deleted queue is used again.
            document = {
                "_id": q, PROJECT: project, NAME: name, METADATA: metadata or b"{}", VERSION: now,
                INCARNATION: new_incarnation(now),
            }
            try:
                self._queues.insert_one(document)
                is_new = True
            except DuplicateKeyError:
                is_new = False
                if metadata is not None:
                    self._queues.update_one({"_id": q}, {"$set": {METADATA: metadata}, "$inc": {VERSION: 1}})
            found = document if is_new else self._queues.find_one({"_id": q})
            if found is not None:
                self._landed.open_queue(_queue(found).key)
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
            return within_bytes((_queue(document) for document in found), most_bytes)

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

    # -- queues that read from an exchange of other applications -------------------------------------------------

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


def _named(project: str, after: str, part: str) -> dict[str, Any]:
    """A query for a project's queues after the name ``after`` with ``part`` in their name; the index answers it."""
    name: dict[str, Any] = {"$gt": after}
    if part:
        name["$regex"] = re.escape(part)
    return {PROJECT: project, NAME: name}


def _queue(document: Mapping[str, Any]) -> Queue:
    return Queue(
        document[NAME], bytes(document[METADATA]), document[VERSION],
        message_key(document["_id"], document.get(INCARNATION, "")),
    )
