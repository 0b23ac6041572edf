"""Those who claim and those who list, at once: nobody gets a message behind one that is just being landed (rule 4)."""

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from bridges.base import Batch
from bridges.memory import MemoryBridge
from gateway.core.core import Core
from gateway.core.errors import Busy
from gateway.core.ids import IdMaker
from gateway.core.messages.post import Post
from gateway.core.pools.pool import Pool
from gateway.core.queues.info import QueueInfo
from gateway.core.seal import Seal
from gateway.core.sealing import Sealing
from gateway.core.taking import SLOW_FETCH
from gateway.observe.metrics import STORE_CALLS, timed
from storage.model import Message
from storage.suite import together
from tests.test_landing import bodies, claim, land_free, native, posted
from tests.threads import DEADLINE, in_background

#: Messages that one producer posts, and other gateways that list them meanwhile.
STREAM = 120
LISTERS = 3

#: Seconds within which a call that does not wait for anything is over.
SOON = 0.2


@pytest.fixture
def pool(core: Core) -> Pool:
    return core.pool


@pytest.fixture
def elsewhere(core: Core) -> Pool:
    """Another gateway's on the same broker and side-store."""
    return another(core.pool)


def another(pool: Pool) -> Pool:
    store = timed(pool.store, STORE_CALLS, pool.name, parts=("landed",))  # to be broken for this one alone
    return Pool(pool.name, pool.bridge, store, IdMaker(), Sealing(Seal()))


class SlowLand:
    """Stops a gateway between its fetch and its write."""

    def __init__(self, pool: Pool, monkeypatch: pytest.MonkeyPatch):
        self.fetched = threading.Event()
        self.go_on = threading.Event()
        self._land = pool.store.landed.land
        monkeypatch.setattr(pool.store.landed, "land", self)

    def __call__(self, q: str, messages: Sequence[Message], **how: Any) -> set[str]:
        self.fetched.set()
        assert self.go_on.wait(DEADLINE)
        return set(self._land(q, messages, **how))


@pytest.mark.parametrize("where", ["the same gateway", "another gateway"])
def test_claimer_waits_for_a_lister_that_is_landing(
    pool: Pool, elsewhere: Pool, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    claimer = pool if where == "the same gateway" else elsewhere
    bridge.publish(info.broker, native(*"12345"))
    slow = SlowLand(pool, monkeypatch)
    lister = in_background(lambda: land_free(pool, info, 2))
    assert slow.fetched.wait(DEADLINE)
    claimed = in_background(lambda: claim(claimer, info, 2))
    with pytest.raises(TimeoutError):
        claimed.result(SOON)
    slow.go_on.set()
    assert bodies(claimed.result(DEADLINE)) == ["1", "2"]
    assert bodies(lister.result(DEADLINE)[0]) == ["1", "2"]


@pytest.mark.parametrize("producer", ["gateway", "native"])
@pytest.mark.parametrize("lister", ["has landed", "is landing"])
def test_claimer_that_fetches_late_lands_that_behind_what_a_lister_has(
    core: Core, pool: Pool, elsewhere: Pool, bridge: MemoryBridge, info: QueueInfo,
    monkeypatch: pytest.MonkeyPatch, lister: str, producer: str,
) -> None:
    """It has seen no lease, but a lister began and fetched before its own fetch reached the broker."""
    bridge.publish(info.broker, native(*"12345") if producer == "native" else posted(core, *"12345"))
    slow = SlowLand(elsewhere, monkeypatch)
    real = info.bridge.fetch

    def fetch(queue: str, limit: int) -> Batch:
        monkeypatch.setattr(info.bridge, "fetch", real)
        listed = in_background(lambda: land_free(elsewhere, info, 2))
        assert slow.fetched.wait(DEADLINE)
        if lister == "has landed":
            slow.go_on.set()
            listed.result(DEADLINE)
        time.sleep(SLOW_FETCH)
        return real(queue, limit)

    monkeypatch.setattr(info.bridge, "fetch", fetch)
    claimed = in_background(lambda: claim(pool, info, 2))
    if lister == "is landing":
        with pytest.raises(TimeoutError):
            claimed.result(SOON)
        slow.go_on.set()
    assert bodies(claimed.result(DEADLINE)) == ["1", "2"]
    assert bodies(core.pool.store.landed.find_free(info.key, 5)[0]) == ["3", "4"]
    assert bridge.depth(info.broker) == 1


def test_claimer_that_fetches_late_keeps_what_is_older_than_a_listers(
    core: Core, pool: Pool, elsewhere: Pool, bridge: MemoryBridge, info: QueueInfo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its fetch reached the broker first; only the answer was slow."""
    bridge.publish(info.broker, posted(core, *"1234"))
    real = info.bridge.fetch

    def fetch(queue: str, limit: int) -> Batch:
        monkeypatch.setattr(info.bridge, "fetch", real)
        batch = real(queue, limit)
        assert bodies(land_free(elsewhere, info, 1)[0]) == ["3"]
        time.sleep(SLOW_FETCH)
        return batch

    monkeypatch.setattr(info.bridge, "fetch", fetch)
    assert bodies(claim(pool, info, 2)) == ["1", "2"]


def test_batch_of_a_claimer_that_may_not_land_it_is_given_back(
    core: Core, pool: Pool, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.core.landing.LANDING_BUDGET", 0.1)
    monkeypatch.setattr("gateway.core.taking.LANDING_BUDGET", 0.1)
    bridge.publish(info.broker, posted(core, *"12"))
    real = info.bridge.fetch

    def fetch(queue: str, limit: int) -> Batch:
        core.pool.store.landed.acquire_lease(info.key, "dead", 60)
        time.sleep(SLOW_FETCH)
        return real(queue, limit)

    monkeypatch.setattr(info.bridge, "fetch", fetch)
    with pytest.raises(Busy):
        claim(pool, info, 2)
    assert bridge.depth(info.broker) == 2


def test_page_has_what_others_landed_while_its_lease_was_lost(
    core: Core, pool: Pool, elsewhere: Pool, bridge: MemoryBridge, info: QueueInfo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its marker will be behind that (rule 5)."""
    monkeypatch.setattr("gateway.core.lease.LEASE_USE", -1.0)
    monkeypatch.setattr("gateway.core.landing.LANDING_BATCH", 1)
    bridge.publish(info.broker, native(*"1234"))
    real = core.pool.store.landed.renew_lease
    renewals: list[str] = []

    def renew(q: str, owner: str, seconds: float) -> bool:
        renewals.append(q)
        if len(renewals) == 2:
            core.pool.store.landed.release_lease(q, owner, 0)
            monkeypatch.setattr(core.pool.store.landed, "renew_lease", real)
            assert bodies(land_free(elsewhere, info, 1)[0]) == ["3"]  # 2 is in the hand of the lister
        return real(q, owner, seconds)

    monkeypatch.setattr(core.pool.store.landed, "renew_lease", renew)
    assert bodies(core.messages.list(info, None, 4, None, False, False)) == ["1", "3", "2", "4"]


@pytest.mark.parametrize("where", ["the same gateway", "another gateway"])
def test_claimers_do_not_wait_for_each_other(
    pool: Pool, elsewhere: Pool, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    bridge.publish(info.broker, native(*"12"))
    slow = SlowLand(pool, monkeypatch)
    first = in_background(lambda: claim(pool, info, 1, "first"))
    assert slow.fetched.wait(DEADLINE)
    if where == "another gateway":
        assert bodies(claim(elsewhere, info, 1, "second")) == ["2"]
        slow.go_on.set()
    else:
        second = in_background(lambda: claim(pool, info, 1, "second"))
        slow.go_on.set()
        assert bodies(second.result(DEADLINE)) == ["2"]
    assert bodies(first.result(DEADLINE)) == ["1"]


@pytest.mark.parametrize("call", ["get", "delete"])
def test_message_that_is_just_being_claimed_is_not_taken_for_gone(
    core: Core, pool: Pool, info: QueueInfo, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """It is in the broker no more and not yet in the side-store."""
    (id_,) = core.messages.post(info.project, info.name, "client", [Post(b"1")], 100)
    slow = SlowLand(pool, monkeypatch)
    claimed = in_background(lambda: claim(pool, info))
    assert slow.fetched.wait(DEADLINE)
    asked = in_background({
        "get": lambda: core.messages.get(info, [id_]),
        "delete": lambda: core.messages.delete_many(info, [id_], None),
    }[call])
    with contextlib.suppress(TimeoutError):
        asked.result(SOON)  # it may well wait for the claimer
    slow.go_on.set()
    assert bodies(claimed.result(DEADLINE)) == ["1"]
    if call == "delete":
        # Claimed before it could be deleted, so it stays and the caller is told; or it is gone for good.
        assert asked.result(DEADLINE)[0] == {id_} or core.pool.store.landed.get_claim(info.key, "claim") == []
    else:
        assert bodies(asked.result(DEADLINE)) == ["1"]


def test_claimers_answer_when_a_dead_gateway_holds_the_lease(
    core: Core, pool: Pool, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They give up in time, and what had landed before is not kept from them."""
    monkeypatch.setattr("gateway.core.landing.LANDING_BUDGET", 0.1)
    monkeypatch.setattr("gateway.core.taking.LANDING_BUDGET", 0.1)
    bridge.publish(info.broker, native(*"12"))
    land_free(pool, info, 1)
    core.pool.store.landed.acquire_lease(info.key, "dead", 60)
    assert bodies(claim(pool, info, 5)) == ["1"]


def test_only_claimer_gets_a_producers_messages_in_order_while_others_list(
    core: Core, pool: Pool, bridge: MemoryBridge, info: QueueInfo
) -> None:
    """Of a gateway's messages: their ids tell which is older, however long a thread is kept waiting meanwhile."""
    numbers = [str(number) for number in range(STREAM)]
    done = threading.Event()

    def post() -> None:
        for number in numbers:
            bridge.publish(info.broker, posted(core, number))

    def take() -> list[str]:
        got: list[str] = []
        try:
            while len(got) < STREAM:
                got += bodies(claim(pool, info, 3, f"claim-{len(got)}"))
        finally:
            done.set()
        return got

    def list_(gateway: Pool) -> None:
        while not done.is_set():
            with contextlib.suppress(Busy):  # so many listers wait long for their turn
                land_free(gateway, info, 2)

    listers = [another(core.pool) for _ in range(LISTERS)]
    _, got, *_ = together(post, take, *[lambda gateway=gateway: list_(gateway) for gateway in listers])
    assert got == numbers


def test_many_claimers_and_listers_lose_nothing_and_get_nothing_twice(
    core: Core, pool: Pool, elsewhere: Pool, bridge: MemoryBridge, info: QueueInfo
) -> None:
    posted = [str(number) for number in range(STREAM)]
    bridge.publish(info.broker, native(*posted))
    taken = threading.Semaphore(0)

    def take(gateway: Pool, worker: int) -> list[str]:
        got: list[str] = []
        rounds = 0
        while batch := bodies(claim(gateway, info, 3, f"claim-{worker}-{rounds}")):
            rounds += 1
            got += batch
        taken.release()
        return got

    def walk(gateway: Pool) -> list[str]:
        seen: list[str] = []
        while not taken.acquire(blocking=False):
            seen += bodies(land_free(gateway, info, 2)[0])
        return seen

    gateways = [pool, elsewhere]
    calls = [lambda n=n: take(gateways[n % 2], n) for n in range(4)] + [lambda: walk(elsewhere)]
    *claimed, landed = together(*calls)
    left = claim(pool, info, STREAM, "left")
    got = [body for part in claimed for body in part] + bodies(left)
    assert sorted(got, key=int) == posted
    assert len(set(landed)) == len(landed)
