"""Queues move to other pools while they are used."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from bridges.base import Bridge
from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from functional.wait import wait_until
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.errors import Busy, Conflict, InvalidInput, NotFound
from gateway.core.messages.post import Post
from gateway.core.migration import mover
from gateway.core.migration.move import LANDED, WAITING, Move
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.remembering import KNOWN_FOR
from storage.model import Message
from storage.sqlite import SQLiteStore

#: Seconds after which a move that nothing holds up has ended.
MOVED = 30.0

#: Seconds without a message after which nobody waits for more.
PROGRESS = 20.0

#: Seconds after which a post that waits would be refused. Two seconds are the promise, which functional tests hold:
#: here other tests take their time.
REFUSED = 10.0

pytestmark = pytest.mark.usefixtures("hurried")


class Broker(MemoryBridge):
    """A broker that several gateways share."""

    def __init__(self, name: str):
        super().__init__()
        self._name = name

    def describe(self) -> str:
        return f"memory://{self._name}"


@pytest.fixture
def brokers() -> dict[str, Broker]:
    return {name: Broker(name) for name in ("a", "b")}


@pytest.fixture
def gateway(tmp_path: Path, brokers: dict[str, Broker]) -> Iterator[Callable[[], Core]]:
    """Starts gateways that share brokers and side-stores. Pool ``default`` is broker a; ``b`` is broker b; ``c`` is
    broker b's twin with a side-store of its own, and ``stored`` has no broker.
    """
    started: list[Core] = []

    def store(name: str) -> SQLiteStore:
        return SQLiteStore(f"sqlite:///{tmp_path}/{name}.db", SimpleNamespace(timeout=5.0))

    def open_drivers(uri: str, options: Mapping[str, Any]) -> tuple[Bridge, SQLiteStore | None]:
        kind, _, name = uri.partition("://")
        if kind == "memory":
            return brokers[name], store(options["side_store"]) if "side_store" in options else None
        return LoopbackBridge("loopback://", None), store(name)

    def start() -> Core:
        core = Core(brokers["a"], store("main"), Limits(), open_drivers=open_drivers)
        if not started:
            core.pools.put("b", 0, "memory://b", "", {})
            core.pools.put("stored", 0, "sqlite://stored", "", {})
        started.append(core)
        return core

    yield start
    for core in started:
        core.close()


def post(core: Core, *bodies: str) -> list[str]:
    return core.messages.post("p", "q", "client", [Post(body.encode()) for body in bodies], 10)


def move(core: Core, target: str) -> None:
    core.migrations.start("p", "q", target)
    wait_until(lambda: core.migrations.get("p", "q").move is None, MOVED, "the end of the move")
    assert core.migrations.get("p", "q").pool == target


def popped(core: Core) -> list[str]:
    got: list[str] = []
    while page := core.directory.on("p", "q", lambda info: core.messages.pop(info, 20)):
        got += [message.body.decode() for message in page]
    return got


@pytest.mark.parametrize("way", [("b",), ("stored",), ("stored", "b")], ids="-".join)
def test_queue_keeps_all_it_has(gateway: Callable[[], Core], way: tuple[str, ...]) -> None:
    core = gateway()
    ids = post(core, *map(str, range(50)))
    info = core.directory.ensure("p", "q")
    claimed = core.claims.create(info, 600, 60, 5)
    listed = core.messages.list(info, None, 10, None, False, False)
    post(core, *map(str, range(50, 300)))
    core.messages.delete_many(info, ids[20:25], None)  # landed or not
    for target in way:
        move(core, target)
    info = core.directory.ensure("p", "q")
    assert info.pool.name == way[-1]
    now = core.claims.get(info, str(claimed[0].claim))
    assert [(m.id, m.seq, m.claim, m.hidden_until, m.claims, m.expires) for m in now] == [
        (m.id, m.seq, m.claim, m.hidden_until, m.claims, m.expires) for m in claimed
    ]
    after = core.messages.list(info, str(listed[-1].seq), 5, None, False, False)
    assert [m.body for m in after] == [b"15", b"16", b"17", b"18", b"19"], "markers are as before"
    assert core.messages.delete(info, claimed[0].id, claimed[0].claim)
    core.claims.release(info, str(claimed[0].claim))
    assert popped(core) == [str(i) for i in range(1, 300) if i not in range(20, 25)]


def test_old_place_is_left_empty(gateway: Callable[[], Core], brokers: dict[str, Broker]) -> None:
    core = gateway()
    post(core, "1", "2")
    old = core.directory.ensure("p", "q")
    move(core, "stored")
    assert old.broker not in brokers["a"]._queues
    assert core.pool.store.landed.export(old.key, 0, 10) == []
    core.queues.delete("p", "q")
    assert core.all_pools.get("stored").store.landed.export(old.key, 0, 10) == []


def test_posts_by_a_gateway_that_does_not_know_are_not_lost(gateway: Callable[[], Core]) -> None:
    """It has looked for the queue before it moved, and publishes when all is over."""
    core, late = gateway(), gateway()
    core.queues.create("p", "q", None)
    pool = late.pool
    publish, ready, go_on = pool.bridge.publish, threading.Event(), threading.Event()

    def slow(*args: Any) -> None:
        ready.set()
        assert go_on.wait(MOVED)
        publish(*args)

    pool.bridge.publish = slow
    thread = threading.Thread(target=lambda: post(late, "7"))
    thread.start()
    assert ready.wait(5)
    move(core, "b")
    go_on.set()
    thread.join(10)
    assert popped(core) == ["7"]


def test_late_confirm_is_not_believed(
    gateway: Callable[[], Core], brokers: dict[str, Broker]
) -> None:
    """It came too late to tell whether the old broker had the message before it was emptied for the last time."""
    core, late = gateway(), gateway()
    core.queues.create("p", "q", None)
    publish, done, go_on = late.pool.bridge.publish, threading.Event(), threading.Event()

    def confirmed_late(*args: Any) -> None:
        publish(*args)
        done.set()
        assert go_on.wait(MOVED)

    late.pool.bridge.publish = confirmed_late
    ids: list[str] = []
    thread = threading.Thread(target=lambda: ids.extend(post(late, "7")))
    thread.start()
    assert done.wait(5)
    brokers["a"].purge(core.directory.ensure("p", "q").broker)  # as if it had come after the last look
    move(core, "b")
    go_on.set()
    thread.join(10)
    assert popped(core) == ["7"]


def test_another_gateway_takes_up_what_one_has_left(
    gateway: Callable[[], Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "TAKEN_OVER_AFTER", 2.0)
    core = gateway()
    post(core, *map(str, range(100)))
    core.migrations.start("p", "q", "stored")
    wait_until(lambda: phase(core) not in (None, WAITING), MOVED, "its beginning")
    core.stop()
    other = gateway()
    wait_until(lambda: other.migrations.get("p", "q").move is None, MOVED, "the end of the move")
    assert popped(other) == [str(i) for i in range(100)]


def phase(core: Core) -> str | None:
    found = core.migrations.get("p", "q").move
    return found.phase if found else None


class TestRefusals:
    """Nothing changes then."""

    @pytest.mark.parametrize(("target", "error"), [
        ("default", "is in pool default already"), ("nowhere", "There is no pool 'nowhere'"),
    ])
    def test_place(self, gateway: Callable[[], Core], target: str, error: str) -> None:
        core = gateway()
        core.queues.create("p", "q", None)
        with pytest.raises((Conflict, InvalidInput), match=error):
            core.migrations.start("p", "q", target)
        assert core.migrations.get("p", "q").move is None

    def test_queue_that_does_not_exist(self, gateway: Callable[[], Core]) -> None:
        core = gateway()
        for call in (
            lambda: core.migrations.start("p", "q", "b"), lambda: core.migrations.get("p", "q"),
            lambda: core.migrations.cancel("p", "q"),
        ):
            with pytest.raises(NotFound, match="Queue q does not exist"):
                call()

    def test_second_move(self, gateway: Callable[[], Core], monkeypatch: pytest.MonkeyPatch) -> None:
        core = gateway()
        core.queues.create("p", "q", None)
        core.stop()
        core.migrations.start("p", "q", "b")
        with pytest.raises(Conflict, match="is on its way from pool default to pool b already"):
            core.migrations.start("p", "q", "stored")

    def test_cancelled_before_it_begins(self, gateway: Callable[[], Core]) -> None:
        core = gateway()
        core.queues.create("p", "q", None)
        core.stop()
        core.migrations.start("p", "q", "b")
        core.migrations.cancel("p", "q")
        core.migrations.cancel("p", "q")
        assert core.migrations.get("p", "q").move is None

    def test_cancelled_too_late(self, gateway: Callable[[], Core]) -> None:
        core = gateway()
        core.queues.create("p", "q", None)
        core.stop()
        core.migrations.start("p", "q", "stored")
        found = core.pool.store.catalogue.get_queue("p/q")
        begun = Move.read(found.move).changed(phase=LANDED)
        assert core.pool.store.catalogue.change_move("p/q", found.move, begun.record())
        with pytest.raises(Conflict, match="can't stay in pool default any more: its move is in phase landed"):
            core.migrations.cancel("p", "q")


def test_pool_is_emptied(gateway: Callable[[], Core]) -> None:
    core = gateway()
    for name in ("q", "r", "s"):
        core.queues.create("p", name, None)
    post(core, "1", "2")
    core.pools.patch("b", {"weight": 5})
    core.migrations.evacuate("default")
    assert core.migrations.evacuation("default") is not None
    wait_until(lambda: not core.migrations.evacuation("default").queues, 2 * MOVED, "the pool to be empty")
    assert {core.migrations.get("p", name).pool for name in ("q", "r", "s")} == {"b"}
    assert popped(core) == ["1", "2"]
    core.migrations.cancel_evacuation("default")
    assert core.migrations.evacuation("default") is None


def delete(message: Message, core: Core, info: QueueInfo) -> bool:
    return core.messages.delete(info, message.id, message.claim)


def listed(marker: str | None, core: Core, info: QueueInfo) -> Sequence[Message]:
    return core.messages.list(info, marker, 20, None, True, False)


class Traffic:
    """Posts, claims, pops and lists of several clients through several gateways, and what they have seen."""

    def __init__(self, cores: list[Core]):
        self.cores = cores
        self.posting, self.reading = threading.Event(), threading.Event()
        self.posted: dict[str, int] = {}
        self.seen: dict[str, list[str]] = defaultdict(list)
        self.listed: list[str] = []
        self.longest = 0.0
        self.failed: list[BaseException] = []
        clients = [lambda n=n: self.post(f"producer{n}") for n in range(2)]
        clients += [lambda n=n: self.claim(f"claimer{n}") for n in range(2)] + [self.pop, self.list]
        self.threads = [threading.Thread(target=self.run, args=(client,)) for client in clients]
        for thread in self.threads:
            thread.start()

    def run(self, client: Callable[[], None]) -> None:
        try:
            client()
        except BaseException as error:
            self.failed.append(error)

    def core(self) -> Core:
        return random.choice(self.cores)

    def post(self, name: str) -> None:
        count = 0
        while not self.posting.is_set():
            for _ in range(random.randint(1, 3)):
                begun = time.monotonic()
                post(self.core(), f'"{name}-{count}"')
                self.longest = max(self.longest, time.monotonic() - begun)
                self.posted[name] = count = count + 1
            time.sleep(0.02)

    def on_queue(self, core: Core, work: Callable[[Core, QueueInfo], Any]) -> Any:
        """What ``work`` comes to, tried again when the queue is busy."""
        while True:
            try:
                return core.directory.on("p", "q", lambda info: work(core, info)) or []
            except Busy:
                time.sleep(0.05)

    def claim(self, name: str) -> None:
        while not self.reading.is_set():
            core = self.core()

            messages = self.on_queue(core, lambda core, info: core.claims.create(info, None, None, 3))
            self.seen[name] += [orjson.loads(message.body) for message in messages]
            for message in messages:
                assert self.on_queue(self.core(), partial(delete, message)), "it was claimed"
            time.sleep(0.002)

    def pop(self) -> None:
        while not self.reading.is_set():
            core = self.core()
            messages = self.on_queue(core, lambda core, info: core.messages.pop(info, 2))
            self.seen["popper"] += [orjson.loads(message.body) for message in messages]
            time.sleep(0.01)

    def list(self) -> None:
        marker = None
        while not self.reading.is_set():
            core = self.core()
            page = self.on_queue(core, partial(listed, marker))
            self.listed += [orjson.loads(message.body) for message in page]
            marker = str(page[-1].seq) if page else marker
            time.sleep(0.01)

    def stop(self) -> None:
        self.posting.set()
        time.sleep(0.2)
        count, since = 0, time.monotonic()
        while count < sum(self.posted.values()) and not self.failed and time.monotonic() - since < PROGRESS:
            before, count = count, sum(map(len, self.seen.values()))
            if count > before:
                since = time.monotonic()
            time.sleep(0.05)
        self.reading.set()
        for thread in self.threads:
            thread.join(20)


@pytest.mark.parametrize("way", [("b", "default"), ("stored", "b")], ids="-".join)
def test_nothing_is_lost_doubled_or_out_of_order_under_traffic(
    gateway: Callable[[], Core], way: tuple[str, ...]
) -> None:
    cores = [gateway() for _ in range(2)]
    cores[0].queues.create("p", "q", None)
    traffic = Traffic(cores)
    try:
        for target in way:
            time.sleep(KNOWN_FOR)
            move(cores[0], target)
        time.sleep(KNOWN_FOR)
    finally:
        traffic.stop()
    assert traffic.failed == []
    everything = sorted(body for seen in traffic.seen.values() for body in seen)
    assert everything == sorted(f"{name}-{i}" for name, count in traffic.posted.items() for i in range(count))
    assert len(traffic.listed) == len(set(traffic.listed)), "a walk sees no message twice"
    for reader, bodies in traffic.seen.items():
        for producer in traffic.posted:
            numbers = [int(body.partition("-")[2]) for body in bodies if body.startswith(f"{producer}-")]
            overtaken = sum(later < earlier for earlier, later in pairwise(numbers))
            # Beside listers a claimer may be overtaken now and then, in queues that don't move too.
            assert overtaken <= len(numbers) / 100, f"what {reader} got of {producer}"
    assert traffic.longest < REFUSED
