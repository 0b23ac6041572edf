"""An SQLite file: connections, transactions, and changes of several threads combined into one transaction.

Write-ahead log, ``synchronous=FULL``: a commit is on disk when it returns (https://sqlite.org/pragma.html). One write
transaction at a time is SQLite's own rule; it makes the lease and the order of landing positions simple here.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from storage.combining import Combiner
from storage.errors import StoreError, StoreMisconfigured, StoreUnavailable, Unstorable
from storage.sqlite import forks
from storage.sqlite.path import check_file
from storage.sqlite.schema import prepare_tables

T = TypeVar("T")

#: A part of a transaction; it gets the connection, and its result is that of Database.write.
Change = Callable[[sqlite3.Connection], T]

#: If at least this share of the timeout is left, we leave the timeout as it is, because changing it would cost more
#: time.
NEARLY_ALL = 0.9

#: Errors of SQLite that don't pass by themselves.
LASTING = frozenset({
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
})

#: Seconds between two looks whether a connection that is to be closed is still in use.
ENDING = 0.001

#: Seconds between two attempts to switch a new file to write-ahead logging.
WAL_RETRY = 0.01

#: Exceptions of Python and SQLite for a value that is too large or not valid text. Nothing has been stored then.
UNSTORABLE = (sqlite3.DataError, OverflowError, UnicodeEncodeError)


class Database:
    """A file. Each thread has a connection of its own, which is opened on first use."""

    def __init__(self, path: str, timeout: float):
        """``timeout``: seconds that one call may take."""
        self.path = path
        self.timeout = timeout
        self._local = threading.local()
        self._changes: Combiner[Change[Any], Any] = Combiner(self._change, timeout)
        self._open: list[sqlite3.Connection] = []
        self._open_lock = threading.Lock()
        #: Connections that their threads use just now.
        self._used: set[sqlite3.Connection | None] = set()
        self._is_closed = False
        forks.watch(self)

    # -- transactions -------------------------------------------------------------------------------------------

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection. Raises StoreUnavailable for whatever SQLite raises."""
        try:
            db = getattr(self._local, "db", None)
            if db is None and not self._is_closed:
                db = self._local.db = self._connect()
            self._used.add(db)
            if db is None or self._is_closed:
                raise StoreUnavailable(f"SQLite file {self.path}: it has been closed")
            yield db
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error
        finally:
            self._used.discard(db)

    def write(self, change: Change[T]) -> T:
        """The result of a change, once it is on disk. Raises StoreUnavailable, Unstorable, and any StoreError in it."""
        result: T = self._changes.do(change)
        return result

    def _change(self, changes: Sequence[Change[Any]]) -> list[Any]:
        """Make changes that several threads want at this moment in one transaction: one wait for the disk for all.

        A change that fails is taken back alone.
        """
        results: list[Any] = []
        with self.read() as db:
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

    def _part(self, db: sqlite3.Connection, change: Change[Any]) -> Any:
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

    def _changed(self, db: sqlite3.Connection, change: Change[Any]) -> Any:
        """The result of a change. Raises StoreError for what is wrong with it alone, and else what SQLite raises."""
        try:
            return change(db)
        except UNSTORABLE as error:  # of this change alone, whatever else is in the transaction
            raise Unstorable(f"SQLite file {self.path}: {error}") from error
        except sqlite3.Error as error:
            if not db.in_transaction:  # a full disk, for example, has ended the whole transaction
                raise
            raise self._unavailable(error) from error

    def _begin(self, db: sqlite3.Connection) -> None:
        """Begin to write. Other processes that write may take the rest of the time to finish."""
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
        """Set how long statements wait for other processes from now on."""
        db.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"SQLite file {self.path}: {error}")

    # -- connections --------------------------------------------------------------------------------------------

    def try_to_open(self) -> None:
        """Open the file once, and keep nothing open: the process may fork. Raises StoreMisconfigured.

        A full disk or a busy file is no reason to raise: both may pass.
        """
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

    def close(self) -> None:
        """Close the connections of all threads, each as soon as its thread does not use it: else SQLite may crash."""
        self._is_closed = True
        deadline = time.monotonic() + self.timeout
        with self._open_lock:
            for db in self._open:
                while db in self._used and time.monotonic() < deadline:
                    time.sleep(ENDING)
                if db not in self._used:
                    db.close()
            self._open.clear()

    @property
    def open_connections(self) -> int:
        """Number of connections that are open now."""
        return len(self._open)

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
        prepare_tables(db)
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
