"""The side-store in one SQLite file."""

import contextlib
import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storage.errors import StoreMisconfigured, StoreUnavailable, Unstorable
from storage.model import DEFAULT_POOL
from storage.sqlite import SQLiteStore
from storage.suite import (
    HOUR,
    GroupCrowd,
    SideStoreSuite,
    add,
    add_groups,
    created,
    ids_of,
    listed,
    new,
    new_claim,
    take,
    together,
)
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

    def test_append_that_fails_leaves_no_copies(self, store: SQLiteStore) -> None:
        q = created(store, "p/q")
        store.landed.open_queue("p/q/~1")
        store.landed.bind(q, "p/q/~1")
        with pytest.raises(Unstorable):
            store.landed.append(q, [new(store, "good"), new(store, "bad", posted=2**64)])
        assert listed(store, q) == listed(store, "p/q/~1") == []
        add(store, q, "after")
        assert listed(store, q) == listed(store, "p/q/~1") == ["after"]

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
        assert queue.notifies is False
        add(store, created(store, "p/q"), "m")
        store.landed.open_queue("p/q/~1")
        store.landed.bind("p/q", "p/q/~1")
        assert store.catalogue.set_notifies("p/q") is True
        add(store, "p/q", "n")
        assert (listed(store, "p/q"), listed(store, "p/q/~1")) == (["m", "n"], ["n"])
        store.close()

    def test_queue_that_an_earlier_version_creates_again_has_no_pool_and_no_move(self, store: SQLiteStore) -> None:
        """Earlier versions know neither, and delete and insert queues as here."""
        store.catalogue.create_queue("p/q", None, "pool-1")
        store.catalogue.change_move("p/q", None, b"move")
        with store._database.read() as db:
            db.execute("DELETE FROM queues WHERE q = 'p/q'")
            db.execute("INSERT OR IGNORE INTO queues VALUES ('p/q', 'p', 'q', x'7b7d', 1, 'another')")
        queue = store.catalogue.get_queue("p/q")
        assert queue is not None and (queue.pool, queue.move) == (DEFAULT_POOL, None)
        assert store.catalogue.list_moving("", 10) == store.catalogue.list_in_pool("pool-1", "", 10) == []
        assert store.catalogue.list_in_pool(DEFAULT_POOL, "", 10) == ["p/q"]
        assert store.catalogue.change_move("p/q", None, b"new") is True
        assert store.catalogue.list_moving("", 10) == ["p/q"]

    def test_queue_that_an_earlier_version_creates_again_does_not_notify(self, store: SQLiteStore) -> None:
        created(store, "p/q")
        store.catalogue.set_notifies("p/q")
        with store._database.read() as db:
            db.execute("DELETE FROM queues WHERE q = 'p/q'")
            db.execute("INSERT OR IGNORE INTO queues VALUES ('p/q', 'p', 'q', x'7b7d', 1, 'another')")
        for notifies in (False, True):
            queue = store.catalogue.get_queue("p/q")
            assert queue is not None and queue.notifies is notifies
            assert store.catalogue.set_notifies("p/q") is True

    def test_file_of_a_version_without_groups(self, path: Path) -> None:
        """It has messages, and a gateway of that version goes on to insert and delete some."""
        old = sqlite3.connect(path, isolation_level=None)
        old.executescript(
            "CREATE TABLE messages (q TEXT NOT NULL, id TEXT NOT NULL, s INTEGER NOT NULL, h INTEGER NOT NULL, c TEXT,"
            " ct INTEGER NOT NULL, n INTEGER NOT NULL, p INTEGER NOT NULL, e INTEGER NOT NULL, u TEXT NOT NULL,"
            " x INTEGER NOT NULL, b BLOB NOT NULL, r BLOB)"
        )
        insert = "INSERT INTO messages VALUES ('p/q', ?, ?, 0, NULL, 0, 0, 1, 9e15, '', 0, x'31', NULL)"
        old.execute(insert, ("old", 1))
        store = open_store(path)
        store.landed.open_queue("p/q")
        add_groups(store, "p/q", "a1", "a2")
        old.execute(insert, ("late", 2))
        old.execute("DELETE FROM messages WHERE q = 'p/q' AND id = 'a1'")
        assert [(m.id, m.group) for m in store.landed.find_in_groups("p/q", 10).messages] == [
            ("old", ""), ("late", ""), ("a2", "a"),
        ]
        assert old.execute("SELECT id FROM grouped").fetchall() == [("a2",)]
        old.close()
        store.close()

    def test_housekeeping_removes_groups_and_reservations_that_have_expired(self, store: SQLiteStore) -> None:
        q = created(store, "p/q")
        add_groups(store, q, "a1", expires=store.now() - 1)
        add_groups(store, q, "b1")
        store.catalogue.reserve("p", {"old": b""}, store.now() - 1, 1)
        store.catalogue.reserve("p", {"new": b""}, store.now() + HOUR, 1)
        assert store.maintain() == 1
        with store._database.read() as db:
            assert db.execute("SELECT id FROM grouped").fetchall() == [("b1",)]
            assert db.execute("SELECT name FROM reservations").fetchall() == [("new",)]

    @pytest.mark.parametrize(
        "call",
        [
            lambda store: store.catalogue.get_queue("p/q"),
            lambda store: store.catalogue.list_moving("p/q", 10),
            lambda store: store.catalogue.list_in_pool("pool-1", "p/q", 10),
            lambda store: store.catalogue.list_in_pool(DEFAULT_POOL, "p/q", 10),
            lambda store: store.catalogue.list_queues("p", "", 10),
            lambda store: store.catalogue.list_records("pool", "", 10),
            lambda store: store.landed.export("p/q", 0, 10),
            lambda store: store.landed.list_tombstones("p/q", "", 10),
            lambda store: store.landed.bound("p/q"),
            lambda store: store.landed.list_messages("p/q", 0, 10),
        ],
        ids=["get", "moving", "pool", "default-pool", "list", "records", "export", "tombstones", "bound", "messages"],
    )
    def test_reads_are_one_statement_that_its_indexes_answer_in_order(
        self, store: SQLiteStore, call: Callable[[SQLiteStore], Any]
    ) -> None:
        with store._database.read() as db:
            statements: list[str] = []
            db.set_trace_callback(statements.append)
            call(store)
            db.set_trace_callback(None)
            (statement,) = statements
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert plan and all(step.startswith("SEARCH") for step in plan), plan

    def test_groups_are_read_from_the_index_in_order(self, store: SQLiteStore) -> None:
        q = created(store, "p/q")
        add_groups(store, q, "a1", "b1")
        with store._database.read() as db:
            statements: list[str] = []
            db.set_trace_callback(statements.append)
            store.landed.find_in_groups(q, 10, stops={"b": 0})
            store.catalogue.count_reserved("p", 10)
            db.set_trace_callback(None)
            plans = [[row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {each}")] for each in statements]
        hidden, free, read, count = plans
        assert "messages_by_visibility (q=? AND h>?)" in hidden[0]
        assert "messages_by_visibility (q=? AND h=?)" in free[0]
        assert "messages_by_id (q=? AND id=?)" in read[0]
        assert any("COVERING INDEX reservations_by_scope" in step for step in count)
        assert not any("B-TREE" in step or step.startswith("SCAN messages") for plan in plans for step in plan)

    @pytest.mark.parametrize("count", [1, 3, 1000])
    def test_one_statement_asks_the_index_about_each_of_many_keys(self, store: SQLiteStore, count: int) -> None:
        with store._database.read() as db:
            statements: list[str] = []
            db.set_trace_callback(statements.append)
            store.landed.ready([f"p/q/~{number}" for number in range(count)])
            db.set_trace_callback(None)
            (statement,) = statements
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")]
        (search,) = [step for step in plan if "messages" in step]
        assert "USING INDEX messages_by_visibility (q=? AND h<?)" in search
        assert not any("B-TREE" in step for step in plan), plan


class TestMoves:
    """A queue's messages that go from one file to another one."""

    def test_everything_is_as_it_was(self, store: SQLiteStore, tmp_path: Path) -> None:
        other = open_store(tmp_path / "other.db")
        q = created(store, "p/q")
        add(store, q, "a", "b", "c")
        add_groups(store, q, "delayed", hidden_until=store.now() + HOUR, dedup_id="once")
        take(store, q, new_claim(store, "ours"), "b")
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        last = store.landed.acquire_lease(q, "us", 60)
        assert last is not None
        store.landed.close_queue(q)
        messages = store.landed.export(q, 0, 100)
        other.landed.open_queue(q, last)
        other.landed.tombstone(q, dict(store.landed.list_tombstones(q, "", 100)))
        assert other.landed.land(q, messages) == set()
        assert store.landed.remove(q, messages) == set()
        store.landed.remove_queue(q)
        assert other.landed.export(q, 0, 100) == messages
        assert ids_of(other.landed.get_claim(q, "ours")) == ["b"]
        assert other.landed.land(q, [new(other, "dead", seq=last + 1)]) == {"dead"}
        (late,) = add(other, q, "late")
        assert late.seq > last
        assert listed(other, q, claimed=True, delayed=True) == ["a", "b", "c", "delayed", "late"]
        assert store.landed.export(q, 0, 100) == []
        other.close()


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

    def test_stores_share_groups(self, path: Path, store: SQLiteStore) -> None:
        second = open_store(path)
        GroupCrowd(created(store, "p/q"), store, second).check()
        second.close()

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


    @pytest.mark.parametrize(
        "look", [SQLiteStore.prepare, SQLiteStore.ping, SQLiteStore.maintain, SQLiteStore.describe]
    )
    def test_second_store_of_a_process_takes_no_locks_of_the_first_away(
        self, path: Path, store: SQLiteStore, look: Callable[[SQLiteStore], object]
    ) -> None:
        q = created(store, "p/q")
        second = open_store(path)
        look(second)
        second.close()
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # the last one that closes removes the log
            assert pool.apply(work, (str(path), 0))
        assert path.with_name(f"{path.name}-wal").exists()
        add(store, q, "1")


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
    ("sqlite:////", "is a folder"), ("sqlite:////dev/null", "no regular file"), ("sqlite:///{}/text", "not a database"),
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


def test_store_is_closed_when_no_thread_uses_it(store: SQLiteStore) -> None:
    """SQLite crashes when a connection is closed in the middle of a statement of another thread."""
    done, outcomes = threading.Event(), []

    def look() -> None:
        try:
            while not done.wait(0.0):
                store.catalogue.list_moving("", 500)
        except StoreUnavailable as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    store.catalogue.create_queue("p/q", None)
    store.close()
    done.set()
    for thread in threads:
        thread.join(10)
    assert all("it has been closed" in outcome for outcome in outcomes)
    with pytest.raises(StoreUnavailable, match="it has been closed"):
        store.catalogue.get_queue("p/q")
