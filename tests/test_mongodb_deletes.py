"""Deletes of several requests in one command to MongoDB, of which it tells only how many messages all have deleted."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from storage.combining import Combiner
from storage.errors import StoreError, StoreUnavailable
from storage.mongodb.landed import MongoDBLanded
from tests.threads import DEADLINE

#: Threads that delete: the first one is under way while the others come.
DELETERS = 5

Together = Callable[[Sequence[Mapping[str, Any]]], int]


class FakeDatabase:
    """Has the messages ``there``; ``together`` does a command of several deletes."""

    def __init__(self, there: Sequence[str], together: Together | None = None):
        self.there = set(there)
        self.delete_each = together or (lambda queries: sum(self._delete(query["_id"]) for query in queries))
        self.alone: list[str] = []
        self.first_is_under_way, self.others_wait = threading.Event(), threading.Event()

    def delete(self, query: Mapping[str, Any], one: bool) -> int:
        """Delete the message of a single query."""
        if not self.first_is_under_way.is_set():
            self.first_is_under_way.set()
            assert self.others_wait.wait(DEADLINE)
        self.alone.append(query["_id"])
        return self._delete(query["_id"])

    def find(self, query: Mapping[str, Any], most: int, **options: Any) -> list[dict[str, Any]]:
        """Those that are there."""
        return [{"_id": id_} for id_ in query["_id"]["$in"] if id_ in self.there]

    def _delete(self, id_: str) -> int:
        """A message whose claim is over is there, and can't be deleted."""
        if id_ not in self.there or "over" in id_:
            return 0
        self.there.remove(id_)
        return 1


def deleted(database: FakeDatabase, ids: Sequence[str]) -> list[int | Exception]:
    """What each thread is told: the first one alone, the others together."""
    landed: Any = MongoDBLanded.__new__(MongoDBLanded)
    landed._database, landed._calls = database, lambda *_: nullcontext()
    landed.clock = SimpleNamespace(now=lambda: 1000)
    landed._deletes = Combiner(landed._delete_each, DEADLINE)

    def delete(id_: str) -> int | Exception:
        try:
            return landed.delete_claimed("q", [id_], ["claim"])
        except StoreError as error:
            return error

    with ThreadPoolExecutor(len(ids)) as threads:
        calls = [threads.submit(delete, ids[0])]
        assert database.first_is_under_way.wait(DEADLINE)
        calls += [threads.submit(delete, id_) for id_ in ids[1:]]
        while len(landed._deletes._lines.get(None, ())) < len(ids) - 1:
            threading.Event().wait(0.001)
        database.others_wait.set()
        return [call.result(DEADLINE) for call in calls]


IDS = [f"m{number}" for number in range(DELETERS)]


def keys(*ids: str) -> list[str]:
    return [f"q/{id_}" for id_ in ids]


def test_all_are_deleted_by_one_command() -> None:
    database = FakeDatabase(keys(*IDS))
    assert deleted(database, IDS) == [1] * DELETERS
    assert (database.alone, database.there) == (keys("m0"), set())


def test_those_that_can_not_be_deleted_are_found_out() -> None:
    ids = ["m0", "m1", "over-1", "m2", "over-2"]
    database = FakeDatabase(keys(*ids))
    assert deleted(database, ids) == [1, 1, 0, 1, 0]
    assert database.alone == keys("m0")


def test_each_asks_alone_if_nobody_can_tell_which_were_deleted() -> None:
    ids = ["m0", "m1", "gone", "m2", "over"]
    database = FakeDatabase(keys("m0", "m1", "m2", "over"))
    assert deleted(database, ids) == [1, 0, 0, 0, 0]  # whoever gets 0 looks, and finds that it is not there
    assert sorted(database.alone) == sorted(keys(*ids))
    assert database.there == {"q/over"}


def test_each_tries_alone_if_the_command_fails() -> None:
    def together(queries: Sequence[Mapping[str, Any]]) -> int:
        raise StoreUnavailable("too slow")

    database = FakeDatabase(keys(*IDS), together)
    assert deleted(database, IDS) == [1] * DELETERS
    assert sorted(database.alone) == sorted(keys(*IDS))


def test_failure_of_a_single_one_is_its_own() -> None:
    class Broken(FakeDatabase):
        def _delete(self, id_: str) -> int:
            if id_ == "q/m2":
                raise StoreUnavailable("it is down")
            return super()._delete(id_)

    told = deleted(Broken(keys(*IDS), lambda queries: None), IDS)
    assert [str(answer) for answer in told] == ["1", "1", "it is down", "1", "1"]
