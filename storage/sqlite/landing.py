"""How messages land in an SQLite file: leases, positions, tombstones."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from storage.errors import LeaseLost, QueueGone
from storage.landed import LandedStore
from storage.model import Clock, Message, number
from storage.sqlite.database import Database
from storage.sqlite.schema import marks, sql


class SQLiteLanding(LandedStore):
    """The first half of the landed store: what adds messages. A queue has a lease, held or not, while it exists."""

    def __init__(self, database: Database, clock: Clock):
        super().__init__(clock, database.timeout)
        self._database = database

    def acquire_lease(self, q: str, owner: str, seconds: float) -> int | None:
        now = self.clock.now()

        def change(db: sqlite3.Connection) -> int | None:
            _check_alive(db, q)
            row = db.execute(
                "UPDATE leases SET owner = ?, until = ? WHERE q = ? AND (owner IS NULL OR until <= ?) RETURNING last",
                (owner, now + int(seconds * 1000), q, now),
            ).fetchone()
            # An append in between (it needs no lease here) may have gone further than the last holder of the lease.
            return None if row is None else max(row[0], _last(db, q))

        return self._database.write(change)

    def renew_lease(self, q: str, owner: str, seconds: float) -> bool:
        now = self.clock.now()

        def change(db: sqlite3.Connection) -> bool:
            return db.execute(
                "UPDATE leases SET until = ? WHERE q = ? AND owner = ? AND until > ?",
                (now + int(seconds * 1000), q, owner, now),
            ).rowcount == 1

        return self._database.write(change)

    def release_lease(self, q: str, owner: str, last: int) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE leases SET owner = NULL, until = 0, last = max(last, ?) WHERE q = ? AND owner = ?",
                (last, q, owner),
            )

        self._database.write(change)

    def land(
        self, q: str, messages: Sequence[Message], owner: str | None = None, seen: float | None = None
    ) -> set[str]:
        def change(db: sqlite3.Connection) -> set[str]:
            _check_alive(db, q)
            if owner is not None and not db.execute(
                "SELECT 1 FROM leases WHERE q = ? AND owner = ? AND until > ?", (q, owner, self.clock.now())
            ).fetchone():
                raise LeaseLost(q)
            return _insert(db, q, messages)

        return self._database.write(change)

    def append(self, q: str, messages: Sequence[Message]) -> None:
        # Commits come one after the other here, so positions taken inside of one appear in order without a lease.
        def change(db: sqlite3.Connection) -> None:
            last = number(messages, _last(db, q), self.clock.now())
            # Kept also for when the messages are gone: readers that have come so far would miss a position used again.
            if not db.execute("UPDATE leases SET last = max(last, ?) WHERE q = ?", (last, q)).rowcount:
                raise QueueGone(q)
            _insert(db, q, messages)

        self._database.write(change)

    def tombstone(self, q: str, expires: Mapping[str, int]) -> set[str]:
        def change(db: sqlite3.Connection) -> set[str]:
            landed = set()
            for id_, until in expires.items():
                if db.execute("SELECT 1 FROM messages WHERE q = ? AND id = ?", (q, id_)).fetchone():
                    landed.add(id_)
                else:
                    db.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", (q, id_, until))
            return landed

        return self._database.write(change)

    def landed_or_deleted(self, q: str, ids: Sequence[str]) -> set[str]:
        with self._database.read() as db:
            _check_alive(db, q)
            rows = db.execute(
                f"SELECT id FROM messages WHERE q = ? AND id IN ({marks(ids)})"  # nosec B608
                f" UNION SELECT id FROM tombstones WHERE q = ? AND id IN ({marks(ids)})",
                (q, *ids, q, *ids),
            )
            return {row[0] for row in rows}


def open_queue(db: sqlite3.Connection, q: str | None) -> None:
    """Let messages land under a queue's key."""
    db.execute("INSERT OR IGNORE INTO leases VALUES (?, 0, NULL, 0)", (q,))


def remove_queue(db: sqlite3.Connection, q: str | None) -> None:
    """Remove everything that is kept under a queue's key; nothing lands there any more."""
    for table in ("messages", "tombstones", "leases"):
        db.execute(f"DELETE FROM {table} WHERE q = ?", (q,))  # nosec B608


def _check_alive(db: sqlite3.Connection, q: str) -> None:
    """Raises QueueGone."""
    if not db.execute("SELECT 1 FROM leases WHERE q = ?", (q,)).fetchone():
        raise QueueGone(q)


def _last(db: sqlite3.Connection, q: str) -> int:
    """The last landing position in use: of the messages there, and of those the lease has seen go."""
    return db.execute(
        sql(
            "SELECT max(coalesce((SELECT max(position) FROM messages WHERE q = :q), 0),"
            " coalesce((SELECT last FROM leases WHERE q = :q), 0))"
        ),
        {"q": q},
    ).fetchone()[0]


def _insert(db: sqlite3.Connection, q: str, messages: Sequence[Message]) -> set[str]:
    """Insert messages without a tombstone; the ids that were left out. The order of columns is the schema's."""
    left_out = set()
    for m in messages:
        if not db.execute(
            "INSERT INTO messages SELECT ?1, ?2, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
            " WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE q = ?1 AND id = ?2) ON CONFLICT (q, id) DO NOTHING",
            (q, m.id, m.seq, m.hidden_until, m.claim, m.claim_ttl, m.claims, m.posted, m.expires, m.client,
             m.key if m.encrypted and m.key else m.encrypted, m.body, m.properties),
        ).rowcount:
            left_out.add(m.id)
    return left_out
