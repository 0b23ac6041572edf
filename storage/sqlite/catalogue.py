"""The catalogue in an SQLite file: queues, and the pools that they are in."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from storage.model import (
    DEFAULT_POOL,
    MOST_METADATA,
    Queue,
    message_key,
    metadata_size,
    new_incarnation,
    split_name,
    within_bytes,
)
from storage.sqlite.landing import open_queue, remove_queue
from storage.sqlite.records import SQLiteRecords
from storage.sqlite.rows import PLACED, QUEUE, QUEUES, to_queue

NOTIFY = "INSERT OR REPLACE INTO notifying SELECT q, incarnation FROM queues WHERE q = ?"

FIND = f"SELECT {QUEUE} FROM {QUEUES} WHERE q = ?"  # nosec B608


class SQLiteCatalogue(SQLiteRecords):
    """The second half of the catalogue: the tables ``queues``, ``placements`` and ``notifying``."""

    # -- queues -------------------------------------------------------------------------------------------------

    def create_queue(
        self, q: str, metadata: bytes | None, pool: str = DEFAULT_POOL, copies: Sequence[str] = ()
    ) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            now = self._clock.now()
            # Versions begin with the time, so that no version of a deleted queue is used again.
            is_new = db.execute(
                "INSERT OR IGNORE INTO queues VALUES (?, ?, ?, ?, ?, ?)",
                (q, *split_name(q), metadata or b"{}", now, new_incarnation(now)),
            ).rowcount
            if is_new:
                _place(db, q, pool, None)
                if copies:
                    db.execute(NOTIFY, (q,))
            elif metadata is not None:
                db.execute("UPDATE queues SET metadata = ?, version = version + 1 WHERE q = ?", (metadata, q))
            queue = _find(db, q)
            if queue is not None and (is_new or (queue.pool == DEFAULT_POOL and queue.move is None)):
                open_queue(db, queue.key, copies=copies)
            return bool(is_new)

        return self._database.write(change)

    def get_queue(self, q: str) -> Queue | None:
        with self._database.read() as db:
            row = db.execute(FIND, (q,)).fetchone()
        return to_queue(row) if row else None

    def replace_metadata(self, q: str, metadata: bytes, version: int) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            return bool(db.execute(
                "UPDATE queues SET metadata = ?, version = version + 1 WHERE q = ? AND version = ?",
                (metadata, q, version),
            ).rowcount)

        return self._database.write(change)

    def set_notifies(self, q: str, notifies: bool = True) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            if notifies:
                return bool(db.execute(NOTIFY, (q,)).rowcount)
            db.execute("DELETE FROM notifying WHERE q = ?", (q,))
            return db.execute("SELECT 1 FROM queues WHERE q = ?", (q,)).fetchone() is not None

        return self._database.write(change)

    def delete_queue(self, q: str) -> None:
        def change(db: sqlite3.Connection) -> None:
            row = db.execute("DELETE FROM queues WHERE q = ? RETURNING incarnation", (q,)).fetchone()
            if row is not None:
                db.execute("DELETE FROM placements WHERE q = ?", (q,))
                db.execute("DELETE FROM notifying WHERE q = ?", (q,))
                remove_queue(db, message_key(q, row[0]))

        self._database.write(change)

    def list_queues(
        self, project: str, after: str, limit: int, part: str = "", most_bytes: int = MOST_METADATA
    ) -> list[Queue]:
        with self._database.read() as db, closing(db.execute(
            f"SELECT {QUEUE} FROM {QUEUES} WHERE project = ? AND name > ? AND instr(name, ?)"  # nosec B608
            " ORDER BY name LIMIT ?",
            (project, after, part, limit),
        )) as rows:
            return within_bytes((to_queue(row) for row in rows), most_bytes, metadata_size)

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

    # -- pools --------------------------------------------------------------------------------------------------

    def change_move(self, q: str, before: bytes | None, move: bytes | None, pool: str | None = None) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            queue = _find(db, q)
            if queue is None:
                return False
            if queue.move != before:
                return queue.move == move and pool in (None, queue.pool)
            _place(db, q, pool or queue.pool, move)
            return True

        return self._database.write(change)

    def list_moving(self, after: str, limit: int) -> list[str]:
        with self._database.read() as db:
            rows = db.execute(
                "SELECT q FROM placements JOIN queues USING (q, incarnation) WHERE move IS NOT NULL AND q > ?"
                " ORDER BY q LIMIT ?",
                (after, limit),
            )
            return [q for (q,) in rows]

    def list_in_pool(self, pool: str, after: str, limit: int) -> list[str]:
        if pool == DEFAULT_POOL:
            tables, condition = PLACED, "(pool = ? OR pool IS NULL)"
        else:
            tables, condition = "placements JOIN queues USING (q, incarnation)", "pool = ?"
        with self._database.read() as db:
            rows = db.execute(
                f"SELECT q FROM {tables} WHERE {condition} AND q > ? ORDER BY q LIMIT ?",  # nosec B608
                (pool, after, limit),
            )
            return [q for (q,) in rows]


def _find(db: sqlite3.Connection, q: str) -> Queue | None:
    row = db.execute(FIND, (q,)).fetchone()
    return to_queue(row) if row else None


def _place(db: sqlite3.Connection, q: str, pool: str, move: bytes | None) -> None:
    """Record the pool and the move of a queue that exists."""
    if pool == DEFAULT_POOL and move is None:
        db.execute("DELETE FROM placements WHERE q = ?", (q,))
    else:
        db.execute(
            "INSERT OR REPLACE INTO placements SELECT q, incarnation, ?, ? FROM queues WHERE q = ?", (pool, move, q)
        )
