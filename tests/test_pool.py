"""Everything about a queue goes through the pool that it is in."""

from collections.abc import Iterator

import pytest

from bridges.memory import MemoryBridge
from gateway.core.core import Core
from gateway.core.messages.post import Post
from gateway.core.pools.pool import Pool
from gateway.core.queues.known import KnownQueues
from gateway.core.seal import Seal
from gateway.core.sealing import Sealing
from storage.model import DEFAULT_POOL
from storage.sqlite import SQLiteStore


@pytest.fixture
def elsewhere() -> MemoryBridge:
    """The bridge of another pool, which all queues are in."""
    return MemoryBridge()


@pytest.fixture
def moved(core: Core, store: SQLiteStore, elsewhere: MemoryBridge, monkeypatch: pytest.MonkeyPatch) -> Iterator[Core]:
    other = Pool("other", elsewhere, store, core.ids, Sealing(Seal()))
    monkeypatch.setattr(KnownQueues, "pool_of", lambda *_: other)
    yield core


def post(core: Core, *bodies: bytes) -> list[str]:
    return core.messages.post("p", "q", "client", [Post(body) for body in bodies], 10)


def test_queues_are_in_the_default_pool(core: Core) -> None:
    assert core.directory.ensure("p", "q").pool is core.directory.expected("p", "new").pool is core.pool
    assert core.pool.name == DEFAULT_POOL


def test_life_of_messages_is_in_the_pool_of_their_queue(
    moved: Core, bridge: MemoryBridge, elsewhere: MemoryBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("create", "publish", "fetch", "depth", "delete", "purge", "deposit"):
        monkeypatch.setattr(moved.pool.bridge, name, lambda *_, name=name: pytest.fail(name))
    first, *_ = post(moved, *b"1 2 3 4 5".split())
    info = moved.directory.ensure("p", "q")
    assert elsewhere.depth(info.broker) == 5
    assert [m.body for m in moved.messages.pop(info, 1)] == [b"1"]
    assert moved.messages.get(info, [first]) == []
    assert [m.body for m in moved.messages.list(info, None, 1, None, False, False)] == [b"2"]
    claimed = moved.claims.create(info, None, None, 2)
    assert [m.body for m in claimed] == [b"2", b"3"]
    assert moved.messages.delete(info, claimed[0].id, claimed[0].claim)
    assert moved.messages.stats(info)[0].claimed == 1
    moved.messages.purge("p", "q")
    assert moved.messages.stats(info)[1] == elsewhere.depth(info.broker) == 0
    moved.queues.delete("p", "q")


def test_dead_letters_go_to_the_pool_of_their_queue(moved: Core, bridge: MemoryBridge, elsewhere: MemoryBridge) -> None:
    moved.queues.create("p", "q", {"_max_claim_count": 1, "_dead_letter_queue": "dead"})
    post(moved, b"1")
    info = moved.directory.ensure("p", "q")
    (message,) = moved.claims.create(info, None, None, 1)
    moved.claims.release(info, str(message.claim))
    assert moved.claims.create(info, None, None, 1) == []
    dead = moved.directory.ensure("p", "dead")
    assert (elsewhere.depth(dead.broker), bridge.depth(dead.broker)) == (1, 0)
