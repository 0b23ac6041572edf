"""What the catalogue in an SQLite file keeps besides queues: locks, records, reservations, marks of bridged queues."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from uuid import uuid4

from storage.catalogue import Catalogue
from storage.model import Clock, Record, new_version
from storage.sqlite.database import Database

#: How long the time at which a lock was released is kept, in milliseconds.
LOCKS_KNOWN_FOR = 60_000


class SQLiteRecords(Catalogue):
    """The first half of the catalogue: the tables ``locks``, ``records``, ``reservations`` and ``bridged``."""

    def __init__(self, database: Database, clock: Clock):
        """``clock``: the side-store itself."""
        self._database = database
        self._clock = clock

    def remove_expired(self, db: sqlite3.Connection, now: int) -> None:
        """Remove what is not needed any more; ``now`` in ms."""
        db.execute("DELETE FROM locks WHERE until <= ?", (now - LOCKS_KNOWN_FOR,))
        db.execute("DELETE FROM reservations WHERE until <= ?", (now,))

    # -- locks --------------------------------------------------------------------------------------------------

    def lock(self, name: str, owner: str, seconds: float) -> int | None:
        def change(db: sqlite3.Connection) -> int | None:
            now = self._clock.now()
            row = db.execute("SELECT until FROM locks WHERE name = ?", (name,)).fetchone()
            if row is not None and row[0] > now:
                return None
            db.execute("INSERT OR REPLACE INTO locks VALUES (?, ?, ?)", (name, owner, now + int(seconds * 1000)))
            return row[0] if row is not None else 0

        return self._database.write(change)

    def renew_lock(self, name: str, owner: str, seconds: float) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            now = self._clock.now()
            return db.execute(
                "UPDATE locks SET until = ? WHERE name = ? AND owner = ? AND until > ?",
                (now + int(seconds * 1000), name, owner, now),
            ).rowcount == 1

        return self._database.write(change)

    def unlock(self, name: str, owner: str, after: float = 0.0) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE locks SET owner = NULL, until = ? WHERE name = ? AND owner = ?",
                (self._clock.now() + int(after * 1000), name, owner),
            )

        self._database.write(change)

    # -- records ------------------------------------------------------------------------------------------------

    def put_record(self, kind: str, name: str, data: bytes, version: int | None = None) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            if version:
                return bool(db.execute(
                    "UPDATE records SET data = ?, version = ? WHERE kind = ? AND name = ? AND version = ?",
                    (data, new_version(), kind, name, version),
                ).rowcount)
            insert = "INSERT OR REPLACE" if version is None else "INSERT OR IGNORE"
            return bool(db.execute(
                f"{insert} INTO records VALUES (?, ?, ?, ?)", (kind, name, data, new_version())  # nosec B608
            ).rowcount)

        return self._database.write(change)

    def get_record(self, kind: str, name: str) -> Record | None:
        with self._database.read() as db:
            row = db.execute(
                "SELECT name, data, version FROM records WHERE kind = ? AND name = ?", (kind, name)
            ).fetchone()
        return Record(*row) if row else None

    def list_records(self, kind: str, after: str, limit: int) -> list[Record]:
        with self._database.read() as db:
            rows = db.execute(
                "SELECT name, data, version FROM records WHERE kind = ? AND name > ? ORDER BY name LIMIT ?",
                (kind, after, limit),
            )
            return [Record(*row) for row in rows]

    def delete_record(self, kind: str, name: str) -> bool:
        return bool(self._database.write(
            lambda db: db.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name)).rowcount
        ))

    # -- reservations -------------------------------------------------------------------------------------------

    def reserve(self, scope: str, entries: Mapping[str, bytes], expires: int, version: int) -> dict[str, Record]:
        def change(db: sqlite3.Connection) -> dict[str, Record]:
            now = self._clock.now()
            there: dict[str, Record] = {}
            for name, data in entries.items():
                row = db.execute(
                    "SELECT name, data, version FROM reservations WHERE name = ? AND until > ?", (name, now)
                ).fetchone()
                if row:
                    there[name] = Record(*row)
                else:
                    db.execute(
                        "INSERT OR REPLACE INTO reservations VALUES (?, ?, ?, ?, ?)",
                        (name, scope, data, version, expires),
                    )
            return there

        return self._database.write(change)

    def change_reserved(self, name: str, version: int, data: bytes, expires: int) -> int | None:
        changed = new_version()

        def change(db: sqlite3.Connection) -> int | None:
            return changed if db.execute(
                "UPDATE reservations SET data = ?, version = ?, until = ? WHERE name = ? AND version = ? AND until > ?",
                (data, changed, expires, name, version, self._clock.now()),
            ).rowcount else None

        return self._database.write(change)

    def change_all_reserved(self, changes: Mapping[str, tuple[int, bytes]], expires: int) -> None:
        def change(db: sqlite3.Connection) -> None:
            now = self._clock.now()
            db.executemany(
                "UPDATE reservations SET data = ?, version = ?, until = ? WHERE name = ? AND version = ? AND until > ?",
                [
                    (data, new_version(), expires, name, version, now)
                    for name, (version, data) in changes.items()
                ],
            )

        self._database.write(change)

    def unreserve(self, name: str, version: int) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            return bool(db.execute(
                "DELETE FROM reservations WHERE name = ? AND version = ? AND until > ?",
                (name, version, self._clock.now()),
            ).rowcount)

        return self._database.write(change)

    def count_reserved(self, scope: str, most: int) -> int:
        with self._database.read() as db:
            count: int = db.execute(
                "SELECT count(*) FROM (SELECT 1 FROM reservations WHERE scope = ? AND until > ? LIMIT ?)",
                (scope, self._clock.now(), most),
            ).fetchone()[0]
        return count

    # -- queues that read from an exchange of other applications -------------------------------------------------

    def mark_bridged(self, q: str) -> str:
        mark = uuid4().hex
        self._database.write(
            lambda db: db.execute("INSERT OR REPLACE INTO bridged VALUES (?, ?)", (q, mark)).rowcount
        )
        return mark

    def list_bridged(self, after: str, limit: int) -> list[tuple[str, str]]:
        with self._database.read() as db:
            return db.execute("SELECT q, mark FROM bridged WHERE q > ? ORDER BY q LIMIT ?", (after, limit)).fetchall()

    def unmark_bridged(self, q: str, mark: str) -> None:
        self._database.write(
            lambda db: db.execute("DELETE FROM bridged WHERE q = ? AND mark = ?", (q, mark)).rowcount
        )
