"""The side-store in MongoDB."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from bson import SON
from pymongo import MongoClient

import storage.mongodb.database
from functional.commands import Recorder, recorded
from functional.earlier import adopted
from functional.installed import require
from functional.services.mongodb import MongoDB
from functional.services.ports import free_port
from functional.wait import wait_until
from gateway.core.poison import LARGEST
from storage.base import SideStore
from storage.errors import StoreUnavailable, Unstorable
from storage.landed import SEEN_FOR
from storage.model import DEFAULT_POOL, Message
from storage.mongodb import MongoDBStore
from storage.mongodb.documents import lease_key
from storage.sqlite import SQLiteStore
from storage.suite import HOUR, MINUTE, SideStoreSuite, add, created, new, new_claim, take, together

#: Milliseconds that a test may take between two looks at a clock.
TOLERANCE = 5_000

#: Messages in front of which the query planner has a reason to choose an index.
CROWD = 300

#: Seconds that a call may take in tests that wait for the timeout.
SHORT_TIMEOUT = 0.5

WRITES = frozenset({"insert", "update", "delete", "findAndModify", "findandmodify", "aggregate"})


def open_store(uri: str, timeout: float = 5.0) -> MongoDBStore:
    return MongoDBStore(uri, SimpleNamespace(timeout=timeout, max_pool_size=32, direct=True))


@pytest.fixture(scope="module")
def shared_store(mongodb: MongoDB) -> Iterator[MongoDBStore]:
    store = open_store(mongodb.database_uri("store_suite"))
    yield store
    store.close()


class TestMongoDBStore(SideStoreSuite):
    """The promises of every side-store."""

    @pytest.fixture
    def store(self, shared_store: MongoDBStore) -> MongoDBStore:
        return shared_store

    def test_who_lands_while_a_find_pauses_is_seen(
        self, store: MongoDBStore, q: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """MongoDB reads the messages, somebody lands one and gives the lease back, and then it reads the lease."""
        assert store.landed.find_free(q, 10) == ([], False)
        find, pauses = store.landed._database.find, [True]

        def paused(*args: Any, **more: Any) -> list[dict[str, Any]]:
            found = find(*args, **more)
            if pauses.pop() if pauses else False:
                assert [document["_id"] for document in found] == [lease_key(q)]
                last = store.landed.acquire_lease(q, "lister", 60) or 0
                store.landed.land(q, [new(store, "m", seq=last + 1024)], "lister")
                store.landed.release_lease(q, "lister", last + 1024)
                return find(*args, **more)[-1:]
            return found

        monkeypatch.setattr(store.landed._database, "find", paused)
        messages, leased = store.landed.find_free(q, 10)
        assert ([message.id for message in messages], leased) == (["m"], False)
        assert pauses == []

    @pytest.mark.parametrize("field", ["body", "properties"])
    @pytest.mark.parametrize("others", [1, 4])
    def test_document_that_is_too_large_can_never_be_stored(
        self, store: MongoDBStore, q: str, field: str, others: int
    ) -> None:
        """Alone, and with others that the driver sends before it finds that out."""
        large = b'"' + b"x" * 15_000_000 + b'"'
        messages = [new(store, f"m{n}", seq=n + 1, body=large) for n in range(others)]
        with pytest.raises(Unstorable):
            store.landed.land(q, [*messages, new(store, "bad", **{"seq": 1000, field: b"x" * 17_000_000})])
        assert {message.id for message in store.landed.get_messages(q, ["bad"])} == set()

    def test_large_messages_land_under_a_lease(self, store: MongoDBStore, q: str) -> None:
        last = store.landed.acquire_lease(q, "us", 60)
        assert last is not None
        sizes = (LARGEST, 100, 9_000_000, 9_000_000, 100)
        messages = [new(store, f"m{n}", seq=last + 1 + n, body=b"$" * size) for n, size in enumerate(sizes)]
        assert store.landed.land(q, [new(store, "m1", seq=last, body=b"$" * 100)]) == set()
        assert store.landed.land(q, messages, "us") == {"m1"}
        assert [(m.id, len(m.body)) for m in store.landed.list_messages(q, last, 10)] == [
            (m.id, len(m.body)) for m in messages if m.id != "m1"
        ]
        bad = new(store, "bad", seq=last + 10, body=b"x" * 17_000_000)
        with pytest.raises(Unstorable):
            store.landed.land(q, [bad], "us")

    def test_largest_message_of_a_gateway_is_stored_and_claimed(self, store: MongoDBStore, q: str) -> None:
        half = LARGEST // 2
        store.landed.land(q, [new(store, "i" * 64, seq=1, body=b"x" * half, properties=b"x" * half)])
        (message,) = take(store, q, new_claim(store, "c" * 64))
        assert len(message.body) == half


class Watched:
    """A store in a database of its own whose commands are recorded."""

    def __init__(self, mongodb: MongoDB, store: MongoDBStore, name: str, recorder: Recorder):
        self.store = store
        self.name = name
        self._mongodb = mongodb
        self._recorder = recorder

    def commands(self, call: Callable[[MongoDBStore], Any]) -> list[dict[str, Any]]:
        """The commands that a call sends."""
        self._recorder.commands.clear()
        call(self.store)
        return [c for c in self._recorder.commands if c["$db"] == self.name]

    def plans(self, call: Callable[[MongoDBStore], Any]) -> list["Plan"]:
        """How the server runs what a call sends."""
        with self._mongodb.connect() as client:
            return [Plan(client[self.name].command(_explained(command))) for command in self.commands(call)]

    def connect(self) -> MongoClient[dict[str, Any]]:
        return self._mongodb.connect()


def _explained(command: dict[str, Any]) -> SON[str, Any]:
    body = {key: value for key, value in command.items() if not key.startswith("$") and key not in NOT_EXPLAINED}
    return SON([("explain", SON(body)), ("verbosity", "queryPlanner")])


#: What explain does not take.
NOT_EXPLAINED = frozenset({"lsid", "txnNumber", "writeConcern", "maxTimeMS", "readConcern"})


class Plan:
    """Stages and indexes of a winning plan."""

    def __init__(self, explained: dict[str, Any]):
        self.stages: set[str] = set()
        self.indexes: set[str] = set()
        for plan in _winning(explained):
            self._walk(plan)
        assert self.stages, f"no plan in {explained}"

    def _walk(self, node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                self._walk(item)
        elif isinstance(node, dict):
            if "stage" in node:
                self.stages.add(node["stage"])
            if "indexName" in node:
                self.indexes.add(node["indexName"])
            for value in node.values():
                self._walk(value)


def _winning(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        if "winningPlan" in node:
            yield node["winningPlan"]
        else:
            for value in node.values():
                yield from _winning(value)
    elif isinstance(node, list):
        for item in node:
            yield from _winning(item)


@pytest.fixture(scope="module")
def watched(mongodb: MongoDB) -> Iterator[Watched]:
    """A store with messages in every state in two queues."""
    name = f"watched_{uuid4().hex}"
    with recorded() as recorder:
        store = open_store(mongodb.database_uri(name))
        for q in ("p/q", "p/other"):
            adopted(store, q)
            add(store, q, *(f"m{number}" for number in range(CROWD)))
            take(store, q, new_claim(store), "m0", "m7")
            add(store, q, *(f"d{number}" for number in range(5)), hidden_until=store.now() + HOUR)
        store.catalogue.put_record("pool", "pool-1", b"1")
        yield Watched(mongodb, store, name, recorder)
    store.close()


class TestIndexes:
    """Every query is answered from the index that is meant for it."""

    def test_indexes_are_made(self, watched: Watched) -> None:
        with watched.connect() as client:
            messages = client[watched.name].messages.index_information()
            queues = client[watched.name].queues.index_information()
        assert [key for key, _ in messages["visibility"]["key"]] == ["q", "h", "s"]
        assert [key for key, _ in messages["position"]["key"]] == ["q", "s"]
        assert [key for key, _ in messages["claim"]["key"]] == ["c"]
        assert messages["expiry"]["key"] == [("e", 1)] and messages["expiry"]["expireAfterSeconds"] == 0
        assert queues["name"]["unique"] is True
        assert [key for key, _ in queues["pools"]["key"]] == ["w", "_id"]
        assert [key for key, _ in queues["moves"]["key"]] == ["_id", "n"]
        with watched.connect() as client:
            reservations = client[watched.name].reservations.index_information()
        assert [key for key, _ in reservations["scope"]["key"]] == ["s", "e"]
        assert reservations["expiry"]["key"] == [("e", 1)] and reservations["expiry"]["expireAfterSeconds"] == 0

    def test_indexes_of_pools_and_moves_have_other_queues_alone(self, watched: Watched) -> None:
        """Most queues are in the default pool and stay there: they cost these indexes nothing."""
        with watched.connect() as client:
            queues = client[watched.name].queues.index_information()
        assert queues["pools"]["partialFilterExpression"] == {"w": {"$exists": True}}
        assert queues["moves"]["partialFilterExpression"] == {"mv": {"$exists": True}}

    def test_server_removes_by_the_dates_that_are_stored(self, watched: Watched) -> None:
        """A TTL index ignores what is no date."""
        with watched.connect() as client:
            collection = client[watched.name].messages
            assert collection.count_documents({}) == collection.count_documents({"e": {"$type": "date"}})

    @pytest.mark.parametrize(
        ("call", "index"),
        [
            (lambda store: store.landed.find_free("p/q", 10), "visibility"),
            (lambda store: store.landed.list_messages("p/q", 0, 10), "position"),
            (
                lambda store: store.landed.list_messages("p/q", 99, 10, not_from="c", claimed=True, delayed=True),
                "position",
            ),
            (lambda store: store.landed.newest("p/q"), "position"),
            (lambda store: store.landed.export("p/q", 0, 10), "position"),
            (lambda store: store.landed.list_tombstones("p/q", "", 10), "_id_"),
            (lambda store: store.catalogue.list_moving("p/a", 10), "moves"),
            (lambda store: store.catalogue.list_in_pool("pool-1", "p/a", 10), "pools"),
            (lambda store: store.catalogue.list_in_pool(DEFAULT_POOL, "p/a", 10), "_id_"),
            (lambda store: store.catalogue.list_records("pool", "", 10), "_id_"),
            (lambda store: store.landed.find_in_groups("p/q", 10), "visibility"),
            (lambda store: store.landed.find_in_groups("p/q", 10, stops={"": 1000, "group": 0}), "visibility"),
            (lambda store: store.catalogue.count_reserved("p", 10), "scope"),
        ],
        ids=[
            "free", "list", "list-all", "newest", "export", "tombstones", "moving", "pool", "default-pool", "records",
            "in-groups", "in-some-groups", "reserved",
        ],
    )
    def test_ordered_reads_come_sorted_from_their_index(
        self, watched: Watched, call: Callable[[MongoDBStore], Any], index: str
    ) -> None:
        plans = watched.plans(call)
        assert plans
        for plan in plans:
            assert plan.indexes == {index}
            assert not plan.stages & {"COLLSCAN", "SORT"}

    @pytest.mark.parametrize(
        "call",
        [
            lambda store: store.landed.claim("p/q", store.landed.find_free("p/q", 2)[0], new_claim(store, "explained")),
            lambda store: store.landed.get_messages("p/q", ["m2", "m3"]),
            lambda store: store.landed.get_claim("p/q", "claim"),
            lambda store: store.landed.renew_claim("p/q", new_claim(store)),
            lambda store: store.landed.release_claim("p/q", "none"),
            lambda store: store.landed.delete_claimed("p/q", ["m0"], ["none"]),
            lambda store: store.landed.delete_claimed("p/q", ["m0", "m1"], ["none"]),
            lambda store: store.landed.delete_unclaimed("p/q", ["none"]),
            lambda store: store.landed.delete_unclaimed("p/q", ["none", "nor this"]),
            lambda store: store.landed.delete_unclaimed("p/q", ["none"], {"none": 1}),
            lambda store: store.landed.delete_claimed("p/q", ["none", "nor this"], ["none"], {"none": 1}),
            lambda store: store.catalogue.change_reserved("none", 1, b"", 1),
            lambda store: store.catalogue.unreserve("none", 1),
            lambda store: store.landed.stats("p/q"),
            lambda store: store.landed.purge("p/none"),
            lambda store: store.catalogue.get_queue("p/q"),
            lambda store: store.catalogue.list_queues("p", "", 10),
            lambda store: store.catalogue.count_queues("p"),
            lambda store: store.catalogue.delete_queue("p/none"),
            lambda store: store.catalogue.change_move("p/q", b"none", None),
            lambda store: store.landed.remove("p/q", [new(store, "none")]),
            lambda store: store.landed.open_queue("p/q"),
            lambda store: store.landed.remove_queue("p/none"),
            lambda store: store.landed.bind("p/q", "p/other"),
            lambda store: store.landed.bound("p/q"),
            lambda store: store.landed.unbind("p/q", "p/other"),
            lambda store: store.landed.ready(["p/q", "p/none"]),
            lambda store: store.catalogue.set_notifies("p/q"),
            lambda store: store.landed.release_lease("p/q", "us", store.landed.acquire_lease("p/q", "us", 1)),
        ],
    )
    def test_nothing_scans_a_collection(self, watched: Watched, call: Callable[[MongoDBStore], Any]) -> None:
        plans = watched.plans(call)
        assert plans
        assert not any("COLLSCAN" in plan.stages for plan in plans)

    def test_putting_expired_holds_back_uses_the_index(self, watched: Watched) -> None:
        adopted(watched.store, "p/holds")
        add(watched.store, "p/holds", "m", hidden_until=watched.store.now() - 1)
        updates = [c for c in watched.commands(lambda store: store.landed.find_free("p/holds", 10)) if "update" in c]
        assert len(updates) == 1
        with watched.connect() as client:
            assert Plan(client[watched.name].command(_explained(updates[0]))).indexes == {"visibility"}


class TestMoves:
    """Messages that go to a store of another kind, and come back."""

    def test_everything_comes_back_as_it_was(self, mongodb: MongoDB, tmp_path: Path) -> None:
        stores: list[SideStore] = [
            open_store(mongodb.database_uri("moves")),
            SQLiteStore(f"sqlite:///{tmp_path}/moves.db", SimpleNamespace(timeout=5.0)),
        ]
        first, second = stores
        q = created(first, f"{uuid4().hex}/q")
        now = first.now()
        add(first, q, "free", "claimed", client="c", properties=b"{}")
        add(first, q, "delayed", hidden_until=now + HOUR, encrypted=True, key="kaaaaaaaaaaaaaa0?0123abcd")
        take(first, q, new_claim(first, "ours", lasts=HOUR), "claimed")
        first.landed.tombstone(q, {"dead": now + HOUR})
        before = first.landed.export(q, 0, 10)
        for source, target in ((first, second), (second, first)):
            last = source.landed.acquire_lease(q, "mover", 60)
            assert last is not None
            source.landed.close_queue(q)
            target.landed.open_queue(q, last)
            target.landed.tombstone(q, dict(source.landed.list_tombstones(q, "", 10)))
            target.landed.land(q, source.landed.export(q, 0, 10))
            assert source.landed.remove(q, source.landed.export(q, 0, 10)) == set()
            source.landed.remove_queue(q)
            assert target.landed.export(q, 0, 10) == before
            assert [m.id for m in target.landed.get_claim(q, "ours")] == ["claimed"]
            assert target.landed.land(q, [new(target, "dead", seq=last + 1)]) == {"dead"}
        time.sleep(SEEN_FOR)
        first.maintain()
        assert first.landed.export(q, 0, 10) == before
        for store in stores:
            store.close()


class TestWrites:
    """What is written is on a majority's disk before a call returns."""

    def test_every_write_is_durable(self, watched: Watched) -> None:
        def all_writes(store: MongoDBStore) -> None:
            store.ping()
            adopted(store, "p/w")
            store.catalogue.replace_metadata("p/w", b"{}", 1)
            store.catalogue.set_notifies("p/w")
            store.landed.bind("p/w", "p/other")
            store.landed.append("p/w", [new(store, "a"), new(store, "b")])
            take(store, "p/w", new_claim(store, "w"))
            store.landed.renew_claim("p/w", new_claim(store, "w"))
            store.landed.delete_claimed("p/w", ["a"], ["w"])
            store.landed.release_claim("p/w", "w")
            store.landed.delete_unclaimed("p/w", ["b", "c"], {"b": store.now() + HOUR})
            last = store.landed.acquire_lease("p/w", "us", 60)
            store.landed.claim_in_groups("p/w", "us", [(new_claim(store, "g"), [new(store, "gone")])], last)
            version = store.catalogue.change_reserved("name", 1, b"", 1) or 1
            store.catalogue.reserve("p", {"name": b""}, store.now() + HOUR, version)
            store.catalogue.reserve("p", {"name": b""}, store.now() + HOUR, 2)
            store.catalogue.change_reserved("name", version, b"", store.now() - 1)
            store.catalogue.reserve("p", {"name": b""}, store.now() + HOUR, 3)
            store.catalogue.unreserve("name", 3)
            store.landed.tombstone("p/w", {"dead": store.now() + HOUR})
            store.landed.purge("p/w")
            store.catalogue.change_move("p/w", None, b"move", "pool-1")
            store.catalogue.put_record("kind", "name", b"1")
            store.catalogue.delete_record("kind", "name")
            store.landed.remove("p/w", [new(store, "gone")])
            store.landed.unbind("p/w", "p/other")
            store.landed.close_queue("p/w")
            store.landed.open_queue("p/w", 1)
            store.catalogue.delete_queue("p/w")

        writes = [c for c in watched.commands(all_writes) if WRITES & set(c)]
        assert {next(iter(c)).lower() for c in writes} == {"insert", "update", "delete", "findandmodify", "aggregate"}
        assert {(c["writeConcern"]["w"], c["writeConcern"]["j"]) for c in writes} == {("majority", True)}

    def test_calls_are_as_few_as_promised(self, watched: Watched) -> None:
        """One PyMongo call costs a third of a millisecond of CPU: docs of the design count them."""
        store = watched.store
        adopted(store, "p/few")
        add(store, "p/few", "a", "b")
        found, _ = store.landed.find_free("p/few", 10)
        claim = new_claim(store, "few")
        assert len(watched.commands(lambda s: s.landed.find_free("p/few", 10))) == 1
        assert len(watched.commands(lambda s: s.landed.claim("p/few", found, claim))) == 1
        assert len(watched.commands(lambda s: s.landed.delete_claimed("p/few", ["a"], ["few"]))) == 1
        buried = {"b": store.now() + HOUR, "d": store.now() + HOUR}
        assert len(watched.commands(lambda s: s.landed.delete_claimed("p/few", ["b", "d"], ["none"], buried))) == 1
        assert len(watched.commands(lambda s: s.landed.list_messages("p/few", 0, 10))) == 1
        assert len(watched.commands(lambda s: s.catalogue.get_queue("p/few"))) == 1
        assert len(watched.commands(lambda s: s.catalogue.list_moving("", 10))) == 1
        seen = time.monotonic()
        (landing,) = watched.commands(lambda s: s.landed.land("p/few", [new(s, "c", seq=1)], seen=seen))
        # A document that is there already would make the server insert one by one.
        assert [document["_id"] for document in landing["documents"]] == ["p/few/c"]


class TestClock:
    """The server's clock counts, whatever that of this machine says."""

    @pytest.fixture
    def fast(self, mongodb: MongoDB, monkeypatch: pytest.MonkeyPatch) -> Iterator[MongoDBStore]:
        """A store on a machine whose wall clock is an hour ahead."""
        real = storage.mongodb.database.time
        ahead = SimpleNamespace(time=lambda: real.time() + HOUR / 1000, monotonic=real.monotonic)
        monkeypatch.setattr(storage.mongodb.database, "time", ahead)
        store = open_store(mongodb.database_uri("clock"))
        yield store
        store.close()

    @pytest.fixture
    def right(self, mongodb: MongoDB) -> Iterator[MongoDBStore]:
        """A store on a machine whose clock agrees with the server's."""
        store = open_store(mongodb.database_uri("clock"))
        store.ping()
        yield store
        store.close()

    def test_clock_is_the_servers(self, mongodb: MongoDB, fast: MongoDBStore) -> None:
        fast.ping()
        with mongodb.connect() as client:
            server = int(client.admin.command("hello")["localTime"].timestamp() * 1000)
        assert abs(fast.now() - server) < TOLERANCE

    def test_first_call_does_not_take_a_lease_that_is_held(self, right: MongoDBStore, fast: MongoDBStore) -> None:
        q = created(right, f"p/{uuid4().hex}")
        right.landed.acquire_lease(q, "right", 60)
        assert fast.landed.acquire_lease(q, "fast", 60) is None

    def test_first_call_does_not_free_what_is_claimed(self, right: MongoDBStore, fast: MongoDBStore) -> None:
        q = created(right, f"p/{uuid4().hex}")
        add(right, q, "m")
        take(right, q, new_claim(right, lasts=MINUTE))
        assert fast.landed.find_free(q, 10)[0] == []

    def test_first_call_does_not_delete_what_is_claimed(self, right: MongoDBStore, fast: MongoDBStore) -> None:
        q = created(right, f"p/{uuid4().hex}")
        add(right, q, "m")
        take(right, q, new_claim(right, lasts=MINUTE))
        assert fast.landed.delete_unclaimed(q, ["m"]) == 0

    def test_first_call_shows_what_lives(self, right: MongoDBStore, fast: MongoDBStore) -> None:
        q = created(right, f"p/{uuid4().hex}")
        add(right, q, "m", expires=right.now() + MINUTE)
        assert [m.id for m in fast.landed.list_messages(q, 0, 10)] == ["m"]


class TestConnections:
    """Connecting, and not being able to."""

    def test_nobody_is_asked_before_the_first_call(self) -> None:
        store = open_store(f"mongodb://127.0.0.1:{free_port()}/marconi", SHORT_TIMEOUT)
        assert store.connections() == 0
        store.close()

    def test_missing_server_is_unavailable(self) -> None:
        store = open_store(f"mongodb://127.0.0.1:{free_port()}/marconi", SHORT_TIMEOUT)
        with pytest.raises(StoreUnavailable, match="MongoDB"):
            store.ping()
        store.close()

    def test_first_calls_of_many_threads_all_work(self, mongodb: MongoDB) -> None:
        store = open_store(mongodb.database_uri(f"crowd_{uuid4().hex}"))
        with MongoClient[dict[str, Any]](mongodb.uri) as client:
            client[store._database.name]["messages"].insert_one({"_id": "p/q/", "q": "p/q", "h": -2, "until": 0})
        messages: list[Message] = [new(store, f"m{number}", seq=number + 1) for number in range(8)]
        together(*[lambda m=m: store.landed.land("p/q", [m]) for m in messages])
        assert len(store.landed.list_messages("p/q", 0, 10)) == len(messages)
        store.close()


# -- a server that is slow or not there -------------------------------------------------------------------------------


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What so many threads at once come to: a result, or the exception."""
    def run(number: int) -> Any:
        try:
            return work(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.monotonic()
    try:
        result = work()
    except StoreUnavailable as error:
        result = error
    return time.monotonic() - start, result


def test_eight_calls_at_once_to_a_server_that_is_not_there_end_within_the_timeout() -> None:
    store = open_store(f"mongodb://127.0.0.1:{free_port()}/none?replicaSet=rs0", 1.0)
    try:
        for _ in range(2):
            found = in_threads(8, lambda _: timed(lambda: store.catalogue.get_queue("p/q")))
            assert all(isinstance(result, StoreUnavailable) for _, result in found)
            assert max(took for took, _ in found) < 1.5
    finally:
        store.close()


class Obedient(MongoDB):
    """It is slow if it is told to."""

    def command(self) -> list[str]:
        return [*super().command(), "--setParameter", "enableTestCommands=1"]


def test_one_slow_command_stops_no_other_call() -> None:
    with require(Obedient) as own, MongoClient(own.uri) as client:
        store = open_store(own.database_uri("slow"), 1.0)
        try:
            store.catalogue.create_queue("p/q", None)
            # The server holds its answer back, as a disk that hangs does; nobody else calls meanwhile.
            client.admin.command({
                "configureFailPoint": "failCommand", "mode": {"times": 1},
                "data": {"failCommands": ["aggregate"], "blockConnection": True, "blockTimeMS": 3000},
            })
            took, result = timed(lambda: store.landed.stats("p/q"))
            assert isinstance(result, StoreUnavailable)
            assert took < 1.6
            found = in_threads(8, lambda _: timed(lambda: store.catalogue.get_queue("p/q")))
            assert [result for _, result in found if isinstance(result, Exception)] == []
            assert max(took for took, _ in found) < 0.9
        finally:
            store.close()


def test_server_that_freezes_costs_one_timeout_and_then_fails_at_once() -> None:
    with require(MongoDB) as own:
        store = open_store(own.database_uri("frozen"), 1.0)
        try:
            store.catalogue.create_queue("p/q", None)
            store.landed.get_messages("p/q", ["a"])
            own.pause()
            for _ in range(3):
                found = in_threads(8, lambda _: timed(lambda: store.landed.stats("p/q")))
                assert max(took for took, _ in found) < 1.6
            assert sum(took < 0.1 for took, _ in found) >= 7
            own.resume()
            wait_until(lambda: not isinstance(timed(lambda: store.catalogue.get_queue("p/q"))[1], Exception), 10)
        finally:
            own.resume()
            store.close()
