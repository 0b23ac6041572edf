"""The side-store in one SQLite file."""

import contextlib
import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storage.errors import StoreMisconfigured, StoreUnavailable
from storage.sqlite import SQLiteStore
from storage.suite import HOUR, SideStoreSuite, add, created, ids_of, listed, new, new_claim, together
from tests.threads import DEADLINE, in_background

#: PRAGMA synchronous, as SQLite numbers it.
SYNCHRONOUS_FULL = 2

PROCESSES = 3
ROUNDS = 10

#: Seconds that a call may take in tests that wait for the timeout.
SHORT_TIMEOUT = 0.2


def open_store(path: Path | str, timeout: float = 5.0) -> SQLiteStore:
    return SQLiteStore(f"sqlite:///{path}", SimpleNamespace(timeout=timeout))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "marconi.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = open_store(path)
    yield store
    store.close()


class TestSQLiteStore(SideStoreSuite):
    """The promises of every side-store."""

    def lose_lease(self, store: Any, q: str) -> None:
        with store._database.read() as db:
            db.execute("DELETE FROM leases WHERE q = ?", (q,))


class TestFile:
    """Where the file is, and how it is written."""

    def test_commits_are_on_disk_when_they_return(self, store: SQLiteStore) -> None:
        with store._database.read() as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert db.execute("PRAGMA synchronous").fetchone() == (SYNCHRONOUS_FULL,)

    def test_three_slashes_are_a_path_from_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        store = open_store("data/marconi.db")
        store.ping()
        store.close()
        assert (tmp_path / "data" / "marconi.db").exists()

    def test_four_slashes_are_a_path_from_the_root(self, tmp_path: Path) -> None:
        store = SQLiteStore(f"sqlite:///{tmp_path}/new/folder/a.db", SimpleNamespace(timeout=5.0))
        store.ping()
        store.close()
        assert (tmp_path / "new" / "folder" / "a.db").exists()

    def test_percent_signs_escape(self, tmp_path: Path) -> None:
        store = open_store(f"{tmp_path}/with%20space.db")
        store.ping()
        store.close()
        assert (tmp_path / "with space.db").exists()

    @pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite://host/file", "sqlite:///file?mode=memory"])
    def test_what_is_no_path_is_refused(self, uri: str) -> None:
        with pytest.raises(StoreMisconfigured, match="sqlite:///relative/path"):
            SQLiteStore(uri, SimpleNamespace(timeout=5.0))

    def test_nothing_is_opened_before_the_first_call(self, path: Path) -> None:
        store = open_store(path)
        assert store.connections() == 0
        assert not path.exists()

    def test_data_is_there_after_reopening(self, path: Path) -> None:
        first = open_store(path)
        q = created(first, "p/q")
        (message,) = add(first, q, "m")
        first.close()
        second = open_store(path)
        assert second.landed.get_messages(q, ["m"]) == [message]
        assert second.catalogue.get_queue("p/q") is not None
        second.close()

    def test_housekeeping_removes_what_has_expired(self, store: SQLiteStore) -> None:
        q = created(store, "p/q")
        add(store, q, "dead", expires=store.now() - 1)
        add(store, q, "living")
        store.landed.tombstone(q, {"old": store.now() - 1, "new": store.now() + HOUR})
        assert store.maintain() == 1
        with store._database.read() as db:
            assert db.execute("SELECT id FROM messages").fetchall() == [("living",)]
            assert db.execute("SELECT id FROM tombstones").fetchall() == [("new",)]


class TestTrouble:
    """Every failure is a StoreUnavailable, and the store works again afterwards."""

    def test_file_that_is_no_database(self, path: Path) -> None:
        path.write_bytes(b"not a database" * 100)
        with pytest.raises(StoreUnavailable, match="not a database"):
            open_store(path).ping()

    def test_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreUnavailable):
            open_store(tmp_path / "file" / "marconi.db").ping()

    def test_writer_that_holds_the_file_for_too_long(self, path: Path) -> None:
        store = open_store(path, SHORT_TIMEOUT)
        q = created(store, "p/q")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            add(store, q, "m")
        assert store.catalogue.get_queue("p/q") is not None  # readers don't wait for writers
        other.execute("ROLLBACK")
        other.close()
        add(store, q, "m")
        assert listed(store, q) == ["m"]
        store.close()

    def test_file_that_somebody_else_is_just_making(self, path: Path) -> None:
        """Workers that start together on a new file meet while one of them switches it to the write-ahead log."""
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("CREATE TABLE anything (a)")
        other.execute("BEGIN EXCLUSIVE")
        store = open_store(path)
        ping = in_background(store.ping)
        with contextlib.suppress(TimeoutError):
            ping.result(SHORT_TIMEOUT)
        other.execute("COMMIT")
        ping.result(DEADLINE)
        other.close()
        store.close()

    def test_disk_that_is_full(self, store: SQLiteStore) -> None:
        q = created(store, "p/q")
        add(store, q, "before")
        with store._database.read() as db:
            (pages,) = db.execute("PRAGMA page_count").fetchone()
            (most,) = db.execute("PRAGMA max_page_count").fetchone()
            db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreUnavailable, match="full"):
            store.landed.append(q, [new(store, "small"), new(store, "large", body=b"0" * 2**20)])
        assert listed(store, q) == ["before"]
        with store._database.read() as db:
            db.execute(f"PRAGMA max_page_count = {most}")
        add(store, q, "after")
        assert listed(store, q) == ["before", "after"]

    def test_columns_are_those_of_earlier_versions(self, store: SQLiteStore) -> None:
        """Two versions of the gateway may use a file at the same time; statements alone have longer names."""
        store.ping()
        with store._database.read() as db:
            columns = {
                table: " ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
                for table in ("messages", "tombstones", "queues", "leases")
            }
        assert columns == {
            "messages": "q id s h c ct n p e u x b r", "tombstones": "q id e",
            "queues": "q project name metadata version incarnation", "leases": "q last owner until",
        }

    def test_file_of_an_earlier_version(self, path: Path) -> None:
        old = sqlite3.connect(path, isolation_level=None)
        old.executescript(
            "CREATE TABLE queues (q TEXT PRIMARY KEY, project TEXT NOT NULL, name TEXT NOT NULL,"
            " metadata BLOB NOT NULL, version INTEGER NOT NULL) WITHOUT ROWID;"
            "INSERT INTO queues VALUES ('p/q', 'p', 'q', x'7b7d', 1)"
        )
        old.close()
        store = open_store(path)
        queue = store.catalogue.get_queue("p/q")
        assert queue is not None and queue.key == "p/q", "its messages are where they were"
        add(store, created(store, "p/q"), "m")
        assert listed(store, "p/q") == ["m"]
        store.close()


class TestSharing:
    """Several threads and processes on one file."""

    def test_first_calls_of_many_threads_all_work(self, path: Path) -> None:
        store = open_store(path)
        together(*[lambda: store.catalogue.get_queue("p/q")] * 8)
        assert store.connections() == 8
        store.close()

    def test_change_that_fails_takes_nothing_of_others_along(self, store: SQLiteStore) -> None:
        """Changes of several threads are one transaction; here one of them breaks a constraint half-way."""
        def broken(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO leases VALUES ('p/broken', 1, NULL, 0)")
            db.execute("INSERT INTO leases VALUES ('p/broken', 2, NULL, 0)")

        def good(name: str) -> Callable[[sqlite3.Connection], str]:
            def change(db: sqlite3.Connection) -> str:
                db.execute("INSERT INTO leases VALUES (?, 1, NULL, 0)", (name,))
                return name

            return change

        first, failed, last = store._database._change([good("p/a"), broken, good("p/b")])

        assert (first, last) == ("p/a", "p/b")
        assert isinstance(failed, StoreUnavailable)
        with store._database.read() as db:
            assert db.execute("SELECT q FROM leases ORDER BY q").fetchall() == [("p/a",), ("p/b",)]

    def test_processes_share_a_new_file(self, path: Path) -> None:
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            claimed = pool.starmap_async(work, [(str(path), n) for n in range(PROCESSES)], 1).get(DEADLINE)
        store = open_store(path)
        posted = {f"{n}-{round_}" for n in range(PROCESSES) for round_ in range(ROUNDS)}
        taken = [id_ for ids in claimed for id_ in ids]
        free = ids_of(store.landed.find_free(created(store, "p/q"), 1000)[0])
        store.close()
        assert len(taken + free) == len(posted)
        assert set(taken + free) == posted


def work(path: str, process: int) -> list[str]:
    """What each process does: post a message and claim one, in turn; the ids it has got."""
    store = open_store(path)
    q = created(store, "p/q")
    got: list[str] = []
    for round_ in range(ROUNDS):
        add(store, q, f"{process}-{round_}")
        found, _ = store.landed.find_free(q, 1)
        got += ids_of(store.landed.claim(q, found, new_claim(store, f"claim-{process}-{round_}")))
    store.close()
    return got


#: URIs of what can't be an SQLite file, and a piece of the complaint. {} is a folder.
NO_FILES = [
    ("sqlite:///:memory:", "a file of its own"), ("sqlite:////:memory:", "a file of its own"),
    ("sqlite:///{}/:memory:", "a file of its own"), ("sqlite:///%3Amemory%3A", "a file of its own"),
    ("sqlite:///file:x", "a file of its own"), ("sqlite:///FILE:x?mode=memory", "sqlite:///relative/path"),
    ("sqlite:///file::memory:", "a file of its own"), ("sqlite:///a#b", "sqlite:///relative/path"),
    ("sqlite:///a%b", "sqlite:///relative/path"), ("sqlite:///a%00b", "control characters"),
    ("sqlite:///a\nb", "control characters"), ("sqlite:///%20", "control characters"), ("sqlite:///%ff", "sqlite:///"),
    ("sqlite:///~/marconi.db", "~ is not understood"), ("sqlite:///{}", "is a folder"),
    ("sqlite:///{}/", "is a folder"),
    ("sqlite:///{}/new/", "is a folder"), ("sqlite:///.", "is a folder"), ("sqlite:///..", "is a folder"),
    ("sqlite:////", "is a folder"), ("sqlite:////dev/null", "no regular file"), ("sqlite:///{}/text", "no SQLite file"),
    ("sqlite:///{}/text/x.db", "is no folder"), ("sqlite:///{}/text/x/y.db", "is no folder"),
    ("sqlite:///{}/gone", "unable to open"),
]


@pytest.mark.parametrize(("uri", "complaint"), NO_FILES)
def test_what_can_not_be_a_file_is_refused(uri: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be one")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere" / "at" / "all")
    with pytest.raises(StoreMisconfigured, match=complaint):
        SQLiteStore(uri.replace("{}", str(tmp_path)), SimpleNamespace(timeout=1.0)).prepare()


def test_what_can_not_be_opened_is_refused_at_the_start() -> None:
    store = SQLiteStore("sqlite:////proc/none/marconi.db", SimpleNamespace(timeout=1.0))
    with pytest.raises(StoreMisconfigured, match="/proc/none"):
        store.prepare()


def test_link_to_a_file_that_is_to_come_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    open_store(tmp_path / "link.db").prepare()
    assert (tmp_path / "real.db").is_file()


def test_start_leaves_nothing_open(path: Path) -> None:
    store = open_store(path)
    store.prepare()
    assert store.connections() == 0 and path.exists()
    store.ping()
    store.close()


@pytest.mark.parametrize(("code", "refused"), [
    (sqlite3.SQLITE_FULL, False), (sqlite3.SQLITE_BUSY, False), (sqlite3.SQLITE_IOERR, False),
    (sqlite3.SQLITE_CANTOPEN, True), (sqlite3.SQLITE_READONLY | 1 << 8, True), (sqlite3.SQLITE_NOTADB, True),
])
def test_start_waits_for_nobody_to_make_room(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, refused: bool
) -> None:
    def fail() -> None:
        error = sqlite3.OperationalError("x")
        error.sqlite_errorcode = code
        raise error

    store = open_store(path)
    monkeypatch.setattr(store._database, "_connect", fail)
    with pytest.raises(StoreMisconfigured) if refused else contextlib.nullcontext():
        store.prepare()
