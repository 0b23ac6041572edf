"""Subscriptions of queues in other pools, of queues that are to move, and of queues that are bridged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from bridges.base import Batch, Envelope
from bridges.bridging import Binding
from bridges.errors import ExchangeMissing
from bridges.foreign import ForeignBridge
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.errors import Busy, Conflict, Forbidden, InvalidInput
from gateway.core.foreign.access import AccessRules
from gateway.core.messages.post import Post
from gateway.core.migration.move import Move
from gateway.core.seal import KEY_SIZE, Seal
from storage.sqlite import SQLiteStore

URI = "http://example.org/hook"
EXCHANGE = {"_bridge": {"source": {"exchange": "events", "type": "topic", "binding_keys": ["a", "b"]}}}


class Broker(MemoryBridge, ForeignBridge):
    """Has an exchange of others, as long as the test wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.has_exchange = True
        self.bound: dict[str, Binding] = {}

    def at(self, vhost: str | None) -> ForeignBridge:
        return self

    def own_vhost(self) -> str:
        return "/"

    def exists(self, queue: str) -> bool:
        return True

    def check_source(self, queue: str) -> None:
        pass

    def check_exchange(self, binding: Binding) -> None:
        pass

    def bind(self, queue: str, binding: Binding) -> None:
        if not self.has_exchange:
            raise ExchangeMissing(binding.exchange)
        self.bound[queue] = binding

    def publish_to(self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], *, mandatory: bool) -> None:
        raise ExchangeMissing(exchange)

    def fetch_foreign(self, queue: str, limit: int) -> Batch:
        return self.fetch(queue, limit)

    def peek(self, queue: str, limit: int, see: Callable[[Envelope], bool]) -> None:
        pass


@pytest.fixture(autouse=True)
def hurried_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("states.HEEDED_AFTER", "removal.HEEDED_AFTER", "sources.KNOWN_FOR", "sources.MARGIN"):
        monkeypatch.setattr(f"gateway.core.subscriptions.{name}", 0.02)
    for name in ("KNOWN_FOR", "FORGOTTEN_MARGIN"):
        monkeypatch.setattr(f"gateway.core.queues.admin.{name}", 0.02)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def core(broker: Broker, store: SQLiteStore, tmp_path: Path) -> Iterator[Core]:
    """A core with a second pool, ``far``, of flavor ``fast``."""
    far = MemoryBridge()
    far.describe = lambda: "amqp://far"  # type: ignore[method-assign]

    def open_drivers(uri: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
        return far, SQLiteStore(f"sqlite:///{tmp_path}/far.db", SimpleNamespace(timeout=5.0))

    access = AccessRules(["* * * *"], admin_mode=False)
    core = Core(broker, store, Limits(), Seal(bytes(KEY_SIZE)), access, open_drivers=open_drivers)
    core.pools.put("far", 10, "amqp://far", "", {})
    core.flavors.put("fast", ["far"], [])
    yield core
    core.stop()


def subscribe(core: Core) -> Any:
    id_ = core.subscriptions.create("project", "queue", URI, None, None).id
    return core.subscriptions.get("project", "queue", id_)


def post(core: Core, body: Any, **options: Any) -> list[str]:
    return core.messages.post("project", "queue", "client", [Post(orjson.dumps(body), **options)], 10)


def in_far(core: Core, found: Any) -> int:
    pool = core.all_pools.get("far")
    landed = pool.store.landed.stats(found.key)
    return int(pool.bridge.depth(found.copy) + landed.free + landed.delayed)


# -- pools ----------------------------------------------------------------------------------------------------------


def test_what_waits_is_in_the_pool_of_the_queue(core: Core) -> None:
    core.queues.create("project", "queue", {"_flavor": "fast"})
    found = subscribe(core)
    assert found.pool == "far"
    post(core, 1)
    post(core, 2, delay=100)
    assert in_far(core, found) == core.subscription_waiting.count(found).pending == 2
    core.subscription_removal.delete("project", "queue", found.id)
    assert in_far(core, found) == 0


def test_queue_is_created_again_where_its_subscriptions_are(core: Core) -> None:
    core.queues.create("project", "queue", {"_flavor": "fast"})
    found = subscribe(core)
    core.queues.delete("project", "queue")
    post(core, 1)
    post(core, 2, delay=100)
    assert core.directory.ensure("project", "queue").pool.name == "far"
    assert in_far(core, found) == 2


def test_queue_can_not_be_created_elsewhere(core: Core) -> None:
    found = subscribe(core)
    core.queues.delete("project", "queue")
    with pytest.raises(Conflict, match="kept in pool default"):
        core.queues.create("project", "queue", {"_flavor": "fast"})
    core.subscription_removal.delete("project", "queue", found.id)
    core.queues.create("project", "queue", {"_flavor": "fast"})


def test_pool_with_what_waits_can_not_be_deleted(core: Core) -> None:
    core.queues.create("project", "queue", {"_flavor": "fast"})
    found = subscribe(core)
    core.queues.delete("project", "queue")
    core.flavors.delete("fast")
    with pytest.raises(Forbidden, match="subscriptions"):
        core.pools.delete("far")
    core.subscription_removal.delete("project", "queue", found.id)
    core.pools.delete("far")


# -- moves ----------------------------------------------------------------------------------------------------------


def test_moving_queue_gets_no_subscription(core: Core, store: SQLiteStore) -> None:
    core.queues.create("project", "queue", None)
    move = Move.begin("default", "far", core.now() + 10**6).record()
    core.stop()  # nobody takes it up
    assert store.catalogue.change_move("project/queue", None, move)
    with pytest.raises(Busy, match="on its way"):
        subscribe(core)
    assert list(core.subscription_records.all()) == []


def test_queue_that_is_led_into_another_as_it_begins_to_move_stays(
    core: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.queues.create("project", "queue", None)
    begin = Move.begin

    def lead_meanwhile(*args: Any) -> Move:
        core.subscriptions.create("project", "queue", "marconi:other", None, None)
        return begin(*args)

    monkeypatch.setattr(Move, "begin", lead_meanwhile)
    with pytest.raises(Conflict, match="Queue queue feeds queue other"):
        core.migrations.start("project", "queue", "far")
    queue = store.catalogue.get_queue("project/queue")
    assert queue is not None and queue.move is None


# -- bridged queues -------------------------------------------------------------------------------------------------


def test_delivery_queue_is_bound_to_the_exchange_too(core: Core, broker: Broker) -> None:
    core.queues.create("project", "queue", EXCHANGE)
    found = subscribe(core)
    assert broker.bound[found.copy] == broker.bound["marconi.project.queue"]
    broker.bound.clear()
    core._binder.round()
    assert set(broker.bound) == {found.copy, "marconi.project.queue"}, "looked after in case the exchange comes again"


def test_exchange_may_come_later(core: Core, broker: Broker) -> None:
    broker.has_exchange = False
    core.queues.create("project", "queue", EXCHANGE)
    found = subscribe(core)
    assert found.state == "active" and not broker.bound
    broker.has_exchange = True
    core._binder.round()
    assert found.copy in broker.bound


@pytest.mark.parametrize(("bridge", "text"), [
    ({"source": {"queue": "theirs"}}, "source.exchange"),
    ({"target": {"exchange": "theirs", "routing_key": "k"}}, "target alone"),
])
def test_queue_without_a_copy_for_others_has_no_subscription(core: Core, bridge: Any, text: str) -> None:
    core.queues.create("project", "queue", {"_bridge": bridge})
    with pytest.raises(InvalidInput, match=text):
        subscribe(core)
    assert list(core.subscription_records.all()) == []


def test_queue_with_subscriptions_is_not_bridged_to_a_queue_when_it_is_created_again(core: Core) -> None:
    subscribe(core)
    core.queues.delete("project", "queue")
    with pytest.raises(InvalidInput, match="source.exchange"):
        core.queues.create("project", "queue", {"_bridge": {"source": {"queue": "theirs"}}})
    assert not core.queues.exists("project", "queue")
