"""Who may import whom. The rooms of the gateway stand on each other: docs/architecture.md shows them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What each room may import of this project, from the lowest room to the highest. A package without a room of its own
#: stands for all that is in it.
ROOMS: dict[str, set[str]] = {
    "bridges": set(),
    "storage": set(),
    "gateway.environ": set(),
    "gateway.loops": set(),
    "gateway.bench": set(),
    "gateway.observe": set(),
    "gateway.config": {"gateway.observe", "bridges.errors", "storage.errors"},
    "gateway.core": {"gateway.config", "gateway.observe", "bridges", "storage"},
    "gateway.access": {"gateway.environ", "gateway.config", "gateway.observe", "gateway.core"},
    "gateway.server": {"gateway.environ", "gateway.config", "gateway.observe"},
    "gateway.web": {
        "gateway.environ", "gateway.config", "gateway.observe", "gateway.core", "gateway.access", "bridges.errors",
        "storage.errors",
    },
    "gateway.api": {
        "gateway.environ", "gateway.config", "gateway.observe", "gateway.core", "gateway.access", "gateway.web",
        "bridges.errors", "storage",
    },
    "gateway.notify": {
        "gateway.loops", "gateway.config", "gateway.observe", "gateway.core", "bridges.consuming", "bridges.errors",
        "storage.catalogue", "storage.errors", "storage.model",
    },
    "gateway.stream": {
        "gateway.environ", "gateway.loops", "gateway.config", "gateway.observe", "gateway.core", "gateway.access",
        "gateway.web", "gateway.api", "gateway.notify.formats", "gateway.notify.hands", "gateway.notify.item",
        "bridges.consuming", "bridges.errors", "storage",
    },
    "gateway.app": {
        "gateway.environ", "gateway.config", "gateway.observe", "gateway.core", "gateway.access", "gateway.web",
        "gateway.api", "gateway.notify", "gateway.stream",
    },
    "gateway.commands": {
        "gateway.config", "gateway.observe", "gateway.core", "gateway.access", "gateway.server", "gateway.app",
        "gateway.notify", "bridges.errors", "storage.errors",
    },
    "gateway.wsgi": {"gateway.config", "gateway.observe", "gateway.access", "gateway.server", "gateway.app"},
    "gateway.cli": {"gateway.config", "gateway.commands", "gateway.bench"},
}

#: Libraries that only some rooms may import.
RESERVED = {
    "flask": {"gateway.web", "gateway.bench"},
    "werkzeug": {"gateway.web", "gateway.bench"},
    "waitress": {"gateway.server", "gateway.bench"},
    "kombu": {"bridges"},
    "amqp": {"bridges"},
    "pycurl": {"gateway.notify"},
    "websockets": {"gateway.stream"},
    "msgpack": {"gateway.stream"},
    "redis": {"bridges"},
    "pymongo": {"storage"},
    "bson": {"storage"},
    "sqlite3": {"storage"},
    "scramp": {"storage"},
    "pytest": {"bridges.suite", "storage.suite"},
}

#: Drivers: nobody imports one but by its entry point, not even another one. The suites are for tests alone.
DRIVERS = {
    "bridges.amqp", "bridges.loopback", "bridges.memory", "bridges.redis", "bridges.suite", "storage.mongodb",
    "storage.sqlite",
}

#: Modules and packages of the core that are handed a bridge or a side-store: pools and their parts, the ways between
#: pools, and those that keep the documents of queues. All others get at them by the pool of a queue.
HOLDERS = {
    "gateway.core.core", "gateway.core.pools", "gateway.core.migration", "gateway.core.batches",
    "gateway.core.landing", "gateway.core.lease", "gateway.core.taking", "gateway.core.publishing",
    "gateway.core.poison", "gateway.core.foreign.binding", "gateway.core.queues.info", "gateway.core.queues.known",
    "gateway.core.queues.directory", "gateway.core.queues.admin", "gateway.core.queues.listing",
    "gateway.core.queues.lock", "gateway.core.queues.quotas", "gateway.core.subscriptions",
}

#: Types that HOLDERS alone name.
HELD = {"Bridge", "SideStore"}


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


MODULES = {
    module_of(file): file
    for top in ("bridges", "storage", "gateway")
    for file in sorted((ROOT / top).rglob("*.py"))
}


def imports(file: Path) -> Iterator[str]:
    """Modules that a file imports, at whatever depth."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module or ""


def room_of(module: str) -> str | None:
    return next((room for room in ROOMS if within(module, room)), None)


def test_each_module_has_a_room() -> None:
    assert [module for module in MODULES if room_of(module) is None and module != "gateway"] == []


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_what_stands_below(room: str) -> None:
    allowed = ROOMS[room] | {room, "gateway"}
    wrong = {
        f"{module} imports {name}"
        for module, file in MODULES.items() if within(module, room)
        for name in imports(file)
        if name.partition(".")[0] in ("bridges", "storage", "gateway", "functional", "tests")
        and not (name == "gateway" or any(within(name, other) for other in allowed - {"gateway"}))
    }
    assert wrong == set()


def test_rooms_stand_on_each_other_without_a_circle() -> None:
    below: set[str] = set()
    for room, allowed in ROOMS.items():
        assert {other for other in allowed if room_of(other) not in below} == set(), room
        below.add(room)


@pytest.mark.parametrize("library", RESERVED)
def test_library_stays_in_its_rooms(library: str) -> None:
    wrong = {
        module for module, file in MODULES.items()
        if any(within(name, library) for name in imports(file))
        and not any(within(module, room) for room in RESERVED[library])
    }
    assert wrong == set()


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_nobody_imports_a_driver(driver: str) -> None:
    wrong = {
        f"{module} imports {name}"
        for module, file in MODULES.items() if not within(module, driver)
        for name in imports(file) if within(name, driver)
    }
    assert wrong == set()


@pytest.mark.parametrize("module", [f"gateway.api.v2.{name}" for name in (
    "claims", "messages", "queues", "root", "sharing",
)])
def test_handlers_know_no_http(module: str) -> None:
    """They serve other front ends, too: what reads requests and makes answers is beside them."""
    allowed = {"gateway.web.body", "gateway.web.context", "gateway.web.operations"}
    assert {name for name in imports(MODULES[module]) if within(name, "gateway.web")} <= allowed
    assert not [name for name in imports(MODULES[module]) if within(name, "gateway.api.v2")]
    assert "orjson" not in imports(MODULES[module])


@pytest.mark.parametrize("module", [
    "gateway.api.v1.home", "gateway.api.v1.messages", "gateway.api.v1.queues", "gateway.api.v1_1.home",
    "gateway.api.v1_1.queues",
])
def test_handlers_of_older_versions_know_no_http(module: str) -> None:
    """They may use those of version 2."""
    names = {name for name in imports(MODULES[module]) if within(name, "gateway.web") or within(name, "gateway.api")}
    own = {f"{module.rpartition('.')[0]}.version"}
    assert names <= own | {
        "gateway.web.context", "gateway.web.operations", "gateway.api.v2.messages", "gateway.api.v2.queues",
        "gateway.api.v2",
    }


@pytest.mark.parametrize(("lower", "higher"), [
    ("gateway.api.v2", "gateway.api.v1_1"), ("gateway.api.v2", "gateway.api.v1"),
    ("gateway.api.v1_1", "gateway.api.v1"), ("gateway.web", "gateway.api"),
])
def test_versions_know_later_ones_only(lower: str, higher: str) -> None:
    wrong = {
        f"{module} imports {name}" for module, file in MODULES.items() if within(module, lower)
        for name in imports(file) if within(name, higher)
    }
    assert wrong == set()


CORE = [module for module in MODULES if within(module, "gateway.core")]


def holds(module: str) -> bool:
    return any(within(module, holder) for holder in HOLDERS)


def test_holders_are_modules() -> None:
    assert set(CORE) >= HOLDERS


@pytest.mark.parametrize("module", sorted(module for module in CORE if not holds(module)))
def test_core_reaches_bridges_and_side_stores_by_the_pool_of_a_queue(module: str) -> None:
    wrong = []
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom):
            wrong += [alias.name for alias in node.names if alias.name in HELD]
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if node.attr in ("_bridge", "_store", "bridge", "store") and not (
                owner.endswith("pool") or node.attr == "bridge" and owner.endswith("info")
            ):
                wrong.append(ast.unparse(node))
    assert wrong == []


#: Longest module and class, in lines.
LONGEST_MODULE, LONGEST_CLASS = 350, 250


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_and_classes_stay_small(module: str) -> None:
    text = MODULES[module].read_text()
    assert text.count("\n") <= LONGEST_MODULE
    long = [
        node.name for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef) and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_CLASS
    ]
    assert long == []
