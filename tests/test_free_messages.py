"""Claimers that search a queue for free messages at the same moment."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.core import Core
from gateway.core.free_messages import FreeMessages
from gateway.core.messages.post import Post
from gateway.core.queues.info import QueueInfo
from storage.errors import StoreUnavailable
from tests.threads import DEADLINE, in_background

#: Seconds that may pass without any sign of life.
MOMENT = 0.02

QUEUE: Any = SimpleNamespace(key="p/q")


class Free:
    """Free messages as Sealing finds them; ``meanwhile`` happens after each search has read them."""

    def __init__(self, *ids: str, meanwhile: Callable[[], Any] = lambda: None):
        self.ids = list(ids)
        self.meanwhile = meanwhile
        self.searches: list[int] = []

    def free(self, info: Any, limit: int) -> tuple[list[Any], bool]:
        self.searches.append(limit)
        found = [SimpleNamespace(id=id_) for id_ in self.ids[:limit]]
        self.meanwhile()
        return found, len(found) < limit  # as if the lease were held: nobody looks when there are enough messages


class Hanging(Free):
    """Its second search hangs until ``go``."""

    def __init__(self, *ids: str):
        super().__init__(*ids, meanwhile=self._hang)
        self.hangs, self.go = threading.Event(), threading.Event()

    def _hang(self) -> None:
        if len(self.searches) == 2:
            self.hangs.set()
            assert self.go.wait(DEADLINE)


def ids(found: Any) -> list[str]:
    return [message.id for message in found.free]


def test_claimers_get_different_messages_until_they_have_claimed() -> None:
    free = FreeMessages(sealing := Free("a", "b", "c"), DEADLINE)  # type: ignore[arg-type]
    first, second = free.find(QUEUE, 1), free.find(QUEUE, 1)
    assert (ids(first), ids(second)) == (["a"], ["b"])
    free.claimed(QUEUE.key, first)  # it has failed to: the message is still there
    sealing.ids.remove("b")
    free.claimed(QUEUE.key, second)
    third = free.find(QUEUE, 5)
    assert ids(third) == ["a", "c"]
    free.claimed(QUEUE.key, third)
    assert not free._claiming


def test_those_who_wait_share_a_search() -> None:
    sealing = Hanging(*"abcdefghijklmnop")
    free = FreeMessages(sealing, DEADLINE)  # type: ignore[arg-type]
    assert ids(free.find(QUEUE, 1)) == ["a"]
    first = in_background(lambda: free.find(QUEUE, 1))
    assert sealing.hangs.wait(DEADLINE)
    others = [in_background(lambda: free.find(QUEUE, 2)) for _ in range(5)]
    while len(free._shared._lines.get(QUEUE.key, ())) < len(others):
        threading.Event().wait(0.001)
    sealing.go.set()
    got = ids(first.result(DEADLINE)) + sorted(id_ for other in others for id_ in ids(other.result(DEADLINE)))
    assert got == list("bcdefghijkl")
    assert sealing.searches == [1, 2, 12]


def test_nobody_waits_for_a_search_that_hangs() -> None:
    """Threads that wait for it would be missing for other pools, whose guards don't know of them."""
    sealing = Hanging(*"abcde")
    free = FreeMessages(sealing, MOMENT)  # type: ignore[arg-type]
    free.find(QUEUE, 1)
    first = in_background(lambda: free.find(QUEUE, 1))
    assert sealing.hangs.wait(DEADLINE)
    assert ids(free.find(QUEUE, 1)) == ["b"]  # by a search of its own
    sealing.go.set()
    assert ids(first.result(DEADLINE)) == ["c"]


def test_searches_that_find_nothing_go_on_side_by_side() -> None:
    both = threading.Barrier(2)
    free = FreeMessages(Free(meanwhile=lambda: both.wait(DEADLINE)), DEADLINE)  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: free.find(QUEUE, 1), range(2), timeout=DEADLINE))
    assert [(f.free, f.leased) for f in found] == [([], True)] * 2


def test_what_another_takes_during_the_search_is_made_up_for() -> None:
    """Else nobody would know whether the lease is held: a search that finds enough does not look."""
    taken: list[Any] = []

    def take() -> None:
        if not taken:
            taken.append(None)
            taken.append(free.find(QUEUE, 1))

    free = FreeMessages(Free("a", "b", meanwhile=take), DEADLINE)  # type: ignore[arg-type]
    found = free.find(QUEUE, 1)
    assert (ids(taken[1]), ids(found)) == (["a"], ["b"])
    free.claimed(QUEUE.key, found)
    free.claimed(QUEUE.key, taken[1])
    assert not free._claiming


def test_each_claims_another_one_of_those_that_have_landed(core: Core, info: QueueInfo) -> None:
    bodies = [str(number).encode() for number in range(40)]
    core.messages.post(info.project, info.name, "client", [Post(body, None) for body in bodies], 100)
    core.claims.release(info, core.claims.create(info, 60, 60, 20)[0].claim or "")  # now half of them have landed
    with ThreadPoolExecutor(20) as threads:
        claims = list(threads.map(lambda _: core.claims.create(info, 60, 60, 1), range(20)))
    assert sorted(int(message.body) for claim in claims for message in claim) == list(range(20))
    assert not core.pool.taking._free._claiming


def test_messages_of_a_claim_that_fails_are_there_for_the_next(
    core: Core, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.messages.post(info.project, info.name, "client", [Post(b"1", None)], 100)
    core.claims.release(info, core.claims.create(info, 60, 60, 1)[0].claim or "")
    with monkeypatch.context() as broken:
        def claim(*_: Any) -> Any:
            raise StoreUnavailable("it is down")

        broken.setattr(core.pool.store.landed, "claim", claim)
        with pytest.raises(StoreUnavailable):
            core.claims.create(info, 60, 60, 1)
    assert len(core.claims.create(info, 60, 60, 1)) == 1
