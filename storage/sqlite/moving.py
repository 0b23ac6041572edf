"""How a queue's messages leave an SQLite file and come into another one: keys, exports, removals."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from storage.model import MOST_EXPORTED, Message, content_size, within_bytes
from storage.sqlite.copying import SQLiteCopying
from storage.sqlite.landing import close_queue, open_queue, remove_queue
from storage.sqlite.rows import MESSAGE, MESSAGES, to_message
from storage.sqlite.schema import sql


class SQLiteMoving(SQLiteCopying):
    """The third part of the landed store: what opens, closes and empties keys, and reads all that is under one."""

    # -- keys ---------------------------------------------------------------------------------------------------

    def open_queue(self, q: str, last: int = 0, copies: Sequence[str] = ()) -> None:
        self._database.write(lambda db: open_queue(db, q, last, copies))

    def close_queue(self, q: str) -> None:
        self._database.write(lambda db: close_queue(db, q))

    def remove_queue(self, q: str) -> None:
        self._database.write(lambda db: remove_queue(db, q))

    # -- moving to another store --------------------------------------------------------------------------------

    def export(self, q: str, after: int, limit: int, most_bytes: int = MOST_EXPORTED) -> list[Message]:
        with self._database.read() as db, closing(db.execute(
            sql(
                f"SELECT {MESSAGE} FROM {MESSAGES} WHERE q = ? AND position > ? AND expires > ?"  # nosec B608
                " ORDER BY position LIMIT ?"
            ),
            (q, after, self.clock.now(), limit),
        )) as rows:
            return within_bytes((to_message(row) for row in rows), most_bytes, content_size)

    def remove(self, q: str, messages: Sequence[Message]) -> set[str]:
        delete = sql(
            "DELETE FROM messages WHERE q = ? AND id = ? AND hidden_until = ? AND claim IS ? AND claims = ?"
            " AND expires = ?"
        )

        def change(db: sqlite3.Connection) -> set[str]:
            changed = set()
            for m in messages:
                if not db.execute(delete, (q, m.id, m.hidden_until, m.claim, m.claims, m.expires)).rowcount and (
                    db.execute("SELECT 1 FROM messages WHERE q = ? AND id = ?", (q, m.id)).fetchone()
                ):
                    changed.add(m.id)
            return changed

        return self._database.write(change)

    def list_tombstones(self, q: str, after: str, limit: int) -> list[tuple[str, int]]:
        with self._database.read() as db:
            return db.execute(
                sql("SELECT id, expires FROM tombstones WHERE q = ? AND id > ? AND expires > ? ORDER BY id LIMIT ?"),
                (q, after, self.clock.now(), limit),
            ).fetchall()
