"""Side-store in one SQLite file: the embedded default, durable and safe for several worker processes.

Write-ahead log, ``synchronous=FULL``: a commit is on disk when it returns (https://sqlite.org/pragma.html). One write
transaction at a time is SQLite's own rule; it makes the lease and the order of landing positions simple here.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar
from uuid import uuid4

from oslo_config import cfg

from storage import forks
from storage.base import (
    MOST_METADATA,
    Claim,
    Message,
    Queue,
    Ring,
    SideStore,
    Stats,
    message_key,
    new_incarnation,
    number,
    split_name,
    within_bytes,
)
from storage.combining import Combiner
from storage.errors import LeaseLost, QueueGone, StoreError, StoreMisconfigured, StoreUnavailable, Unstorable
from storage.sqlite_path import PREFIX, check_file, read_path

T = TypeVar("T")

#: SQLite's own limit of parameters in a statement is 32766 since 3.32; pages and posts are far below.
SCHEMA = """
CREATE TABLE IF NOT EXISTS queues (
    q TEXT PRIMARY KEY, project TEXT NOT NULL, name TEXT NOT NULL, metadata BLOB NOT NULL, version INTEGER NOT NULL,
    incarnation TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS queues_by_name ON queues (project, name);
CREATE TABLE IF NOT EXISTS messages (
    q TEXT NOT NULL, id TEXT NOT NULL, s INTEGER NOT NULL, h INTEGER NOT NULL, c TEXT, ct INTEGER NOT NULL,
    n INTEGER NOT NULL, p INTEGER NOT NULL, e INTEGER NOT NULL, u TEXT NOT NULL, x INTEGER NOT NULL, b BLOB NOT NULL,
    r BLOB
);
CREATE UNIQUE INDEX IF NOT EXISTS messages_by_id ON messages (q, id);
CREATE INDEX IF NOT EXISTS messages_by_visibility ON messages (q, h, s);
CREATE INDEX IF NOT EXISTS messages_by_position ON messages (q, s);
CREATE INDEX IF NOT EXISTS messages_by_claim ON messages (c) WHERE c IS NOT NULL;
CREATE INDEX IF NOT EXISTS messages_by_expiry ON messages (e);
CREATE TABLE IF NOT EXISTS tombstones (q TEXT, id TEXT, e INTEGER NOT NULL, PRIMARY KEY (q, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tombstones_by_expiry ON tombstones (e);
CREATE TABLE IF NOT EXISTS bridged (q TEXT PRIMARY KEY, mark TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
    q TEXT PRIMARY KEY, last INTEGER NOT NULL, owner TEXT, until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS locks (name TEXT PRIMARY KEY, owner TEXT, until INTEGER NOT NULL) WITHOUT ROWID;
"""

#: Columns that files of earlier versions of the gateway lack: table, column, definition.
ADDED = (("queues", "incarnation", "TEXT NOT NULL DEFAULT ''"),)

#: Milliseconds for which it is remembered when a lock was given up.
LOCKS_KNOWN_FOR = 60_000
#: Part of the timeout of which it does not matter whether it has passed already.
NEARLY_ALL = 0.9

#: Errors of SQLite that don't get better by themselves.
LASTING = frozenset({
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
})

#: Seconds between two tries to switch a new file to write-ahead logging.
WAL_RETRY = 0.01

#: What Python and SQLite raise for a value that is too large, or no text, before they store anything of it.
UNSTORABLE = (sqlite3.DataError, OverflowError, UnicodeEncodeError)

#: Steps of SQLite between two looks at the clock, in statements that may read all there is: some milliseconds.
INSTRUCTIONS = 100_000

#: What the statements below are put together from are constants and question marks, never input: hence nosec B608.
COLUMNS = "id, p, e, b, u, x, s, h, c, ct, n, r"
QUEUE = "name, metadata, version, q, incarnation"

#: Column x is 0 or 1 for a message that is not encrypted, or with nobody knows what, and else text: its key. Not by
#: this ring is what bears the id of another key, or the ring's own.
NOT_BY_RING = "typeof(x) = 'text' AND ((substr(x, 1, 1) = 'k' AND substr(x, 1, 16) NOT IN ({})) OR instr(x, ?) > 0)"


class SQLiteStore(SideStore):
    """``sqlite:///relative/path`` or ``sqlite:////absolute/path``."""

    OPTS = (
        cfg.FloatOpt(
            "timeout", default=5.0, min=0.1, max=60.0,
            help="Seconds that one call to the side-store may take before the request is answered 503.",
        ),
    )

    def __init__(self, uri: str, options: Any):
        self.path = read_path(uri)
        self.timeout = options.timeout
        self._local = threading.local()
        self._changes: Combiner[Callable[[sqlite3.Connection], Any], Any] = Combiner(self._change, self.timeout)
        self._pages: Combiner[tuple[Any, ...], Sequence[Message]] = Combiner(self._list, self.timeout)
        self._open: list[sqlite3.Connection] = []
        self._open_lock = threading.Lock()
        forks.watch(self)

    # -- connections --------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        forks.check()
        folder = os.path.dirname(self.path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        # A connection stays with its thread, but is closed by whichever thread closes the store.
        db = sqlite3.connect(self.path, timeout=self.timeout, isolation_level=None, check_same_thread=False)
        start = time.monotonic()
        self._switch_to_wal(db)
        db.execute("PRAGMA synchronous=FULL")
        # What a statement may have to take back would go to a temporary file: 200 writes for a post of 20 messages.
        db.execute("PRAGMA temp_store=MEMORY")
        # One timeout for both: either may wait for another process.
        self._wait(db, max(0.0, self.timeout - (time.monotonic() - start)))
        db.executescript(SCHEMA)
        _migrate(db)
        self._wait(db, self.timeout)
        with self._open_lock:
            self._open.append(db)
        return db

    def _switch_to_wal(self, db: sqlite3.Connection) -> None:
        """Of processes that open a new file at the same moment one succeeds: this pragma ignores the busy timeout."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(WAL_RETRY)

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        try:
            db = getattr(self._local, "db", None)
            if db is None:
                db = self._local.db = self._connect()
            yield db
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error

    def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """The result of a change, once it is on disk. Raises Unstorable."""
        result: T = self._changes.do(change)
        return result

    def _change(self, changes: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        """Make changes that several threads want at this moment in one transaction: one wait for the disk for all.

        One that fails takes back its own part alone.
        """
        results: list[Any] = []
        with self._read() as db:
            self._begin(db)
            try:
                if len(changes) == 1:  # the transaction is its savepoint
                    results.append(self._changed(db, changes[0]))
                else:
                    results += [self._part(db, change) for change in changes]
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        return results

    def _part(self, db: sqlite3.Connection, change: Callable[[sqlite3.Connection], Any]) -> Any:
        """The result of one change among several, or the StoreError for which it was taken back."""
        db.execute("SAVEPOINT change")
        result: Any
        try:
            result = self._changed(db, change)
        except StoreError as error:
            db.execute("ROLLBACK TO change")
            result = error
        db.execute("RELEASE change")
        return result

    def _changed(self, db: sqlite3.Connection, change: Callable[[sqlite3.Connection], Any]) -> Any:
        """The result of a change. Raises StoreError for what is wrong with it alone, and else what SQLite raises."""
        try:
            return change(db)
        except UNSTORABLE as error:  # of this change alone, whatever else is in the transaction
            raise Unstorable(f"SQLite file {self.path}: {error}") from error
        except sqlite3.Error as error:
            if not db.in_transaction:  # a full disk, say, has ended all of it
                raise
            raise self._unavailable(error) from error

    def _begin(self, db: sqlite3.Connection) -> None:
        """Begin to write; other processes may take what is left of the time to end their writing."""
        left = self._changes.left
        if left > NEARLY_ALL * self.timeout:
            db.execute("BEGIN IMMEDIATE")
            return
        self._wait(db, left)
        try:
            db.execute("BEGIN IMMEDIATE")
        finally:
            self._wait(db, self.timeout)

    @staticmethod
    def _wait(db: sqlite3.Connection, seconds: float) -> None:
        """How long statements wait for other processes from now on."""
        db.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"SQLite file {self.path}: {error}")

    def ping(self) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM leases WHERE q = ''")

        self._write(change)

    def prepare(self) -> None:
        """Open the file once, and keep nothing open: the process may fork. A full disk or a busy file may pass."""
        check_file(self.path)
        try:
            db = self._connect()
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is None or code & 0xFF in LASTING:
                raise StoreMisconfigured(f"[side_store] uri: {self._unavailable(error)}") from error
            return
        with self._open_lock:
            self._open.remove(db)
        db.close()

    def describe(self) -> str:
        return f"{PREFIX}{self.path}"

    def close(self) -> None:
        with self._open_lock:
            for db in self._open:
                db.close()
            self._open.clear()

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def maintain(self) -> int:
        now = self.now()

        def change(db: sqlite3.Connection) -> int:
            db.execute("DELETE FROM tombstones WHERE e <= ?", (now,))
            db.execute("DELETE FROM locks WHERE until <= ?", (now - LOCKS_KNOWN_FOR,))
            return db.execute("DELETE FROM messages WHERE e <= ?", (now,)).rowcount

        return self._write(change)

    def connections(self) -> int:
        return len(self._open)

    # -- queues -------------------------------------------------------------------------------------------------

    def lock(self, name: str, owner: str, seconds: float) -> int | None:
        def change(db: sqlite3.Connection) -> int | None:
            now = self.now()
            row = db.execute("SELECT until FROM locks WHERE name = ?", (name,)).fetchone()
            if row is not None and row[0] > now:
                return None
            db.execute("INSERT OR REPLACE INTO locks VALUES (?, ?, ?)", (name, owner, now + int(seconds * 1000)))
            return row[0] if row is not None else 0

        return self._write(change)

    def unlock(self, name: str, owner: str, after: float = 0.0) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE locks SET owner = NULL, until = ? WHERE name = ? AND owner = ?",
                (self.now() + int(after * 1000), name, owner),
            )

        self._write(change)

    def create_queue(self, q: str, metadata: bytes | None) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            now = self.now()
            # Versions begin with the time, so that none of a deleted queue comes again.
            made = db.execute(
                "INSERT OR IGNORE INTO queues VALUES (?, ?, ?, ?, ?, ?)",
                (q, *split_name(q), metadata or b"{}", now, new_incarnation(now)),
            ).rowcount
            if not made and metadata is not None:
                db.execute("UPDATE queues SET metadata = ?, version = version + 1 WHERE q = ?", (metadata, q))
            db.execute("INSERT OR IGNORE INTO leases VALUES (?, 0, NULL, 0)", (self._key(db, q),))
            return bool(made)

        return self._write(change)

    @staticmethod
    def _key(db: sqlite3.Connection, q: str) -> str | None:
        row = db.execute("SELECT incarnation FROM queues WHERE q = ?", (q,)).fetchone()
        return message_key(q, row[0]) if row else None

    def get_queue(self, q: str) -> Queue | None:
        with self._read() as db:
            row = db.execute(f"SELECT {QUEUE} FROM queues WHERE q = ?", (q,)).fetchone()  # nosec B608
        return _queue(row) if row else None

    def replace_metadata(self, q: str, metadata: bytes, version: int) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            return bool(db.execute(
                "UPDATE queues SET metadata = ?, version = version + 1 WHERE q = ? AND version = ?",
                (metadata, q, version),
            ).rowcount)

        return self._write(change)

    def delete_queue(self, q: str) -> None:
        def change(db: sqlite3.Connection) -> None:
            key = self._key(db, q)
            db.execute("DELETE FROM queues WHERE q = ?", (q,))
            for table in ("messages", "tombstones", "leases"):
                db.execute(f"DELETE FROM {table} WHERE q = ?", (key,))  # nosec B608

        self._write(change)

    def list_queues(
        self, project: str, after: str, limit: int, part: str = "", most_bytes: int = MOST_METADATA
    ) -> list[Queue]:
        with self._read() as db, closing(db.execute(
            f"SELECT {QUEUE} FROM queues WHERE project = ? AND name > ? AND instr(name, ?)"  # nosec B608
            " ORDER BY name LIMIT ?",
            (project, after, part, limit),
        )) as rows:
            return within_bytes((_queue(row) for row in rows), most_bytes)

    def list_names(self, project: str, after: str, limit: int, part: str = "") -> list[str]:
        with self._read() as db:
            rows = db.execute(
                "SELECT name FROM queues WHERE project = ? AND name > ? AND instr(name, ?) ORDER BY name LIMIT ?",
                (project, after, part, limit),
            )
            return [name for (name,) in rows]

    def count_queues(self, project: str, part: str = "") -> int:
        with self._read() as db:
            return db.execute(
                "SELECT count(*) FROM queues WHERE project = ? AND instr(name, ?)", (project, part)
            ).fetchone()[0]

    def queue_keys(self, after: str, limit: int) -> list[str]:
        with self._read() as db:
            return [q for (q,) in db.execute("SELECT q FROM queues WHERE q > ? ORDER BY q LIMIT ?", (after, limit))]

    # -- queues that read from an exchange of others -------------------------------------------------------------

    def mark_bridged(self, q: str) -> str:
        mark = uuid4().hex
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO bridged VALUES (?, ?)", (q, mark)).rowcount)
        return mark

    def list_bridged(self, after: str, limit: int) -> list[tuple[str, str]]:
        with self._read() as db:
            return db.execute("SELECT q, mark FROM bridged WHERE q > ? ORDER BY q LIMIT ?", (after, limit)).fetchall()

    def unmark_bridged(self, q: str, mark: str) -> None:
        self._write(lambda db: db.execute("DELETE FROM bridged WHERE q = ? AND mark = ?", (q, mark)).rowcount)

    # -- landing ------------------------------------------------------------------------------------------------

    def acquire_lease(self, q: str, owner: str, seconds: float) -> int | None:
        now = self.now()

        def change(db: sqlite3.Connection) -> int | None:
            self._check_alive(db, q)
            row = db.execute(
                "UPDATE leases SET owner = ?, until = ? WHERE q = ? AND (owner IS NULL OR until <= ?) RETURNING last",
                (owner, now + int(seconds * 1000), q, now),
            ).fetchone()
            # An append in between (it needs no lease here) may have gone further than the last holder of the lease.
            return None if row is None else max(row[0], self._last(db, q))

        return self._write(change)

    def renew_lease(self, q: str, owner: str, seconds: float) -> bool:
        now = self.now()

        def change(db: sqlite3.Connection) -> bool:
            return db.execute(
                "UPDATE leases SET until = ? WHERE q = ? AND owner = ? AND until > ?",
                (now + int(seconds * 1000), q, owner, now),
            ).rowcount == 1

        return self._write(change)

    def release_lease(self, q: str, owner: str, last: int) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE leases SET owner = NULL, until = 0, last = max(last, ?) WHERE q = ? AND owner = ?",
                (last, q, owner),
            )

        self._write(change)

    def land(
        self, q: str, messages: Sequence[Message], owner: str | None = None, seen: float | None = None
    ) -> set[str]:
        def change(db: sqlite3.Connection) -> set[str]:
            self._check_alive(db, q)
            if owner is not None and not db.execute(
                "SELECT 1 FROM leases WHERE q = ? AND owner = ? AND until > ?", (q, owner, self.now())
            ).fetchone():
                raise LeaseLost(q)
            return self._insert(db, q, messages)

        return self._write(change)

    def append(self, q: str, messages: Sequence[Message]) -> None:
        # Commits come one after the other here, so positions taken inside of one appear in order without a lease.
        def change(db: sqlite3.Connection) -> None:
            last = number(messages, self._last(db, q), self.now())
            # Kept also for when the messages are gone: whoever has read that far would miss a position used again.
            if not db.execute("UPDATE leases SET last = max(last, ?) WHERE q = ?", (last, q)).rowcount:
                raise QueueGone(q)
            self._insert(db, q, messages)

        self._write(change)

    @staticmethod
    def _check_alive(db: sqlite3.Connection, q: str) -> None:
        """Raises QueueGone. A queue has a lease, held or not, as long as it lives."""
        if not db.execute("SELECT 1 FROM leases WHERE q = ?", (q,)).fetchone():
            raise QueueGone(q)

    @staticmethod
    def _last(db: sqlite3.Connection, q: str) -> int:
        """The last landing position in use: of the messages there, and of those the lease has seen go."""
        return db.execute(
            "SELECT max(coalesce((SELECT max(s) FROM messages WHERE q = :q), 0),"
            " coalesce((SELECT last FROM leases WHERE q = :q), 0))",
            {"q": q},
        ).fetchone()[0]

    @staticmethod
    def _insert(db: sqlite3.Connection, q: str, messages: Sequence[Message]) -> set[str]:
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

    def free(self, q: str, limit: int, ring: Ring | None = None) -> tuple[list[Message], bool]:
        now = self.now()
        opened, marks = _opened_by(ring)
        with self._read() as db:
            over = db.execute("SELECT 1 FROM messages WHERE q = ? AND h > 0 AND h <= ? LIMIT 1", (q, now)).fetchone()
        if over:
            def change(db: sqlite3.Connection) -> None:
                db.execute(
                    "UPDATE messages SET h = 0, c = NULL, ct = 0 WHERE q = ? AND h > 0 AND h <= ?", (q, now)
                )

            self._write(change)
        with self._read() as db:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM messages WHERE q = ? AND h = 0 AND e > ?{opened}"  # nosec B608
                " ORDER BY s LIMIT ?",
                (q, now, *marks, limit),
            )
            messages = [_message(row) for row in rows]
            lease = db.execute("SELECT owner IS NOT NULL AND until > ? FROM leases WHERE q = ?", (now, q)).fetchone()
        if lease is None and len(messages) < limit:
            raise QueueGone(q)
        return messages, lease is not None and bool(lease[0])

    def claim(self, q: str, messages: Sequence[Message], claim: Claim) -> list[Message]:
        def change(db: sqlite3.Connection) -> list[Message]:
            got = []
            for message in messages:
                row = db.execute(
                    "UPDATE messages SET h = ?, c = ?, ct = ?, n = n + 1, e = max(e, ?)"  # nosec B608
                    f" WHERE q = ? AND id = ? AND h = 0 RETURNING {COLUMNS}",
                    (claim.expires, claim.id, claim.ttl, claim.keep_until, q, message.id),
                ).fetchone()
                if row:
                    got.append(_message(row))
            return got

        return self._write(change)

    # -- reading and deleting -----------------------------------------------------------------------------------

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
        """The same page for all who want it at this moment."""
        q, after, limit, not_from, claimed, delayed, ring = calls[0]
        now = self.now()
        where = "q = ? AND s > ? AND e > ?"
        values: list[Any] = [q, after, now]
        if not_from is not None:
            where += " AND u <> ?"
            values.append(not_from)
        if not claimed:
            where += " AND (h <= ? OR c IS NULL)"
            values.append(now)
        if not delayed:
            where += " AND (h <= ? OR c IS NOT NULL)"
            values.append(now)
        opened, marks = _opened_by(ring)
        where += opened
        values += marks
        with self._read() as db:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM messages WHERE {where} ORDER BY s LIMIT ?", (*values, limit)  # nosec B608
            ).fetchall()
        return [[_message(row) for row in rows]] * len(calls)

    def get_messages(self, q: str, ids: Sequence[str]) -> list[Message]:
        with self._read() as db:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM messages WHERE q = ? AND e > ? AND id IN ({_marks(ids)})",  # nosec B608
                (q, self.now(), *ids),
            )
            return [_message(row) for row in rows]

    def known(self, q: str, ids: Sequence[str]) -> set[str]:
        with self._read() as db:
            self._check_alive(db, q)
            rows = db.execute(
                f"SELECT id FROM messages WHERE q = ? AND id IN ({_marks(ids)})"  # nosec B608
                f" UNION SELECT id FROM tombstones WHERE q = ? AND id IN ({_marks(ids)})",
                (q, *ids, q, *ids),
            )
            return {row[0] for row in rows}

    def mark(self, q: str, messages: Sequence[Message]) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.executemany(
                "UPDATE messages SET x = ? WHERE q = ? AND id = ?", [(m.key or True, q, m.id) for m in messages]
            )

        self._write(change)

    def newest(self, q: str) -> Message | None:
        return self._edge(q, "DESC")

    def _edge(self, q: str, order: str) -> Message | None:
        with self._read() as db:
            row = db.execute(
                f"SELECT {COLUMNS} FROM messages WHERE q = ? AND e > ? ORDER BY s {order} LIMIT 1",  # nosec B608
                (q, self.now()),
            ).fetchone()
        return _message(row) if row else None

    def delete_unclaimed(self, q: str, ids: Sequence[str]) -> int:
        def change(db: sqlite3.Connection) -> int:
            return db.execute(
                "DELETE FROM messages WHERE q = ? AND (c IS NULL OR h <= ?)"  # nosec B608
                f" AND id IN ({_marks(ids)})",
                (q, self.now(), *ids),
            ).rowcount

        return self._write(change)

    def delete_claimed(self, q: str, ids: Sequence[str], claims: Sequence[str]) -> int:
        def change(db: sqlite3.Connection) -> int:
            return db.execute(
                f"DELETE FROM messages WHERE q = ? AND h > ? AND id IN ({_marks(ids)})"  # nosec B608
                f" AND +c IN ({_marks(claims)})",
                (q, self.now(), *ids, *claims),
            ).rowcount

        return self._write(change)

    def tombstone(self, q: str, expires: Mapping[str, int]) -> set[str]:
        def change(db: sqlite3.Connection) -> set[str]:
            landed = set()
            for id_, until in expires.items():
                if db.execute("SELECT 1 FROM messages WHERE q = ? AND id = ?", (q, id_)).fetchone():
                    landed.add(id_)
                else:
                    db.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", (q, id_, until))
            return landed

        return self._write(change)

    def purge(self, q: str) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM messages WHERE q = ?", (q,))
            db.execute("DELETE FROM tombstones WHERE q = ?", (q,))

        self._write(change)

    def stats(self, q: str) -> Stats:
        free, claimed, delayed = self._counts("q = ? AND ", (q,))
        return Stats(free, claimed, delayed, self._edge(q, "ASC"), self.newest(q))

    def volume(self) -> Stats:
        return Stats(*self._counts("", ()))

    def _counts(self, condition: str, values: tuple[str, ...]) -> tuple[int, int, int]:
        """Living messages that fulfil a condition: free, claimed and delayed ones. Takes no longer than ``timeout``."""
        now = self.now()
        deadline = time.monotonic() + self.timeout
        with self._read() as db:
            db.set_progress_handler(lambda: time.monotonic() > deadline, INSTRUCTIONS)
            try:
                total, claimed, delayed = db.execute(
                    "SELECT count(*), coalesce(sum(h > ? AND c IS NOT NULL), 0),"  # nosec B608
                    f" coalesce(sum(h > ? AND c IS NULL), 0) FROM messages WHERE {condition}e > ?",
                    (now, now, *values, now),
                ).fetchone()
            finally:
                db.set_progress_handler(None, 0)
        return total - claimed - delayed, claimed, delayed

    # -- claims -------------------------------------------------------------------------------------------------

    def get_claim(self, q: str, claim_id: str) -> list[Message]:
        now = self.now()
        with self._read() as db:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM messages WHERE c = ? AND q = ? AND h > ? AND e > ? ORDER BY s",  # nosec B608
                (claim_id, q, now, now),
            )
            return [_message(row) for row in rows]

    def renew_claim(self, q: str, claim: Claim) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            return bool(db.execute(
                "UPDATE messages SET h = ?, ct = ?, e = max(e, ?) WHERE c = ? AND q = ? AND h > ?",
                (claim.expires, claim.ttl, claim.keep_until, claim.id, q, self.now()),
            ).rowcount)

        return self._write(change)

    def release_claim(self, q: str, claim_id: str) -> int:
        def change(db: sqlite3.Connection) -> int:
            return db.execute(
                "UPDATE messages SET h = 0, c = NULL, ct = 0 WHERE c = ? AND q = ?", (claim_id, q)
            ).rowcount

        return self._write(change)


def _migrate(db: sqlite3.Connection) -> None:
    """Add the columns that a file of an earlier version lacks."""
    for table, column, definition in ADDED:
        if column not in {row[1] for row in db.execute(f"PRAGMA table_info({table})")}:
            try:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {definition}")
            except sqlite3.OperationalError as error:
                if "duplicate column" not in str(error):  # another process has just added it
                    raise


def _queue(row: tuple[Any, ...]) -> Queue:
    name, metadata, version, q, incarnation = row
    return Queue(name, metadata, version, message_key(q, incarnation))


def _opened_by(ring: Ring | None) -> tuple[str, list[str]]:
    """A condition, and its values: what a ring may open."""
    if ring is None:
        return "", []
    return f" AND NOT ({NOT_BY_RING.format(_marks(ring.keys))})", [*ring.keys, f"?{ring.id}"]


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _message(row: tuple[Any, ...]) -> Message:
    id_, posted, expires, body, client, encrypted, seq, hidden, claim, ttl, claims, properties = row
    key = encrypted if isinstance(encrypted, str) else ""
    return Message(
        id_, posted, expires, body, client, bool(encrypted), seq, hidden, claim, ttl, claims, properties, key
    )
