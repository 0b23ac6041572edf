"""What the catalogue in MongoDB keeps besides queues: locks, records, reservations, marks of bridged queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from bson import DatetimeMS
from pymongo import ASCENDING, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from storage.catalogue import Catalogue
from storage.model import Clock, Record, new_version
from storage.mongodb.database import Database
from storage.mongodb.documents import SCOPE, UNTIL
from storage.mongodb.landing import duplicates

#: How long the time at which a lock was released is kept, in milliseconds.
LOCKS_KNOWN_FOR = 60_000

#: Field of a lock: when the server removes its document.
LOCK_EXPIRES = "e"

#: Fields of a record; ``_id`` is ``<kind>/<name>``. Those of a reservation, whose ``_id`` is its name, are these and
#: two more (documents.py).
DATA = "d"
RECORD_VERSION = "v"


class MongoDBRecords(Catalogue):
    """The first half of the catalogue: the collections ``locks``, ``records``, ``reservations`` and ``bridged``."""

    def __init__(self, database: Database, clock: Clock):
        """``clock``: the side-store itself."""
        self._calls = database.calls
        self._bridged = database.bridged
        self._locks = database.locks
        self._records = database.records
        self._reservations = database.reservations
        self._clock = clock

    # -- locks --------------------------------------------------------------------------------------------------

    def lock(self, name: str, owner: str, seconds: float) -> int | None:
        with self._calls():
            now = self._clock.now()
            try:
                before = self._locks.find_one_and_update(
                    {"_id": name, "until": {"$lte": now}},
                    {"$set": {"owner": owner, **_until(now, seconds)}},
                    upsert=True,
                )
            except DuplicateKeyError:  # the document exists, but is held: the upsert tried to insert a second one
                return None
        return before["until"] if before is not None else 0

    def renew_lock(self, name: str, owner: str, seconds: float) -> bool:
        with self._calls():
            now = self._clock.now()
            return self._locks.update_one(
                {"_id": name, "owner": owner, "until": {"$gt": now}}, {"$set": _until(now, seconds)}
            ).matched_count == 1

    def unlock(self, name: str, owner: str, after: float = 0.0) -> None:
        with self._calls():
            self._locks.update_one(
                {"_id": name, "owner": owner}, {"$set": _until(self._clock.now(), after), "$unset": {"owner": 1}}
            )

    # -- records ------------------------------------------------------------------------------------------------

    def put_record(self, kind: str, name: str, data: bytes, version: int | None = None) -> bool:
        key = f"{kind}/{name}"
        fields = {DATA: data, RECORD_VERSION: new_version()}
        with self._calls():
            if version == 0:
                try:
                    self._records.insert_one({"_id": key, **fields})
                except DuplicateKeyError:
                    return False
                return True
            if version is not None:
                return self._records.update_one(
                    {"_id": key, RECORD_VERSION: version}, {"$set": fields}
                ).matched_count == 1
            try:
                self._records.update_one({"_id": key}, {"$set": fields}, upsert=True)
            except DuplicateKeyError:  # two at the same moment
                self._records.update_one({"_id": key}, {"$set": fields}, upsert=True)
        return True

    def get_record(self, kind: str, name: str) -> Record | None:
        with self._calls():
            found = self._records.find_one({"_id": f"{kind}/{name}"})
        return _record(found) if found else None

    def list_records(self, kind: str, after: str, limit: int) -> list[Record]:
        with self._calls():
            # A 0 comes right after a slash.
            found = self._records.find(
                {"_id": {"$gt": f"{kind}/{after}", "$lt": f"{kind}0"}}, limit=limit, sort=[("_id", ASCENDING)]
            )
            return [_record(document) for document in found]

    def delete_record(self, kind: str, name: str) -> bool:
        with self._calls():
            return self._records.delete_one({"_id": f"{kind}/{name}"}).deleted_count == 1

    # -- reservations -------------------------------------------------------------------------------------------

    def reserve(self, scope: str, entries: Mapping[str, bytes], expires: int, version: int) -> dict[str, Record]:
        fields = {SCOPE: scope, RECORD_VERSION: version, UNTIL: DatetimeMS(expires)}
        missing = [{"_id": name, DATA: data, **fields} for name, data in entries.items()]
        there: dict[str, Record] = {}
        with self._calls():
            while missing:
                try:
                    self._reservations.insert_many(missing, ordered=False)
                    break
                except BulkWriteError as error:
                    existing = {missing[index]["_id"]: missing[index] for index in duplicates(error)}
                for found in list(self._reservations.find({"_id": {"$in": list(existing)}})):
                    if found[RECORD_VERSION] == version or self._replaced(found, existing[found["_id"]]):
                        del existing[found["_id"]]
                    elif int(found[UNTIL]) > self._clock.now():
                        del existing[found["_id"]]
                        there[found["_id"]] = Record(found["_id"], bytes(found[DATA]), found[RECORD_VERSION])
                missing = list(existing.values())  # they have been removed or replaced meanwhile
        return there

    def _replaced(self, found: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
        """Put a document into the place of one that has expired, unless somebody was quicker."""
        return int(found[UNTIL]) <= self._clock.now() and self._reservations.replace_one(
            {"_id": found["_id"], RECORD_VERSION: found[RECORD_VERSION]}, document
        ).matched_count == 1

    def change_reserved(self, name: str, version: int, data: bytes, expires: int) -> int | None:
        changed = new_version()
        with self._calls():
            result = self._reservations.update_one(
                self._reserved(name, version),
                {"$set": {DATA: data, RECORD_VERSION: changed, UNTIL: DatetimeMS(expires)}},
            )
        return changed if result.matched_count else None

    def change_all_reserved(self, changes: Mapping[str, tuple[int, bytes]], expires: int) -> None:
        updates = [
            UpdateOne(
                self._reserved(name, version),
                {"$set": {DATA: data, RECORD_VERSION: new_version(), UNTIL: DatetimeMS(expires)}},
            )
            for name, (version, data) in changes.items()
        ]
        if updates:
            with self._calls():
                self._reservations.bulk_write(updates, ordered=False)

    def unreserve(self, name: str, version: int) -> bool:
        with self._calls():
            return self._reservations.delete_one(self._reserved(name, version)).deleted_count == 1

    def _reserved(self, name: str, version: int) -> dict[str, Any]:
        return {"_id": name, RECORD_VERSION: version, UNTIL: {"$gt": DatetimeMS(self._clock.now())}}

    def count_reserved(self, scope: str, most: int) -> int:
        with self._calls():
            return self._reservations.count_documents(
                {SCOPE: scope, UNTIL: {"$gt": DatetimeMS(self._clock.now())}}, limit=most, hint="scope"
            )

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


def _until(now: int, seconds: float) -> dict[str, Any]:
    """Fields of a lock that ends some seconds after ``now`` (ms)."""
    until = now + int(seconds * 1000)
    return {"until": until, LOCK_EXPIRES: DatetimeMS(until + LOCKS_KNOWN_FOR)}


def _record(document: Mapping[str, Any]) -> Record:
    _, _, name = document["_id"].partition("/")
    return Record(name, bytes(document[DATA]), document[RECORD_VERSION])
