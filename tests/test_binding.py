"""The thread that looks after bindings to exchanges of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from bridges.base import Batch, Envelope
from bridges.bridging import Binding, parse
from bridges.errors import BridgeUnavailable, BrokerRefused, ExchangeMissing, QueueMissing
from bridges.foreign import ForeignBridge
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.errors import NotFound
from gateway.core.foreign import binding as binding_module
from gateway.core.foreign.access import AccessRules
from gateway.core.foreign.binding import AT_ONCE, MISSING, REFUSED, Binder
from gateway.core.ids import IdMaker
from gateway.core.pools.pool import Pool
from gateway.core.pools.record import PoolRecord, PoolRecords
from gateway.core.pools.registry import Pools
from gateway.core.queues.admin import QueueAdmin
from gateway.core.queues.directory import Directory
from gateway.core.queues.known import KnownQueues
from gateway.core.queues.metadata import MetadataRules
from gateway.core.seal import Seal
from gateway.core.sealing import Sealing
from gateway.core.subscriptions.copies import Copies
from gateway.core.subscriptions.records import SubscriptionRecords
from storage.errors import StoreUnavailable
from storage.model import Queue
from storage.sqlite import SQLiteStore


class FakeBridge:
    """Raises what the test has put under a queue's name."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.bound: list[str] = []

    def bind(self, queue: str, binding: Binding) -> None:
        self.bound.append(queue)
        if queue in self.errors:
            raise self.errors[queue]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(binding_module, "time", SimpleNamespace(monotonic=lambda: time.now))
    return time


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(f"sqlite:///{tmp_path}/test.db", SimpleNamespace(timeout=5.0))
    yield store
    store.close()


Make = Callable[..., Binder]


def rules() -> MetadataRules:
    return MetadataRules(Limits(), can_encrypt=False, parse_bridging=parse)


@pytest.fixture
def bridges() -> dict[str | None, FakeBridge]:
    return {None: FakeBridge(), "other": FakeBridge()}


@pytest.fixture
def make_binder(store: SQLiteStore, bridges: dict[str | None, FakeBridge]) -> Make:
    def info_of(project: str, name: str, found: Queue) -> Any:
        settings = rules().resolve(orjson.loads(found.metadata))
        pool = SimpleNamespace(bridge_at=lambda vhost: bridges[vhost])
        return SimpleNamespace(pool=pool, broker=name, settings=settings, notifies=False)

    return lambda: Binder(store, info_of)


def made(store: SQLiteStore, name: str, **more: str) -> str:
    source = {"exchange": "x", "type": "fanout", **more}
    store.catalogue.create_queue(f"p/{name}", orjson.dumps({"_bridge": {"source": source}}))
    return f"p/{name}"


def run(binder: Binder, clock: SimpleNamespace, seconds: float) -> None:
    until = clock.now + seconds
    while clock.now < until:
        binder.round()
        clock.now += 0.5


def test_every_gateway_binds_what_one_has_made(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace
) -> None:
    make_binder().add(made(store, "q"))
    run(make_binder(), clock, 1)
    assert bridges[None].bound == ["q"]


def test_missing_exchange_is_looked_for_less_and_less_often_and_no_less_than_every_few_seconds(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace
) -> None:
    binder = make_binder()
    binder.add(made(store, "q"))
    bridges[None].errors["q"] = ExchangeMissing("x")
    run(binder, clock, 10)
    assert 4 <= len(bridges[None].bound) <= 7
    bridges[None].bound.clear()
    run(binder, clock, 20)
    assert len(bridges[None].bound) == 20 / MISSING
    del bridges[None].errors["q"]
    bridges[None].bound.clear()
    run(binder, clock, 60)
    assert 20 <= len(bridges[None].bound) <= 30


@pytest.mark.parametrize(("error", "longest"), [
    (ExchangeMissing("x"), MISSING), (BrokerRefused("no"), REFUSED), (BridgeUnavailable("down"), 1.0),
    (RuntimeError("bug"), REFUSED), (QueueMissing("q"), 2.0),
])
def test_one_queues_trouble_stops_no_other(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace,
    error: Exception, longest: float,
) -> None:
    binder = make_binder()
    for name in ("a", "b", "c"):
        binder.add(made(store, name))
    bridges[None].errors["a"] = error
    run(binder, clock, 100)
    assert bridges[None].bound.count("b") >= 30
    assert bridges[None].bound.count("c") >= 30
    del bridges[None].errors["a"]
    bridges[None].bound.clear()
    run(binder, clock, longest + 1)
    assert "a" in bridges[None].bound


@pytest.mark.parametrize("metadata", [b"{", b'{"_bridge": {"source": {"unknown": 1}}}', b"[]"])
def test_queue_that_can_not_be_read_stops_no_other(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace,
    metadata: bytes,
) -> None:
    """Written by a later version, say."""
    for number in range(AT_ONCE):
        store.catalogue.create_queue(f"p/a{number}", metadata)
        store.catalogue.mark_bridged(f"p/a{number}")
    make_binder().add(made(store, "q"))
    run(make_binder(), clock, 10)
    assert bridges[None].bound.count("q") >= 3


def test_known_queues_are_bound_while_the_side_store_is_down(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    binder = make_binder()
    binder.add(made(store, "q"))
    run(binder, clock, 1)
    binder.add(made(store, "new"))
    calls = []

    def down(*_: Any) -> Any:
        calls.append(1)
        raise StoreUnavailable("down")

    for name in ("list_bridged", "get_queue"):
        monkeypatch.setattr(store.catalogue, name, down)
    bridges[None].bound.clear()
    run(binder, clock, 20)
    assert bridges[None].bound.count("q") >= 8
    assert len(calls) <= 60, "more than one try in a round"
    monkeypatch.undo()
    monkeypatch.setattr(binding_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    run(binder, clock, 2)
    assert "new" in bridges[None].bound


def test_round_ends_after_a_while_however_slow_the_broker(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    binder = make_binder()
    for number in range(10):
        binder.add(made(store, f"q{number}"))

    def slow(queue: str, binding: Binding) -> None:
        clock.now += 0.06
        bridges[None].bound.append(queue)

    monkeypatch.setattr(bridges[None], "bind", slow)
    binder.round()
    assert len(bridges[None].bound) == 2
    run(binder, clock, 5)
    assert len(set(bridges[None].bound)) == 10


def test_virtual_host_that_does_not_answer_is_asked_once_in_a_round(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace
) -> None:
    binder = make_binder()
    for number in range(5):
        name = f"there-{number}"
        binder.add(made(store, name, vhost="other"))
        bridges["other"].errors[name] = BridgeUnavailable("down")
    binder.add(made(store, "q"))
    binder.round()
    assert len(bridges["other"].bound) == 1
    assert bridges[None].bound == ["q"]
    clock.now += 0.5
    binder.round()
    assert len(set(bridges["other"].bound)) == 2, "the same one again keeps the others waiting"


def test_bridge_is_asked_for_each_time(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace
) -> None:
    """One for another virtual host is closed when nobody asks for it."""
    binder, closed = make_binder(), bridges["other"]
    binder.add(made(store, "q", vhost="other"))
    run(binder, clock, 1)
    assert closed.bound
    closed.bound.clear()
    bridges["other"] = FakeBridge()
    run(binder, clock, 3)
    assert bridges["other"].bound
    assert not closed.bound


def test_round_is_bounded_and_none_is_left_out(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace
) -> None:
    count = 2 * AT_ONCE + 50
    binder = make_binder()
    for number in range(count):
        binder.add(made(store, f"q{number}"))
    binder.round()
    assert len(bridges[None].bound) == AT_ONCE
    run(binder, clock, 2)
    assert len(set(bridges[None].bound)) == count
    another = make_binder()
    bridges[None].bound.clear()
    run(another, clock, 4)
    assert len(set(bridges[None].bound)) == count


def test_deleted_queue_is_forgotten_by_all(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace
) -> None:
    first, second = make_binder(), make_binder()
    first.add(made(store, "q"))
    run(first, clock, 1)
    run(second, clock, 1)
    store.catalogue.delete_queue("p/q")
    bridges[None].errors["q"] = QueueMissing("q")
    run(first, clock, 10)
    run(second, clock, 10)
    assert store.catalogue.list_bridged("", 10) == []
    bridges[None].bound.clear()
    for binder in (first, second):
        run(binder, clock, 10)
    assert bridges[None].bound == []


def test_queue_that_is_made_anew_otherwise_is_bound_as_it_is_now(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace
) -> None:
    first, second = make_binder(), make_binder()
    first.add(made(store, "q"))
    run(second, clock, 1)
    store.catalogue.delete_queue("p/q")
    first.add(made(store, "q", vhost="other"))
    bridges[None].bound.clear()
    run(second, clock, 11)
    bridges[None].bound.clear()
    run(second, clock, 5)
    assert bridges["other"].bound
    assert not bridges[None].bound


def test_side_store_that_is_down_is_no_end(
    store: SQLiteStore, make_binder: Make, bridges: dict[str | None, FakeBridge], clock: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    binder = make_binder()
    binder.add(made(store, "q"))
    rounds = iter([False, False, False, True])
    monkeypatch.setattr(binder, "_closing", SimpleNamespace(wait=lambda seconds: next(rounds), is_set=lambda: False))
    answers = iter([StoreUnavailable("down"), RuntimeError("bug")])

    def list_bridged(after: str, limit: int) -> list[tuple[str, str]]:
        for error in answers:
            raise error
        return []

    monkeypatch.setattr(store.catalogue, "list_bridged", list_bridged)
    binder._run()
    assert "q" in bridges[None].bound


class Broker(MemoryBridge, ForeignBridge):
    """Has queues, and an exchange if the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.has_exchange = True
        self.made: list[str] = []

    def at(self, vhost: str | None) -> ForeignBridge:
        return self

    def own_vhost(self) -> str:
        return "/"

    def exists(self, queue: str) -> bool:
        return queue in self.made

    def check_source(self, queue: str) -> None:
        pass

    def check_exchange(self, binding: Binding) -> None:
        pass

    def publish_to(self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], *, mandatory: bool) -> None:
        raise ExchangeMissing(exchange)

    def fetch_foreign(self, queue: str, limit: int) -> Batch:
        return self.fetch(queue, limit)

    def peek(self, queue: str, limit: int, see: Callable[[Envelope], bool]) -> None:
        pass

    def create(self, queue: str) -> None:
        super().create(queue)
        self.made.append(queue)

    def delete(self, queue: str) -> None:
        super().delete(queue)
        if queue in self.made:
            self.made.remove(queue)

    def bind(self, queue: str, binding: Binding) -> None:
        if queue not in self.made:
            raise QueueMissing(queue)
        if not self.has_exchange:
            raise ExchangeMissing(binding.exchange)


def no_pool(record: PoolRecord) -> Pool:
    raise AssertionError("there is the default pool alone")


def queues_on(broker: Any, store: SQLiteStore) -> tuple[QueueAdmin, Directory]:
    """A gateway's queues, all of which may be bridged."""
    pool = Pool("default", broker, store, IdMaker(), Sealing(Seal()))
    pools = Pools(pool, PoolRecords(store, Seal()), no_pool)
    known = KnownQueues(pools, store, rules())
    binder = Binder(store, known.describe)
    copies = Copies(SubscriptionRecords(store.catalogue, Seal()), pools)
    access = AccessRules(["* * * *"], admin_mode=False)
    admin = QueueAdmin(store, pools, known, rules(), access, None, binder, copies)
    return admin, Directory(store, known, admin, binder)


@pytest.mark.parametrize("has_exchange", [True, False])
def test_read_of_a_queue_that_was_deleted_does_not_leave_one_on_the_broker(
    store: SQLiteStore, has_exchange: bool
) -> None:
    """It would be bound, and fill up for ever."""
    broker = Broker()
    queues, directory = queues_on(broker, store)
    queues.create("p", "q", {"_bridge": {"source": {"exchange": "x", "type": "fanout"}}})
    info = directory.find("p", "q")
    assert info is not None
    directory.ensure_source(info)
    assert broker.made == [info.broker]
    directory = queues_on(broker, store)[1]  # as long after that
    broker.has_exchange = has_exchange
    broker.delete(info.broker)
    store.catalogue.delete_queue("p/q")
    with suppress(NotFound):
        directory.ensure_source(info)
    assert broker.made == []


def test_queue_that_was_deleted_on_the_broker_alone_is_made_again_by_a_read(store: SQLiteStore) -> None:
    broker = Broker()
    queues, directory = queues_on(broker, store)
    queues.create("p", "q", {"_bridge": {"source": {"exchange": "x", "type": "fanout"}}})
    info = directory.find("p", "q")
    assert info is not None
    broker.delete(info.broker)
    directory.ensure_source(info)
    assert broker.made == [info.broker]


def test_thread_is_started_again_when_it_is_gone(make_binder: Make) -> None:
    """As it is in a process that was forked."""
    binder = make_binder()
    binder.tend()
    first = binder._thread
    binder.tend()
    assert binder._thread is first
    binder.close()
    assert first is not None
    first.join(5)
    binder._closing.clear()
    binder.tend()
    assert binder._thread is not None
    assert binder._thread is not first
    binder.close()
