"""The catalogue in an SQLite file: queues, marks of bridged queues, locks."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any
from uuid import uuid4

from storage.catalogue import Catalogue
from storage.model import MOST_METADATA, Clock, Queue, message_key, new_incarnation, split_name, within_bytes
from storage.sqlite.database import Database
from storage.sqlite.landing import open_queue, remove_queue

#: Milliseconds for which it is remembered when a lock was given up.
LOCKS_KNOWN_FOR = 60_000

QUEUE = "name, metadata, version, q, incarnation"


class SQLiteCatalogue(Catalogue):
    """The tables ``queues``, ``bridged`` and ``locks``."""

    def __init__(self, database: Database, clock: Clock):
        """``clock``: the side-store itself."""
        self._database = database
        self._clock = clock

    def remove_expired(self, db: sqlite3.Connection, now: int) -> None:
        """Remove what is not needed any more; ``now`` in ms."""
        db.execute("DELETE FROM locks WHERE until <= ?", (now - LOCKS_KNOWN_FOR,))

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

    def unlock(self, name: str, owner: str, after: float = 0.0) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE locks SET owner = NULL, until = ? WHERE name = ? AND owner = ?",
                (self._clock.now() + int(after * 1000), name, owner),
            )

        self._database.write(change)

    # -- queues -------------------------------------------------------------------------------------------------

    def create_queue(self, q: str, metadata: bytes | None) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            now = self._clock.now()
            # Versions begin with the time, so that no version of a deleted queue is used again.
            is_new = db.execute(
                "INSERT OR IGNORE INTO queues VALUES (?, ?, ?, ?, ?, ?)",
                (q, *split_name(q), metadata or b"{}", now, new_incarnation(now)),
            ).rowcount
            if not is_new and metadata is not None:
                db.execute("UPDATE queues SET metadata = ?, version = version + 1 WHERE q = ?", (metadata, q))
            open_queue(db, _key(db, q))
            return bool(is_new)

        return self._database.write(change)

    def get_queue(self, q: str) -> Queue | None:
        with self._database.read() as db:
            row = db.execute(f"SELECT {QUEUE} FROM queues WHERE q = ?", (q,)).fetchone()  # nosec B608
        return _queue(row) if row else None

    def replace_metadata(self, q: str, metadata: bytes, version: int) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            return bool(db.execute(
                "UPDATE queues SET metadata = ?, version = version + 1 WHERE q = ? AND version = ?",
                (metadata, q, version),
            ).rowcount)

        return self._database.write(change)

    def delete_queue(self, q: str) -> None:
        def change(db: sqlite3.Connection) -> None:
            key = _key(db, q)
            db.execute("DELETE FROM queues WHERE q = ?", (q,))
            remove_queue(db, key)

        self._database.write(change)

    def list_queues(
        self, project: str, after: str, limit: int, part: str = "", most_bytes: int = MOST_METADATA
    ) -> list[Queue]:
        with self._database.read() as db, closing(db.execute(
            f"SELECT {QUEUE} FROM queues WHERE project = ? AND name > ? AND instr(name, ?)"  # nosec B608
            " ORDER BY name LIMIT ?",
            (project, after, part, limit),
        )) as rows:
            return within_bytes((_queue(row) for row in rows), most_bytes)

    def list_names(self, project: str, after: str, limit: int, part: str = "") -> list[str]:
        with self._database.read() as db:
            rows = db.execute(
                "SELECT name FROM queues WHERE project = ? AND name > ? AND instr(name, ?) ORDER BY name LIMIT ?",
                (project, after, part, limit),
            )
            return [name for (name,) in rows]

    def count_queues(self, project: str, part: str = "") -> int:
        with self._database.read() as db:
            return db.execute(
                "SELECT count(*) FROM queues WHERE project = ? AND instr(name, ?)", (project, part)
            ).fetchone()[0]

    def queue_keys(self, after: str, limit: int) -> list[str]:
        with self._database.read() as db:
            return [q for (q,) in db.execute("SELECT q FROM queues WHERE q > ? ORDER BY q LIMIT ?", (after, limit))]

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


def _key(db: sqlite3.Connection, q: str) -> str | None:
    """What the messages of a queue are kept under; None if there is no such queue."""
    row = db.execute("SELECT incarnation FROM queues WHERE q = ?", (q,)).fetchone()
    return message_key(q, row[0]) if row else None


def _queue(row: tuple[Any, ...]) -> Queue:
    name, metadata, version, q, incarnation = row
    return Queue(name, metadata, version, message_key(q, incarnation))
