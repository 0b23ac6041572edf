"""How messages land in an SQLite file: leases, positions, tombstones."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace

from storage.errors import LeaseLost, QueueGone
from storage.landed import LandedStore
from storage.model import Clock, Message, number
from storage.sqlite.database import Database
from storage.sqlite.schema import marks, sql

#: Tables with what there is of a key while it is open.
OPEN = ("leases", "bindings")


class SQLiteLanding(LandedStore):
    """The first part of the landed store: what adds messages. A queue has a lease, held or not, while it exists."""

    def __init__(self, database: Database, clock: Clock):
        super().__init__(clock, database.timeout)
        self._database = database

    def acquire_lease(self, q: str, owner: str, seconds: float, alone: bool = False) -> int | None:
        now = self.clock.now()

        def change(db: sqlite3.Connection) -> int | None:
            check_alive(db, q)
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

    def release_lease(self, q: str, owner: str, last: int, quick: bool = False) -> None:
        self._database.write(lambda db: release_lease(db, q, owner, last))

    def land(
        self, q: str, messages: Sequence[Message], owner: str | None = None, seen: float | None = None
    ) -> set[str]:
        def change(db: sqlite3.Connection) -> set[str]:
            check_alive(db, q)
            if owner is not None:
                check_lease(db, q, owner, self.clock.now())
            return _insert(db, q, messages)

        return self._database.write(change)

    def append(self, q: str, messages: Sequence[Message], again: bool = False) -> None:
        def change(db: sqlite3.Connection) -> None:
            known = _known(db, q, [message.id for message in messages]) if again else ()
            new = [message for message in messages if message.id not in known]
            _copy(db, q, new, self.clock.now())
            if not _append(db, q, new, self.clock.now()):
                raise QueueGone(q)

        self._database.write(change)

    def land_copied(self, q: str, messages: Sequence[Message], owner: str) -> None:
        def change(db: sqlite3.Connection) -> None:
            check_alive(db, q)
            check_lease(db, q, owner, self.clock.now())
            _copy(db, q, [replace(message) for message in messages], self.clock.now())
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
            check_alive(db, q)
            return _known(db, q, ids)


def open_queue(db: sqlite3.Connection, q: str, last: int = 0, copies: Sequence[str] = ()) -> None:
    """Let messages land under a queue's key, in positions after ``last``, and bind the keys ``copies`` to it."""
    db.execute("INSERT OR IGNORE INTO leases VALUES (?, ?, NULL, 0)", (q, last))
    for copy in copies:
        db.execute("INSERT OR IGNORE INTO bindings VALUES (?, ?)", (q, copy))
    if last:
        db.execute("UPDATE leases SET last = max(last, ?) WHERE q = ?", (last, q))


def close_queue(db: sqlite3.Connection, q: str) -> None:
    """Let nothing land under a queue's key any more."""
    for table in OPEN:
        db.execute(f"DELETE FROM {table} WHERE q = ?", (q,))  # nosec B608


def remove_queue(db: sqlite3.Connection, q: str | None) -> None:
    """Remove everything that is kept under a queue's key; nothing lands there any more."""
    for table in ("messages", "tombstones", *OPEN):
        db.execute(f"DELETE FROM {table} WHERE q = ?", (q,))  # nosec B608


def check_alive(db: sqlite3.Connection, q: str) -> None:
    """Raises QueueGone."""
    if not db.execute("SELECT 1 FROM leases WHERE q = ?", (q,)).fetchone():
        raise QueueGone(q)


def check_lease(db: sqlite3.Connection, q: str, owner: str, now: int) -> None:
    """Raises LeaseLost unless ``owner`` holds the lease at ``now`` (ms)."""
    if not db.execute("SELECT 1 FROM leases WHERE q = ? AND owner = ? AND until > ?", (q, owner, now)).fetchone():
        raise LeaseLost(q)


def release_lease(db: sqlite3.Connection, q: str, owner: str, last: int) -> None:
    """Give the lease back, if ``owner`` still holds it, and record the last position used."""
    db.execute(
        "UPDATE leases SET owner = NULL, until = 0, last = max(last, ?) WHERE q = ? AND owner = ?", (last, q, owner)
    )


def _known(db: sqlite3.Connection, q: str, ids: Sequence[str]) -> set[str]:
    """Those of the ids that have landed, or have a tombstone."""
    rows = db.execute(
        f"SELECT id FROM messages WHERE q = ? AND id IN ({marks(ids)})"  # nosec B608
        f" UNION SELECT id FROM tombstones WHERE q = ? AND id IN ({marks(ids)})",
        (q, *ids, q, *ids),
    )
    return {row[0] for row in rows}


def _last(db: sqlite3.Connection, q: str) -> int:
    """The last landing position in use: of the messages there, and of those the lease has seen go."""
    return db.execute(
        sql(
            "SELECT max(coalesce((SELECT max(position) FROM messages WHERE q = :q), 0),"
            " coalesce((SELECT last FROM leases WHERE q = :q), 0))"
        ),
        {"q": q},
    ).fetchone()[0]


def _append(db: sqlite3.Connection, q: str, messages: Sequence[Message], now: int) -> bool:
    """Insert messages after all others at ``now`` (ms), and set their ``seq``; False if the key is closed.

    Commits come one after the other here, so positions taken inside of one appear in order without a lease.
    """
    last = number(messages, _last(db, q), now)
    # Kept also for when the messages are gone: readers that have come so far would miss a position used again.
    if not db.execute("UPDATE leases SET last = max(last, ?) WHERE q = ?", (last, q)).rowcount:
        return False
    _insert(db, q, messages)
    return True


def _copy(db: sqlite3.Connection, q: str, messages: Sequence[Message], now: int) -> None:
    """Append messages to the keys bound to ``q``, except for those that are closed. Leaves another ``seq`` in them."""
    for (copy,) in db.execute("SELECT copy FROM bindings WHERE q = ?", (q,)).fetchall():
        _append(db, copy, messages, now)


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
        elif m.group or m.dedup_id:
            db.execute("INSERT OR REPLACE INTO grouped VALUES (?, ?, ?, ?)", (q, m.id, m.group, m.dedup_id))
    return left_out
