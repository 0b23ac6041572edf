"""Copies in MongoDB: how many commands they cost, which indexes answer them, and answers that are lost."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from bson import SON
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from functional.commands import Recorder, recorded
from functional.services.mongodb import MongoDB
from gateway.core.poison import LARGEST
from storage.errors import StoreUnavailable
from storage.mongodb import MongoDBStore
from storage.mongodb.copying import COPIED_AT_ONCE
from storage.suite import MINUTE, Clock, add, created, free_ids, listed, new, new_claim, take

#: Messages under a key, in front of which the server shows whether it reads them all.
CROWD = 200

DATABASE = "copies"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recorded() as recorder:
        yield recorder


@pytest.fixture(params=[True, False], ids=["direct", "driver"])
def store(mongodb: MongoDB, recorder: Recorder, request: pytest.FixtureRequest) -> Iterator[MongoDBStore]:
    options = SimpleNamespace(timeout=5.0, max_pool_size=32, direct=request.param)
    store = MongoDBStore(mongodb.database_uri(DATABASE), options)
    yield store
    store.close()


@pytest.fixture
def q(store: MongoDBStore) -> str:
    return created(store, f"{uuid4().hex}/q")


def bound(store: MongoDBStore, q: str, count: int) -> list[str]:
    """New keys that are bound to another one."""
    keys = [f"{q}/~{number:03}" for number in range(count)]
    for key in keys:
        store.landed.open_queue(key)
        store.landed.bind(q, key)
    return keys


def sent(recorder: Recorder, call: Callable[[], Any]) -> list[dict[str, Any]]:
    """What a call sends to the server."""
    recorder.commands.clear()
    call()
    return list(recorder.commands)


def explained(mongodb: MongoDB, command: dict[str, Any], pipeline: list[dict[str, Any]]) -> dict[str, Any]:
    """How the server runs a pipeline, and what it reads."""
    aggregate = SON(aggregate=command["aggregate"], pipeline=pipeline, cursor={})
    if "hint" in command:
        aggregate["hint"] = command["hint"]
    with mongodb.connect() as client:
        return client[DATABASE].command(SON(explain=aggregate, verbosity="executionStats"))


def test_copies_cost_no_command(store: MongoDBStore, q: str, recorder: Recorder) -> None:
    """The lease, the last position, the landing, whether it was done, the end of the lease."""
    needed = ["findAndModify", "find", "aggregate", "find", "update"]
    for n, count in enumerate((0, 1, 50)):
        keys = bound(store, q, count)
        commands = sent(recorder, lambda n=n: add(store, q, f"{n}a", f"{n}b", body=b"needle"))
        assert [next(iter(command)) for command in commands] == needed
        assert sum(str(command).count("needle") for command in commands) == 2, "each body is sent once"
        assert [free_ids(store, key)[-2:] for key in keys] == [[f"{n}a", f"{n}b"]] * count


def test_large_messages_are_copied_in_parts(store: MongoDBStore, q: str, recorder: Recorder) -> None:
    keys = bound(store, q, 2)
    half = COPIED_AT_ONCE // 2
    messages = [new(store, str(number), body=bytes([number]) * half) for number in range(5)]
    commands = sent(recorder, lambda: store.landed.append(q, messages))
    assert sum("aggregate" in command for command in commands) == 3
    for key in (q, *keys):
        assert [message.body for message in store.landed.list_messages(key, 0, 10)] == [m.body for m in messages]


def test_largest_message_of_a_gateway_is_copied(store: MongoDBStore, q: str) -> None:
    keys = bound(store, q, 2)
    add(store, q, "m", body=b"x" * LARGEST)
    assert [len(store.landed.get_messages(key, ["m"])[0].body) for key in keys] == [LARGEST] * 2


def test_landing_reads_leases_and_last_positions_by_their_indexes(
    store: MongoDBStore, q: str, recorder: Recorder, mongodb: MongoDB
) -> None:
    (key,) = bound(store, q, 1)
    add(store, q, *map(str, range(CROWD)))
    (command,) = [c for c in sent(recorder, lambda: add(store, q, "m")) if "aggregate" in c]
    _, *stages, merge = command["pipeline"]
    assert "$merge" in merge
    plan = explained(mongodb, command, [{"$match": {"_id": f"{q}/"}}, *stages])
    leases, newest = [stage for stage in plan["stages"] if "$lookup" in stage]
    assert (leases["indexesUsed"], newest["indexesUsed"]) == (["_id_"], ["position"])
    assert leases["collectionScans"] == newest["collectionScans"] == 0
    assert (leases["totalDocsExamined"], newest["totalDocsExamined"]) == (1, 2)
    assert len(listed(store, key)) == CROWD + 1


def test_ready_looks_once_at_each_key(
    store: MongoDBStore, q: str, recorder: Recorder, mongodb: MongoDB
) -> None:
    keys = bound(store, q, 3)
    add(store, q, *map(str, range(CROWD)))
    store.landed.purge(keys[1])
    (command,) = sent(recorder, lambda: store.landed.ready(keys))
    plan = explained(mongodb, command, command["pipeline"])["stages"][0]["$cursor"]
    scan = plan["queryPlanner"]["winningPlan"]["inputStage"]
    assert (scan["stage"], scan["indexName"]) == ("DISTINCT_SCAN", "visibility")
    assert plan["executionStats"]["totalDocsExamined"] == 2


def test_edges_are_one_entry_of_an_index_for_each_key(
    store: MongoDBStore, q: str, recorder: Recorder, mongodb: MongoDB
) -> None:
    keys = bound(store, q, 3)
    add(store, q, *map(str, range(CROWD)))
    take(store, keys[0], new_claim(store))
    commands = sent(recorder, lambda: store.landed.edges([q, *keys]))
    assert len(commands) == 2
    for command, index in zip(commands, ("position", "visibility"), strict=True):
        plan = explained(mongodb, command, command["pipeline"])["stages"][0]["$cursor"]
        scans = _scans(plan["queryPlanner"]["winningPlan"])
        assert [(scan["stage"], scan["indexName"]) for scan in scans] == [("DISTINCT_SCAN", index)]
        assert plan["executionStats"]["totalKeysExamined"] <= 3 * (1 + len(keys))


def _scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The stages of a plan that read an index."""
    if "indexName" in plan:
        return [plan]
    return [scan for part in ("inputStage",) if part in plan for scan in _scans(plan[part])]


def test_ready_looks_again_where_messages_have_expired(
    store: MongoDBStore, q: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(store.now())
    monkeypatch.setattr(store, "now", clock)
    living, mixed, dead, delayed = keys = bound(store, q, 4)
    add(store, living, "m", expires=clock() + 2 * MINUTE)
    for key in (mixed, dead):
        add(store, key, *map(str, range(10)), expires=clock() + MINUTE)
    add(store, mixed, "m", expires=clock() + 2 * MINUTE)
    add(store, delayed, "m", hidden_until=clock() + MINUTE + 1)
    assert store.landed.ready(keys) == [living, mixed, dead]
    clock.advance(MINUTE)
    commands = sent(recorder, lambda: store.landed.ready(keys))
    assert [next(iter(command)) for command in commands] == ["aggregate", "aggregate"]
    assert store.landed.ready(keys) == [living, mixed]


def lose_answer(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Any], is_done: bool = True) -> None:
    """Lose the answer to the next aggregation, or the command itself."""
    aggregate = Collection.aggregate
    lost: list[bool] = []

    def once(collection: Collection[dict[str, Any]], *args: Any, **options: Any) -> Any:
        if lost:
            return aggregate(collection, *args, **options)
        lost.append(True)
        if is_done:
            aggregate(collection, *args, **options)
        meanwhile()
        raise AutoReconnect("the answer is lost")

    monkeypatch.setattr(Collection, "aggregate", once)


def test_append_whose_answer_is_lost_is_done_once(
    store: MongoDBStore, q: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes back that was delivered before the gateway found out."""
    first, second = bound(store, q, 2)
    lose_answer(monkeypatch, lambda: store.landed.delete_unclaimed(first, ["a", "b"]))
    add(store, q, "a", "b")
    assert (listed(store, q), listed(store, first), listed(store, second)) == (["a", "b"], [], ["a", "b"])


def test_append_that_was_lost_is_an_error(store: MongoDBStore, q: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = bound(store, q, 1)
    lose_answer(monkeypatch, lambda: None, is_done=False)
    with pytest.raises(StoreUnavailable):
        add(store, q, "a")
    assert listed(store, q) == listed(store, key) == []


def test_ids_that_are_known_are_left_out_one_by_one(store: MongoDBStore, q: str, recorder: Recorder) -> None:
    """Inserts that are combined stop at them, or not; what was left out then follows."""
    keys = bound(store, q, 3)
    for key in (q, keys[1]):
        store.landed.tombstone(key, {"b": store.now() + MINUTE})
    add(store, keys[0], "a", "c")
    commands = sent(recorder, lambda: add(store, q, "a", "b", "c"))
    assert 1 <= sum("aggregate" in command for command in commands) <= 2
    assert [sorted(listed(store, key)) for key in (q, keys[1])] == [["a", "c"]] * 2
    assert [sorted(listed(store, key)) for key in (keys[0], keys[2])] == [["a", "b", "c"]] * 2
