"""A side-store, a bridge and a core for each test; nothing here needs a service."""

import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.config.reader import load
from gateway.core.core import Core
from gateway.core.queues.info import QueueInfo
from gateway.core.seal import KEY_SIZE, Seal
from gateway.observe import fast_paths
from gateway.observe.metrics import FAST_PATH_FALLBACKS
from storage.sqlite import SQLiteStore
from tests.notify_receiver import Receiver, receiving


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(f"sqlite:///{tmp_path}/marconi.db", SimpleNamespace(timeout=5.0))
    yield store
    store.close()


@pytest.fixture(autouse=True)
def process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker that a test runs in its own process leaves nothing behind for the tests after it.

    Without this they would all share one CPU, and have its handler of SIGHUP and its level of logging.
    """
    monkeypatch.setattr("gateway.server.worker.pin_process", lambda: None)
    handler, level = signal.getsignal(signal.SIGHUP), logging.root.level
    yield
    signal.signal(signal.SIGHUP, handler)
    logging.root.setLevel(level)


@pytest.fixture
def bridge() -> MemoryBridge:
    return MemoryBridge()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """What notifications are sent to."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def core(bridge: MemoryBridge, store: SQLiteStore) -> Iterator[Core]:
    core = Core(bridge, store, Limits(), Seal(bytes(KEY_SIZE)))
    yield core
    core.close()


@pytest.fixture
def info(core: Core) -> QueueInfo:
    """A queue that exists."""
    return core.directory.ensure("project", "queue")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues move in less time, since gateways remember less long what they know of them."""
    known_for = 0.3
    for name, value in {
        "queues.remembering.KNOWN_FOR": known_for, "pools.registry.KNOWN_FOR": known_for,
        "publishing.ON_TIME": known_for + 0.3, "migration.phases.ON_TIME": known_for + 0.3,
        "migration.phases.AGREED_IN": known_for + 0.3, "migration.workers.LOOK": 0.3,
    }.items():
        monkeypatch.setattr(f"gateway.core.{name}", value)


@pytest.fixture
def fallbacks(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The options of the fast paths that could not be used in this test, as the metric and the log say it."""
    monkeypatch.setattr(fast_paths, "_said", set())
    before = {option: FAST_PATH_FALLBACKS.labels(option)._value.get() for option in fast_paths.FAST_PATHS}

    def seen() -> list[str]:
        counted = [
            option for option, count in before.items() if FAST_PATH_FALLBACKS.labels(option)._value.get() > count
        ]
        assert [option for option in before if f"{option} can't be used here" in caplog.text] == counted
        return counted

    return seen


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Any]:
    """Make a configuration with a file of its own: `configured(wsgi={"port": 1}, DEFAULT={…})`."""

    def make(**sections: dict[str, object]) -> Any:
        file = tmp_path / "marconi.conf"
        sections.setdefault("side_store", {}).setdefault("uri", f"sqlite:///{tmp_path}/marconi.db")
        file.write_text("".join(
            f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
            for section, options in sections.items()
        ))
        return load(config_files=[str(file)])

    return make


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes may be different in each process, as what gzip makes is, and tests that run side by side need one name."""
    return argname if isinstance(val, bytes) else None
