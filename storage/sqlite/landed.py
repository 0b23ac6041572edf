"""The landed store in an SQLite file: claims, lists, deletions. The modules of its base classes have the rest."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

from storage.combining import Combiner
from storage.errors import QueueGone
from storage.landed import NOTHING
from storage.model import Claim, Clock, Message, Ring, Stats
from storage.sqlite.database import Database
from storage.sqlite.grouping import SQLiteGrouping, claim_free, put_back
from storage.sqlite.rows import MESSAGE, MESSAGES, opened_by, to_message
from storage.sqlite.schema import marks, sql

#: A statement that may read everything checks the time after this many steps of SQLite, which take some milliseconds.
INSTRUCTIONS = 100_000

class SQLiteLanded(SQLiteGrouping):
    """The fifth part of the landed store: what reads, claims, changes and removes messages."""

    def __init__(self, database: Database, clock: Clock):
        super().__init__(database, clock)
        self._pages: Combiner[tuple[Any, ...], Sequence[Message]] = Combiner(self._list, self.timeout)

    def remove_expired(self, db: sqlite3.Connection, now: int) -> int:
        """Remove expired messages and tombstones; the number of messages. ``now`` in ms."""
        db.execute(sql("DELETE FROM tombstones WHERE expires <= ?"), (now,))
        return db.execute(sql("DELETE FROM messages WHERE expires <= ?"), (now,)).rowcount

    # -- claims -------------------------------------------------------------------------------------------------

    def find_free(self, q: str, limit: int, ring: Ring | None = None) -> tuple[list[Message], bool]:
        now = self.clock.now()
        opened, values = opened_by(ring)
        with self._database.read() as db:
            over = db.execute(
                sql("SELECT 1 FROM messages WHERE q = ? AND hidden_until > 0 AND hidden_until <= ? LIMIT 1"), (q, now)
            ).fetchone()
        if over:
            self._database.write(lambda db: put_back(db, q, now))
        with self._database.read() as db:
            # The lease first: who lands and gives it back between the two is seen that way.
            lease = db.execute("SELECT owner IS NOT NULL AND until > ? FROM leases WHERE q = ?", (now, q)).fetchone()
            rows = db.execute(
                sql(
                    f"SELECT {MESSAGE} FROM {MESSAGES} WHERE q = ? AND hidden_until = 0 AND expires > ?"  # nosec B608
                    f" AND {opened} ORDER BY position LIMIT ?"
                ),
                (q, now, *values, limit),
            )
            messages = [to_message(row) for row in rows]
        if lease is None and len(messages) < limit:
            raise QueueGone(q)
        return messages, lease is not None and bool(lease[0])

    def claim(self, q: str, messages: Sequence[Message], claim: Claim) -> list[Message]:
        return self._database.write(lambda db: claim_free(db, q, messages, claim))

    def get_claim(self, q: str, claim_id: str) -> list[Message]:
        now = self.clock.now()
        with self._database.read() as db:
            rows = db.execute(
                sql(
                    f"SELECT {MESSAGE} FROM {MESSAGES} WHERE claim = ? AND q = ?"  # nosec B608
                    " AND hidden_until > ? AND expires > ? ORDER BY position"
                ),
                (claim_id, q, now, now),
            )
            return [to_message(row) for row in rows]

    def renew_claim(self, q: str, claim: Claim) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            return bool(db.execute(
                sql(
                    "UPDATE messages SET hidden_until = ?, claim_ttl = ?, expires = max(expires, ?)"
                    " WHERE claim = ? AND q = ? AND hidden_until > ?"
                ),
                (claim.expires, claim.ttl, claim.keep_until, claim.id, q, self.clock.now()),
            ).rowcount)

        return self._database.write(change)

    def release_claim(self, q: str, claim_id: str) -> int:
        def change(db: sqlite3.Connection) -> int:
            return db.execute(
                sql("UPDATE messages SET hidden_until = 0, claim = NULL, claim_ttl = 0 WHERE claim = ? AND q = ?"),
                (claim_id, q),
            ).rowcount

        return self._database.write(change)

    # -- reading ------------------------------------------------------------------------------------------------

    def list_messages(
        self,
        q: str,
        after: int,
        limit: int,
        *,
        not_from: str | None = None,
        claimed: bool = False,
        delayed: bool = False,
        ring: Ring | None = None,
    ) -> Sequence[Message]:
        call = (q, after, limit, not_from, claimed, delayed, ring)
        return self._pages.do(call, key=call)

    def _list(self, calls: Sequence[tuple[Any, ...]]) -> list[Sequence[Message]]:
        """The same page for all threads that want it at this moment."""
        q, after, limit, not_from, claimed, delayed, ring = calls[0]
        now = self.clock.now()
        where = "q = ? AND position > ? AND expires > ?"
        values: list[Any] = [q, after, now]
        if not_from is not None:
            where += " AND client <> ?"
            values.append(not_from)
        if not claimed:
            where += " AND (hidden_until <= ? OR claim IS NULL)"
            values.append(now)
        if not delayed:
            where += " AND (hidden_until <= ? OR claim IS NOT NULL)"
            values.append(now)
        opened, more = opened_by(ring)
        where += f" AND {opened}"
        values += more
        with self._database.read() as db:
            rows = db.execute(
                sql(f"SELECT {MESSAGE} FROM {MESSAGES} WHERE {where} ORDER BY position LIMIT ?"),  # nosec B608
                (*values, limit),
            ).fetchall()
        return [[to_message(row) for row in rows]] * len(calls)

    def get_messages(self, q: str, ids: Sequence[str]) -> list[Message]:
        with self._database.read() as db:
            rows = db.execute(
                sql(
                    f"SELECT {MESSAGE} FROM {MESSAGES} WHERE q = ? AND expires > ?"  # nosec B608
                    f" AND id IN ({marks(ids)})"
                ),
                (q, self.clock.now(), *ids),
            )
            return [to_message(row) for row in rows]

    def newest(self, q: str) -> Message | None:
        return self._edge(q, "DESC")

    def _edge(self, q: str, order: str) -> Message | None:
        with self._database.read() as db:
            row = db.execute(
                sql(
                    f"SELECT {MESSAGE} FROM {MESSAGES} WHERE q = ? AND expires > ?"  # nosec B608
                    f" ORDER BY position {order} LIMIT 1"
                ),
                (q, self.clock.now()),
            ).fetchone()
        return to_message(row) if row else None

    def stats(self, q: str) -> Stats:
        free, claimed, delayed = self._counts("q = ? AND ", (q,))
        return Stats(free, claimed, delayed, self._edge(q, "ASC"), self.newest(q))

    def volume(self) -> Stats:
        return Stats(*self._counts("", ()))

    def _counts(self, condition: str, values: tuple[str, ...]) -> tuple[int, int, int]:
        """Free, claimed and delayed messages that fulfil a condition. Takes no longer than ``timeout``."""
        now = self.clock.now()
        deadline = time.monotonic() + self.timeout
        with self._database.read() as db:
            db.set_progress_handler(lambda: time.monotonic() > deadline, INSTRUCTIONS)
            try:
                total, claimed, delayed = db.execute(
                    sql(
                        "SELECT count(*), coalesce(sum(hidden_until > ? AND claim IS NOT NULL), 0),"  # nosec B608
                        " coalesce(sum(hidden_until > ? AND claim IS NULL), 0)"
                        f" FROM messages WHERE {condition}expires > ?"
                    ),
                    (now, now, *values, now),
                ).fetchone()
            finally:
                db.set_progress_handler(None, 0)
        return total - claimed - delayed, claimed, delayed

    # -- changing and deleting ----------------------------------------------------------------------------------

    def mark(self, q: str, messages: Sequence[Message]) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.executemany(
                sql("UPDATE messages SET sealed = ? WHERE q = ? AND id = ?"),
                [(m.key or True, q, m.id) for m in messages],
            )

        self._database.write(change)

    def delete_unclaimed(self, q: str, ids: Sequence[str], remembered: Mapping[str, int] = NOTHING) -> int:
        return self._delete(q, ids, None, remembered)

    def delete_claimed(
        self, q: str, ids: Sequence[str], claims: Sequence[str], remembered: Mapping[str, int] = NOTHING
    ) -> int:
        return self._delete(q, ids, claims, remembered)

    def _delete(
        self, q: str, ids: Sequence[str], claims: Sequence[str] | None, remembered: Mapping[str, int]
    ) -> int:
        """Delete what one of the claims holds, or with None what no live claim holds."""
        def change(db: sqlite3.Connection) -> int:
            values: list[Any] = [self.clock.now(), *(claims or ())]
            where = "(claim IS NULL OR hidden_until <= ?)"
            if claims is not None:
                where = f"hidden_until > ? AND +claim IN ({marks(claims)})"
            statement = sql(f"DELETE FROM messages WHERE q = ? AND id IN ({marks(ids)}) AND {where}")  # nosec B608
            if not remembered:
                return db.execute(statement, (q, *ids, *values)).rowcount
            deleted = db.execute(f"{statement} RETURNING id", (q, *ids, *values)).fetchall()
            db.executemany(
                "INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)",
                [(q, id_, remembered[id_]) for (id_,) in deleted if id_ in remembered],
            )
            return len(deleted)

        return self._database.write(change)

    def purge(self, q: str) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM messages WHERE q = ?", (q,))
            db.execute("DELETE FROM tombstones WHERE q = ?", (q,))

        self._database.write(change)

