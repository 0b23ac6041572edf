"""FIFO queues move to other pools while they are used, and keep their groups in order."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest

from bridges.memory import MemoryBridge
from gateway.core.core import Core
from gateway.core.envelopes import fence
from gateway.core.errors import Busy
from gateway.core.messages.post import Post
from gateway.core.migration.bridge import MovingBridge
from gateway.core.migration.fences import is_certainly_empty
from gateway.core.migration.landed import MovingLanded
from gateway.core.migration.turns import Turns
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.remembering import KNOWN_FOR
from storage.errors import QueueGone
from storage.model import Claim, Message
from tests.test_migration import Broker, gateway, move

__all__ = ["gateway"]

#: Seconds without a message after which nobody waits for more.
PROGRESS = 20.0

pytestmark = pytest.mark.usefixtures("hurried")

GROUPS = "abcd"


@pytest.fixture
def brokers() -> dict[str, Broker]:
    """Pool c, unlike the others with a broker, has a side-store of its own."""
    return {name: Broker(name) for name in "abc"}


def post(core: Core, *names: str) -> None:
    posts = [Post(orjson.dumps(name), group=name.partition("-")[0]) for name in names]
    core.messages.post("p", "q", "client", posts, 10)


def names(messages: Any) -> list[str]:
    return [str(orjson.loads(message.body)) for message in messages]


def delete(ids: list[str], claim: str, core: Core, info: QueueInfo) -> Any:
    return core.messages.delete_many(info, ids, [claim])


def release(claim: str, core: Core, info: QueueInfo) -> Any:
    return core.claims.release(info, claim) or True


class Traffic:
    """Producers of some groups, and claimers and poppers through several gateways."""

    def __init__(self, cores: list[Core]):
        self.cores = cores
        self.posting, self.reading = threading.Event(), threading.Event()
        self.posted = dict.fromkeys(GROUPS, 0)
        #: Of each group: the numbers of its messages, and from when to when each may have been handed out.
        self.got: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
        self.held: dict[str, str] = {}
        self.mistakes: list[str] = []
        self.failed: list[BaseException] = []
        self._lock = threading.Lock()
        calls = [lambda group=group: self.post(group) for group in GROUPS] + [self.claim, self.claim, self.pop]
        self.threads = [threading.Thread(target=self.run, args=(call,)) for call in calls]
        for thread in self.threads:
            thread.start()

    def run(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            self.failed.append(error)

    def on_queue(self, work: Callable[[Core, QueueInfo], Any]) -> Any:
        """What ``work`` comes to, tried again when the queue is busy."""
        while True:
            core = random.choice(self.cores)
            try:
                return core.directory.on("p", "q", lambda info, core=core: work(core, info)) or []
            except Busy:
                time.sleep(0.05)

    def post(self, group: str) -> None:
        while not self.posting.is_set():
            post(random.choice(self.cores), f"{group}-{self.posted[group]}")
            self.posted[group] += 1
            time.sleep(0.02)

    def see(self, messages: list[Message], name: str, since: float | None = None) -> None:
        """Note what has been handed out just now, or at some time since then: who claims sees it before he deletes it,
        but what is popped frees its group before the popper sees it.
        """
        with self._lock:
            now = time.monotonic()
            for message in messages:
                if self.held.get(message.group, name) != name:
                    self.mistakes.append(f"{name} and {self.held[message.group]} have messages of {message.group}")
                self.held[message.group] = name
                number = int(names([message])[0].partition("-")[2])
                self.got[message.group].append((number, now if since is None else since, now))

    def claim(self) -> None:
        while not self.reading.is_set():
            messages = self.on_queue(lambda core, info: core.claims.create(info, None, None, 3))
            if not messages:
                time.sleep(0.002)
                continue
            held, claim = messages[:random.randint(1, len(messages))], messages[0].claim
            self.see(held, claim)
            with self._lock:
                for message in held:
                    self.held.pop(message.group, None)
            ids = [message.id for message in held]
            self.on_queue(partial(delete, ids, claim))
            self.on_queue(partial(release, claim))

    def pop(self) -> None:
        while not self.reading.is_set():
            def pop(core: Core, info: QueueInfo) -> Any:
                return core.messages.pop(info, 2)

            since = time.monotonic()
            self.see([*self.on_queue(pop)], "popper", since)
            with self._lock:
                self.held = {group: name for group, name in self.held.items() if name != "popper"}
            time.sleep(0.02)

    def stop(self) -> None:
        self.posting.set()
        count, since = -1, time.monotonic()
        while count < sum(self.posted.values()) and not self.failed and time.monotonic() - since < PROGRESS:
            before, count = count, sum(map(len, self.got.values()))
            if count > before:
                since = time.monotonic()
            time.sleep(0.05)
        self.reading.set()
        for thread in self.threads:
            thread.join(20)


@pytest.mark.parametrize("way", [("b", "default"), ("stored", "b"), ("c", "default")], ids="-".join)
def test_groups_stay_in_order_under_traffic(gateway: Callable[[], Core], way: tuple[str, ...]) -> None:
    cores = [gateway() for _ in range(2)]
    cores[0].pools.put("c", 0, "memory://c", "", {"side_store": "c"})
    cores[0].queues.create("p", "q", {"_fifo": True})
    post(cores[0], *(f"{group}-{number}" for number in range(-150, 0) for group in GROUPS))
    info = cores[0].directory.ensure("p", "q")
    while cores[0].messages.pop(info, 20):
        pass
    traffic = Traffic(cores)
    try:
        for target in way:
            time.sleep(KNOWN_FOR)
            move(cores[0], target)
        time.sleep(KNOWN_FOR)
    finally:
        traffic.stop()
    assert traffic.failed == []
    assert traffic.mistakes == []
    for group, count in traffic.posted.items():
        got = sorted(traffic.got[group])
        assert [number for number, _, _ in got] == list(range(count)), group
        latest = float("inf")
        for number, since, until in reversed(got):
            assert since <= latest, f"of {group}, one after {number} was handed out before it"
            latest = min(latest, until)


@pytest.mark.parametrize("target", ["b", "stored", "c"])
def test_groups_claims_and_what_waits_go_along(gateway: Callable[[], Core], target: str) -> None:
    core = gateway()
    core.pools.put("c", 0, "memory://c", "", {"side_store": "c"})
    core.queues.create("p", "q", {"_fifo": True})
    post(core, "a-0", "a-1", "b-0")
    info = core.directory.ensure("p", "q")
    claimed = core.claims.create(info, 600, 60, 1)
    post(core, "a-2", "c-0")
    move(core, target)
    post(core, "a-3", "b-1")
    info = core.directory.ensure("p", "q")
    assert (info.pool.name, info.settings.fifo) == (target, True)
    assert names(core.claims.get(info, str(claimed[0].claim))) == ["a-0"]
    others = core.claims.create(info, None, None, 20)
    assert names(others) == ["b-0", "c-0", "b-1"]
    assert core.claims.create(info, None, None, 20) == []
    core.claims.release(info, str(claimed[0].claim))
    rest = core.claims.create(info, None, None, 20)
    assert names(rest) == ["a-0", "a-1", "a-2", "a-3"]
    assert {message.group for message in rest} == {"a"}


class TestBridge:
    """The two brokers of a FIFO queue that moves."""

    @pytest.fixture
    def both(self) -> tuple[MemoryBridge, MemoryBridge]:
        old, new = Broker("a"), Broker("b")
        for bridge in (old, new):
            bridge.create("q", in_order=True)
        return old, new

    def test_new_one_waits_until_the_old_one_is_empty_for_certain(
        self, both: tuple[MemoryBridge, MemoryBridge]
    ) -> None:
        old, new = both
        old.publish("q", [fence("1", 1000)])
        new.publish("q", [fence("2", 1000)])
        moving = MovingBridge(old, new, lambda: True)
        held = old.fetch("q", 1, in_order=True)
        assert moving.fetch("q", 9, in_order=True).envelopes == []
        old.settle(held)
        assert moving.fetch("q", 9, in_order=True).envelopes == []
        settling = MovingBridge(old, new, lambda: True, is_emptied=True)
        assert [each.message_id for each in settling.fetch("q", 9, in_order=True).envelopes] == ["2"]

    def test_what_comes_late_into_the_old_one_comes_first(self, both: tuple[MemoryBridge, MemoryBridge]) -> None:
        old, new = both
        new.publish("q", [fence("2", 1000)])
        moving = MovingBridge(old, new, lambda: True, is_emptied=True)
        fetch = new.fetch

        def slow(queue: str, limit: int, in_order: bool = False) -> Any:
            batch = fetch(queue, limit, in_order=in_order)
            old.publish("q", [fence("1", 1000)])
            new.fetch = fetch
            return batch

        new.fetch = slow
        for expected in "12":
            batch = moving.fetch("q", 9, in_order=True)
            assert [each.message_id for each in batch.envelopes] == [expected]
            moving.settle(batch)


class TestFences:
    """Whether a broker's queue is empty for certain."""

    @pytest.fixture
    def info(self, core: Core) -> QueueInfo:
        core.queues.create("p", "q", {"_fifo": True})
        return core.directory.ensure("p", "q")

    def test_empty_queue_is_empty(self, bridge: MemoryBridge, info: QueueInfo) -> None:
        assert is_certainly_empty(info)
        assert bridge.depth(info.broker) == bridge.in_hand(info.broker) == 0

    def test_queue_is_not_empty_while_a_message_waits_or_is_held(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        post(core, "a-1", "a-2")
        assert not is_certainly_empty(info)
        held = bridge.fetch(info.broker, 2, in_order=True)
        assert not is_certainly_empty(info)
        bridge.settle(held)
        assert is_certainly_empty(info)

    def test_fence_is_no_message(self, core: Core, bridge: MemoryBridge, info: QueueInfo) -> None:
        post(core, "a-1")
        bridge.publish(info.broker, [fence("1", 1000)])
        post(core, "a-2")
        assert names(core.claims.create(info, None, None, 20)) == ["a-1", "a-2"]
        assert core.messages.stats(info)[1] == 0

    def test_queue_that_is_gone_is_empty(self, bridge: MemoryBridge, info: QueueInfo) -> None:
        bridge.delete(info.broker)
        assert is_certainly_empty(info)

    def test_busy_queue_is_not_known_to_be_empty(
        self, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.core.landing.LANDING_BUDGET", 0.1)
        info.pool.store.landed.acquire_lease(info.key, "other", 60.0)
        assert not is_certainly_empty(info)


def test_gateway_that_does_not_know_of_the_move_hands_out_nothing_once_messages_land_elsewhere(
    gateway: Callable[[], Core],
) -> None:
    """It remembers the queue for too long, as a gateway does that was stopped."""
    core = gateway()
    core.pools.put("c", 0, "memory://c", "", {"side_store": "c"})
    core.queues.create("p", "q", {"_fifo": True})
    late = core.directory.ensure("p", "q")
    post(core, "a-0", "a-1")
    old, new = core.pool.store, core.all_pools.get("c").store
    switched = threading.Event()
    both = MovingLanded(old, new, Turns(old, "/turn/q"), switched.is_set)
    new.landed.open_queue(late.key, 0)
    assert both.acquire_lease(late.key, "us", 60.0, alone=True) is not None
    both.release_lease(late.key, "us", 5, quick=True)
    old.landed.land(late.key, [], None)  # nothing has changed for those who know nothing
    switched.set()
    last = both.acquire_lease(late.key, "us", 60.0, alone=True)
    assert last is not None and last >= 5
    both.release_lease(late.key, "us", last, quick=True)
    with pytest.raises(QueueGone):
        late.pool.taking.claim(late, Claim("late", 60, core.now() + 60_000, core.now() + 60_000), 1, sort_out)
    assert new.landed.acquire_lease(late.key, "them", 60.0) == last


def sort_out(info: QueueInfo, free: list[Message], burials: Any = None) -> list[Message]:
    return free
