"""Keys that are bound to others in an SQLite file, and which of them have messages. landing.py writes the copies."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from storage.sqlite.landing import SQLiteLanding, check_alive
from storage.sqlite.schema import sql

#: Is one of the messages under a key free? The same rule as that of find_free, which frees what was hidden till now.
FREE = sql("SELECT 1 FROM messages WHERE q = key AND hidden_until <= ? AND expires > ?")

#: The edges of a key; SQLite takes each of them from the end of an index.
LAST = sql("SELECT max(position) FROM messages WHERE q = key")
LATEST = sql("SELECT max(hidden_until) FROM messages WHERE q = key")


class SQLiteCopying(SQLiteLanding):
    """The second part of the landed store: the table ``bindings``."""

    def bind(self, q: str, copy: str) -> None:
        def change(db: sqlite3.Connection) -> None:
            check_alive(db, q)
            check_alive(db, copy)
            db.execute("INSERT OR IGNORE INTO bindings VALUES (?, ?)", (q, copy))

        self._database.write(change)

    def unbind(self, q: str, copy: str) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM bindings WHERE q = ? AND copy = ?", (q, copy))

        self._database.write(change)

    def bound(self, q: str) -> list[str]:
        with self._database.read() as db:
            return [copy for (copy,) in db.execute("SELECT copy FROM bindings WHERE q = ? ORDER BY copy", (q,))]

    def ready(self, keys: Sequence[str]) -> list[str]:
        if not keys:
            return []
        now = self.clock.now()
        with self._database.read() as db:
            rows = db.execute(
                f"WITH wanted(key) AS (VALUES {','.join(['(?)'] * len(keys))})"  # nosec B608
                f" SELECT key FROM wanted WHERE EXISTS ({FREE})",
                (*keys, now, now),
            )
            return [key for (key,) in rows]

    def edges(self, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
        if not keys:
            return {}
        with self._database.read() as db:
            rows = db.execute(
                f"WITH wanted(key) AS (VALUES {','.join(['(?)'] * len(keys))})"  # nosec B608
                f" SELECT key, ({LAST}), ({LATEST}) FROM wanted",
                keys,
            )
            return {key: (last, latest) for key, last, latest in rows if last is not None}
