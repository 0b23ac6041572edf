"""FIFO queues and tombstones of deleted messages in MongoDB: commands, lost answers, gateways that were stopped."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from functional.commands import HOUSEKEEPING, Recorder, recorded
from functional.installed import require
from functional.services.mongodb import MongoDB
from storage.errors import LeaseLost, StoreUnavailable
from storage.model import Message
from storage.mongodb import MongoDBStore
from storage.suite import HOUR, GroupCrowd, add, add_groups, created, ids_of, new_claim, take

#: Seconds that the lease lasts in most tests.
LEASED = 60

#: Seconds that a call of a store may take. A claim wants a lease that lasts as long.
TIMEOUT = 5.0

#: Error code (NetworkTimeout) after which drivers send a write again.
NO_ANSWER = 89


def open_store(uri: str) -> MongoDBStore:
    return MongoDBStore(uri, SimpleNamespace(timeout=TIMEOUT, max_pool_size=32, direct=True))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recorded() as recorder:
        yield recorder


@pytest.fixture
def store(mongodb: MongoDB, recorder: Recorder) -> Iterator[MongoDBStore]:
    store = open_store(mongodb.database_uri("groups"))
    yield store
    store.close()


@pytest.fixture
def q(store: MongoDBStore) -> str:
    return created(store, f"{uuid4().hex}/q")


def found(store: MongoDBStore, q: str) -> list[Message]:
    return store.landed.find_in_groups(q, 100).messages


def sent(recorder: Recorder, call: Callable[[], Any]) -> list[dict[str, Any]]:
    """What a call sends to the server, but for what connects."""
    recorder.commands.clear()
    call()
    return [command for command in recorder.commands if next(iter(command)) not in HOUSEKEEPING]


def names(commands: list[dict[str, Any]]) -> list[str]:
    return [next(iter(command)) for command in commands]


class TestCommands:
    """What is sent, as every command costs a third of a millisecond of CPU."""

    def test_search_reads_what_is_hidden_and_then_what_is_free(
        self, mongodb: MongoDB, store: MongoDBStore, q: str, recorder: Recorder
    ) -> None:
        add_groups(store, q, *(f"a{number}" for number in range(9)), "b1")
        take(store, q, new_claim(store), "a3")
        store.landed.acquire_lease(q, "us", LEASED)
        with mongodb.connect() as client:
            oplog = client.local["oplog.rs"].find({"o2._id": f"{q}/"}).sort("$natural", -1)
            (leased,) = [entry["ts"] for entry in oplog.limit(1)]
        hidden, free = sent(recorder, lambda: found(store, q))
        assert (hidden["find"], hidden["filter"]["h"]) == ("messages", {"$gt": 0})
        assert hidden["readConcern"]["level"] == "snapshot", "a claim that is renewed meanwhile must not be missed"
        assert hidden["readConcern"]["afterClusterTime"] >= leased, "nor one made just before an election"
        assert (free["find"], free["filter"]["h"], free["filter"]["g"]) == ("messages", 0, {"$nin": ["a"]})

    def test_search_puts_back_once(self, store: MongoDBStore, q: str, recorder: Recorder) -> None:
        add_groups(store, q, "a1", "b1", hidden_until=store.now() - 1)
        assert names(sent(recorder, lambda: found(store, q))) == ["find", "update", "find", "find"]

    def test_claims_of_many_are_one_write_that_gives_the_lease_back(
        self, store: MongoDBStore, q: str, recorder: Recorder
    ) -> None:
        add_groups(store, q, *(f"{group}{number}" for group in "abcdefgh" for number in range(3)))
        store.landed.acquire_lease(q, "us", LEASED)
        messages = found(store, q)
        wants = [(new_claim(store, f"claim-{n}"), messages[n:n + 3]) for n in range(0, len(messages), 3)]
        write, read = sent(recorder, lambda: store.landed.claim_in_groups(q, "us", wants, 1))
        assert (write["aggregate"], read["find"]) == ("messages", "messages")
        assert (write["writeConcern"]["w"], write["writeConcern"]["j"]) == ("majority", True)
        assert write["pipeline"][0]["$match"]["_id"] == f"{q}/"
        assert store.landed.acquire_lease(q, "them", LEASED) is not None

    @pytest.mark.parametrize(("remembered", "commands"), [
        ((), ["delete"]), (("a",), ["update", "delete"]), (("a", "b", "c"), ["update"]), (("other",), ["delete"]),
    ])
    def test_delete_is_one_command_for_those_that_are_remembered_and_one_for_the_others(
        self, store: MongoDBStore, q: str, recorder: Recorder, remembered: tuple[str, ...], commands: list[str]
    ) -> None:
        add(store, q, "a", "b", "c")
        until = dict.fromkeys(remembered, store.now() + HOUR)
        done = sent(recorder, lambda: store.landed.delete_unclaimed(q, ["a", "b", "c"], until))
        assert names(done) == commands
        assert found(store, q) == []


class TestStopped:
    """Gateways that were stopped at a bad moment."""

    def test_lease_has_to_last_for_as_long_as_the_write_may_take(self, store: MongoDBStore, q: str) -> None:
        add_groups(store, q, "a1")
        messages = found(store, q)
        store.landed.acquire_lease(q, "us", TIMEOUT)
        with pytest.raises(LeaseLost):
            store.landed.claim_in_groups(q, "us", [(new_claim(store), messages)])
        assert store.landed.renew_lease(q, "us", TIMEOUT + 2) is True
        assert store.landed.claim_in_groups(q, "us", [(new_claim(store), messages)])[0]

    def test_server_itself_looks_whether_the_lease_lasts(
        self, store: MongoDBStore, q: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As for a gateway that is stopped after it has read the clock, and before it sends the command."""
        add_groups(store, q, "a1")
        messages = found(store, q)
        claim = new_claim(store)
        store.landed.acquire_lease(q, "us", TIMEOUT + 0.2)
        read = store.now()
        time.sleep(0.3)
        monkeypatch.setattr(store, "now", lambda: read)
        with pytest.raises(LeaseLost):
            store.landed.claim_in_groups(q, "us", [(claim, messages)])
        monkeypatch.undo()
        assert ids_of(found(store, q)) == ["a1"]

    def test_late_put_back_and_late_renewal_leave_the_next_claim_alone(
        self, store: MongoDBStore, q: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both by gateways that read the clock before the first claim was over."""
        add_groups(store, q, "a1", "a2")
        store.landed.acquire_lease(q, "us", LEASED)
        store.landed.claim_in_groups(q, "us", [(new_claim(store, "first", lasts=100), found(store, q))])
        before = store.now()
        time.sleep(0.2)
        second = new_claim(store, "second")
        (got,) = store.landed.claim_in_groups(q, "us", [(second, found(store, q))])
        assert ids_of(got) == ["a1", "a2"]
        monkeypatch.setattr(store, "now", lambda: before)
        assert store.landed.renew_claim(q, new_claim(store, "first")) is False
        assert found(store, q) == []
        monkeypatch.undo()
        assert store.landed.get_claim(q, "second") == got

    def test_gateways_share_groups(self, mongodb: MongoDB, store: MongoDBStore, q: str) -> None:
        second = open_store(mongodb.database_uri("groups"))
        GroupCrowd(q, store, second).check()
        second.close()


def lose_answer(monkeypatch: pytest.MonkeyPatch, is_done: bool) -> None:
    """Lose the answer to the next aggregation, or the command itself."""
    aggregate = Collection.aggregate

    def once(collection: Collection[dict[str, Any]], *args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        if is_done:
            aggregate(collection, *args, **options)
        raise AutoReconnect("the answer is lost")

    monkeypatch.setattr(Collection, "aggregate", once)


class TestLostAnswers:
    """Writes whose answer does not come."""

    def test_claim_in_groups_whose_answer_is_lost_was_made(
        self, store: MongoDBStore, q: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_groups(store, q, "a1", "b1", "a2")
        store.landed.acquire_lease(q, "us", LEASED)
        messages = found(store, q)
        lose_answer(monkeypatch, is_done=True)
        (got,) = store.landed.claim_in_groups(q, "us", [(new_claim(store), messages)])
        assert ids_of(got) == ["a1", "b1", "a2"]
        assert store.landed.get_claim(q, "claim") == got

    def test_claim_is_known_though_others_have_had_the_lease_since(
        self, store: MongoDBStore, q: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It was given back with the claim, and the next gateway was quicker than our second look."""
        add_groups(store, q, "a1", "b1")
        store.landed.acquire_lease(q, "us", LEASED)
        messages = found(store, q)
        aggregate = Collection.aggregate

        def then_they(collection: Collection[dict[str, Any]], *args: Any, **options: Any) -> Any:
            monkeypatch.undo()
            done = aggregate(collection, *args, **options)
            store.landed.acquire_lease(q, "them", LEASED)
            store.landed.claim_in_groups(q, "them", [(new_claim(store, "theirs"), found(store, q))])
            return done

        monkeypatch.setattr(Collection, "aggregate", then_they)
        (got,) = store.landed.claim_in_groups(q, "us", [(new_claim(store, "ours"), messages[:1])], 1)
        assert ids_of(got) == ["a1"]
        assert ids_of(store.landed.get_claim(q, "theirs")) == ["b1"]

    def test_claim_in_groups_that_is_lost_is_an_error(
        self, store: MongoDBStore, q: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_groups(store, q, "a1")
        store.landed.acquire_lease(q, "us", LEASED)
        messages = found(store, q)
        store.landed.claim_in_groups(q, "us", [(new_claim(store, "before"), [])])
        lose_answer(monkeypatch, is_done=False)
        with pytest.raises(StoreUnavailable):
            store.landed.claim_in_groups(q, "us", [(new_claim(store), messages)])
        assert found(store, q) == messages


class Obedient(MongoDB):
    """It fails if it is told to."""

    def command(self) -> list[str]:
        return [*super().command(), "--setParameter", "enableTestCommands=1"]


def test_writes_that_are_sent_again_are_counted_once() -> None:
    """The server has done a write, and says that it does not know that."""
    with require(Obedient) as own, MongoClient[dict[str, Any]](own.uri) as client:
        store = open_store(own.database_uri("again"))
        q = created(store, "p/q")
        until = store.now() + HOUR
        ids = [f"m{number}" for number in range(5)]
        add(store, q, *ids)

        def fail(command: str) -> None:
            client.admin.command({
                "configureFailPoint": "failCommand", "mode": {"times": 1},
                "data": {
                    "failCommands": [command], "writeConcernError": {"code": NO_ANSWER, "errmsg": "no answer"},
                },
            })

        try:
            fail("update")
            assert store.landed.delete_unclaimed(q, ids, dict.fromkeys(ids[1:], until)) == len(ids)
            assert [id_ for id_, _ in store.landed.list_tombstones(q, "", 10)] == ids[1:]
            fail("insert")
            assert store.catalogue.reserve("p", {"a": b"1", "b": b"2"}, until, 7) == {}
            fail("update")
            assert store.catalogue.change_reserved("a", 7, b"3", until) is not None
            fail("delete")
            assert store.catalogue.unreserve("b", 7) is True
        finally:
            store.close()
