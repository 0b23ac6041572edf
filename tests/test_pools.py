"""Pools and flavors: what administrators do with them, and which pool a new queue is put into."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridges.base import Bridge
from bridges.errors import BridgeUnavailable
from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from functional.wait import wait_until
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.errors import Busy, Conflict, Forbidden, InvalidInput, NotFound
from gateway.core.pools import registry
from gateway.core.queues import remembering
from gateway.core.seal import KEY_SIZE, Seal
from storage.sqlite import SQLiteStore


class Broker(MemoryBridge):
    """A broker with a name, which may be down."""

    def __init__(self, name: str):
        super().__init__()
        self._name = name
        self.is_down = False
        self.is_closed = False

    def describe(self) -> str:
        return f"memory://{self._name}"

    def ping(self) -> None:
        if self.is_down:
            raise BridgeUnavailable(f"memory://user:secret@{self._name} refuses connections")

    def close(self) -> None:
        self.is_closed = True


class Brokers(dict[str, Broker]):
    def __missing__(self, name: str) -> Broker:
        self[name] = Broker(name)
        return self[name]


@pytest.fixture
def brokers() -> Brokers:
    return Brokers()


@pytest.fixture
def start(tmp_path: Path, brokers: Brokers) -> Iterator[Callable[..., Core]]:
    started: list[Core] = []

    def open_drivers(uri: str, options: Mapping[str, Any]) -> tuple[Bridge, SQLiteStore | None]:
        kind, _, name = uri.partition("://")
        if kind == "memory":
            return brokers[name.rpartition("@")[2]], None
        if kind == "sqlite":
            return LoopbackBridge("loopback://", None), SQLiteStore(
                f"sqlite:///{tmp_path}/{name}.db", SimpleNamespace(timeout=5.0)
            )
        raise ValueError(f"no driver for {kind!r} URIs is installed")

    def start(seal: Seal | None = None) -> Core:
        store = SQLiteStore(f"sqlite:///{tmp_path}/main.db", SimpleNamespace(timeout=5.0))
        core = Core(brokers["default"], store, Limits(), seal, open_drivers=open_drivers)
        started.append(core)
        return core

    yield start
    for core in started:
        core.close()


@pytest.fixture
def core(start: Callable[..., Core]) -> Core:
    return start()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered of pools."""
    monkeypatch.setattr(registry, "KNOWN_FOR", 0.0)


def put(core: Core, name: str, weight: int = 1, uri: str = "", flavor: str = "", **options: Any) -> None:
    core.pools.put(name, weight, uri or f"memory://{name}", flavor, options)


def places(core: Core, count: int, metadata: Mapping[str, Any] | None = None) -> Counter[str]:
    """The pools that so many new queues are put into."""
    found: Counter[str] = Counter()
    for number in range(count):
        core.queues.create("p", f"q{number}", metadata)
        found[core.directory.ensure("p", f"q{number}").pool.name] += 1
    return found


class TestPools:
    def test_are_shown_as_they_were_given(self, core: Core) -> None:
        put(core, "b", 7, "memory://user:secret@b", "f", x=1)
        record = core.pools.get("b")
        assert (record.name, record.weight, record.uri, record.flavor, record.options) == (
            "b", 7, "memory://user:secret@b", "f", {"x": 1}
        )
        put(core, "a")
        assert [record.name for record in core.pools.page("", 10)] == ["a", "b"]
        assert [record.name for record in core.pools.page("a", 10)] == ["b"]
        assert [record.name for record in core.pools.page("", 1)] == ["a"]

    def test_default_is_that_of_the_configuration(self, core: Core) -> None:
        with pytest.raises(Conflict, match="default is what .* configure"):
            put(core, "default")
        with pytest.raises(Forbidden, match="can't be deleted"):
            core.pools.delete("default")
        with pytest.raises(NotFound):
            core.pools.get("default")

    @pytest.mark.parametrize(("uri", "error", "text"), [
        ("nowhere://x", InvalidInput, "Pool b: no driver for 'nowhere' URIs is installed"),
        ("memory://user:secret@down", InvalidInput, r"Pool b can't be reached: memory://user:\*\*\*@down refuses"),
        ("memory://a", Conflict, "Pool a is at this place already"),
        ("memory://default", Conflict, "Pool default is at this place already"),
    ], ids=["scheme", "down", "of another pool", "of the default pool"])
    def test_bad_places_are_refused(
        self, core: Core, brokers: Brokers, uri: str, error: type[Exception], text: str
    ) -> None:
        brokers["down"].is_down = True
        put(core, "a")
        put(core, "good")
        with pytest.raises(error, match=text):
            put(core, "b", uri=uri)
        with pytest.raises(error, match=text.replace("Pool b", "Pool good")):
            core.pools.patch("good", {"uri": uri})
        assert [(r.name, r.uri) for r in core.pools.page("", 10)] == [("a", "memory://a"), ("good", "memory://good")]

    def test_pool_with_queues_stays_at_its_place(self, core: Core) -> None:
        put(core, "a")
        core.queues.create("p", "q", None)
        for change in (lambda: put(core, "a", uri="memory://b"), lambda: core.pools.patch("a", {"uri": "memory://b"})):
            with pytest.raises(Conflict, match="Pool a has queues, whose messages are where its URI leads to"):
                change()
        put(core, "a", 9, "memory://other:password@a")
        assert core.pools.get("a").weight == 9

    def test_pool_that_is_used_is_not_deleted(self, core: Core, forgetful: None) -> None:
        put(core, "a", flavor="f")
        with pytest.raises(Forbidden, match='belongs to flavor f; set its flavor to ""|belongs to flavor f'):
            core.pools.delete("a")
        core.pools.patch("a", {"flavor": ""})
        core.queues.create("p", "q", None)
        with pytest.raises(Forbidden, match="Pool a has queues"):
            core.pools.delete("a")
        assert core.pools.get("a").weight == 1
        core.queues.delete("p", "q")
        core.pools.delete("a")
        core.pools.delete("a")
        assert core.pools.page("", 10) == []
        assert places(core, 1) == {"default": 1}

    def test_pool_that_queues_are_on_their_way_to_is_not_deleted(self, core: Core) -> None:
        put(core, "a", 0)
        core.queues.create("p", "q", None)
        core.stop()
        core.migrations.start("p", "q", "a")
        with pytest.raises(Forbidden, match="Queues are on their way to pool a"):
            core.pools.delete("a")

    def test_queue_that_is_created_while_its_pool_is_deleted_does_not_stay_there(
        self, core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(core, "a")
        real = core.pool.store.catalogue.create_queue

        def create_queue(*args: Any) -> bool:
            core.pools.delete("a")
            return bool(real(*args))

        monkeypatch.setattr(core.pool.store.catalogue, "create_queue", create_queue)
        with pytest.raises(Busy, match="Pool a has just been deleted"):
            core.queues.create("p", "q", None)
        monkeypatch.undo()
        core.queues.create("p", "q", None)
        assert core.directory.ensure("p", "q").pool is core.pool

    def test_secrets_are_sealed(self, start: Callable[..., Core]) -> None:
        core = start(Seal(bytes(KEY_SIZE)))
        put(core, "a", uri="memory://user:secret@a", password="hidden")
        stored = core.pool.store.catalogue.get_record("pool", "a").data
        assert b"secret" not in stored and b"hidden" not in stored
        assert core.pools.get("a").uri == "memory://user:secret@a"
        with pytest.raises(Busy, match="The URI of pool a can't be decrypted"):
            start().pools.get("a")

    def test_change_acts_on_other_gateways(self, start: Callable[..., Core], brokers: Brokers, forgetful: None) -> None:
        core, other = start(), start()
        put(core, "a")
        assert places(other, 1) == {"a": 1}
        core.pools.patch("a", {"options": {"x": 1}})
        before = other.all_pools.get("a")
        assert other.all_pools.get("a") is before, "nothing has changed"
        core.queues.delete("p", "q0")
        core.pools.delete("a")
        other.all_pools.tend()
        assert places(other, 1) == {"default": 1}


class TestPlaces:
    def test_weights(self, core: Core) -> None:
        put(core, "light", 1)
        put(core, "heavy", 9)
        put(core, "closed", 0)
        found = places(core, 60)
        assert found["heavy"] > found["light"]
        assert found["heavy"] + found["light"] == 60

    def test_flavors(self, core: Core) -> None:
        put(core, "plain")
        put(core, "fast")
        core.flavors.put("quick", ["fast"], ["FIFO"])
        assert places(core, 5, {"_flavor": "quick"}) == {"fast": 5}
        assert places(core, 5) == {"fast": 5}, "they stay where they are"
        core.queues.create("p", "new", {})
        assert core.directory.ensure("p", "new").pool.name == "plain"
        with pytest.raises(InvalidInput, match="There is no flavor 'slow'"):
            core.queues.create("p", "other", {"_flavor": "slow"})
        with pytest.raises(InvalidInput, match="must be the name of a flavor"):
            core.queues.create("p", "other", {"_flavor": 1})
        core.pools.patch("fast", {"weight": 0})
        with pytest.raises(Busy, match="Flavor quick has no pool that takes new queues"):
            core.queues.create("p", "other", {"_flavor": "quick"})
        assert not core.queues.exists("p", "other")

    def test_pool_that_does_not_answer_gets_no_new_queues(
        self, core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(core, "a")
        put(core, "b")
        shut = property(lambda guard: guard._pool == "a")
        monkeypatch.setattr(type(core.all_pools.get("a").guards[0]), "is_shut", shut)
        core.all_pools.get("b")
        assert places(core, 10) == {"b": 10}


class TestFlavors:
    def test_queues_of_one_that_was_deleted_can_be_changed_and_moved(self, core: Core) -> None:
        put(core, "a", 0)
        put(core, "b", 1)
        core.flavors.put("f", ["b"], [])
        core.queues.create("p", "q", {"_flavor": "f"})
        core.flavors.delete("f")
        core.queues.patch("p", "q", [{"op": "add", "path": "/metadata/x", "value": 1}])
        core.queues.create("p", "q", {"_flavor": "f", "x": 2})
        with pytest.raises(InvalidInput, match="there is no flavor 'g'"):
            core.queues.create("p", "q", {"_flavor": "g"})
        core.pools.patch("a", {"weight": 1})
        core.migrations.evacuate("b")
        wait_until(lambda: core.migrations.get("p", "q").move is not None, 10, "the queue to leave")
        assert core.migrations.get("p", "q").move.target == "a"

    def test_have_pools(self, core: Core) -> None:
        put(core, "a")
        put(core, "b")
        core.flavors.put("f", ["a", "b"], ["FIFO"])
        assert core.flavors.get("f").pools == ("a", "b")
        assert core.pools.get("a").flavor == "f"
        assert core.flavors.patch("f", ["b"], None).pools == ("b",)
        assert core.pools.get("a").flavor == ""
        assert core.flavors.patch("f", None, ["AOD"]).capabilities == ("AOD",)
        assert [flavor.name for flavor in core.flavors.page("", 10)] == ["f"]
        core.flavors.delete("f")
        core.flavors.delete("f")
        assert core.pools.get("b").flavor == ""
        with pytest.raises(NotFound, match="There is no flavor f"):
            core.flavors.get("f")

    def test_unknown_pools_are_refused(self, core: Core) -> None:
        put(core, "a")
        with pytest.raises(InvalidInput, match="Flavor f: there is no pool x, y"):
            core.flavors.put("f", ["a", "x", "y"], [])
        assert core.flavors.page("", 10) == []
        assert core.pools.get("a").flavor == ""


def test_gateway_that_lacks_the_driver_answers_503(
    core: Core, monkeypatch: pytest.MonkeyPatch, forgetful: None
) -> None:
    put(core, "a")
    monkeypatch.setattr(remembering, "KNOWN_FOR", 0.0)
    core.queues.create("p", "q", None)
    record = core.pools.get("a")
    core.pool.store.catalogue.put_record(
        "pool", "a", core.pool.store.catalogue.get_record("pool", "a").data.replace(b"memory:", b"later:")
    )
    assert record.uri == "memory://a"
    with pytest.raises(Busy, match="Pool a can't be used by this gateway"):
        core.directory.find("p", "q")
