"""What serves beside the main job fails no request and no start (rule 10)."""

import logging
import os
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gateway.core.housekeeping
import gateway.observe.beside
import gateway.observe.metrics
import gateway.server.loop
import gateway.server.pinning
from bridges.memory import MemoryBridge
from functional.wait import wait_until
from gateway.access.audit import AuditLog
from gateway.app import make_app, make_core
from gateway.core.core import Core
from gateway.observe import metrics
from gateway.observe.beside import beside, failed
from gateway.observe.fast_paths import DIRECT_COMMANDS, FAST_CONFIRMS, PIN_WORKERS
from gateway.observe.logs import configure

Configured = Callable[..., Any]

HEADERS = {"Client-ID": "3381af92-2b9e-11e3-b191-71861300734c", "X-Project-ID": "project"}


@pytest.fixture(autouse=True)
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other tests have made it say, it says again."""
    monkeypatch.setattr(gateway.observe.beside, "_said", {})


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, which is as before afterwards."""
    logger = logging.getLogger()
    handlers, level, factory = logger.handlers[:], logger.level, logging.getLogRecordFactory()
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logging.setLogRecordFactory(factory)


def post(conf: Any, core: Core) -> int:
    """The status of a post."""
    answer = make_app(conf, core).test_client().post(
        "/v2/queues/queue/messages", headers=HEADERS, json={"messages": [{"body": 1}]}
    )
    return answer.status_code


def test_failure_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with beside("a thing"):
            raise OSError("broken")
    failed("another", ValueError("wrong"))
    assert [record.getMessage()[:20] for record in caplog.records] == ["a thing: OSError: br", "another: ValueError:"]


def test_metrics_that_fail_fail_no_request(
    configured: Configured, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    conf = configured()
    monkeypatch.setattr(metrics.REQUESTS, "labels", full)
    assert post(conf, core) == 201


@pytest.mark.parametrize("before", [True, False])
def test_audit_file_that_cannot_be_written_fails_no_request_and_no_start(
    configured: Configured, core: Core, tmp_path: Path, before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "audit"
    conf = configured(audit={"file": folder / "audit.log"})
    if not before:
        folder.mkdir()
    app = make_app(conf, core).test_client()
    if not before:
        app.put("/v2/queues/first", headers=HEADERS)
        shutil.rmtree(folder)
    assert [app.put(f"/v2/queues/{name}", headers=HEADERS).status_code for name in "ab"] == [201, 201]
    told = [record.getMessage() for record in caplog.records if "can't be written to" in record.getMessage()]
    assert ["/v2/queues/a" in told[0], "/v2/queues/b" in told[1]] == [True, True]

    folder.mkdir()
    app.put("/v2/queues/c", headers=HEADERS)
    assert "/v2/queues/c" in (folder / "audit.log").read_text()


def test_audit_on_a_full_disk_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    from types import SimpleNamespace

    audit = AuditLog(SimpleNamespace(file="/dev/full", reads=False))
    audit.record({"REQUEST_METHOD": "PUT", "PATH_INFO": "/x"}, "queues:create", 201, "req-1")
    assert '"queues:create"' in caplog.text


def test_log_that_cannot_be_written_fails_nothing_and_goes_to_stderr(
    configured: Configured, tmp_path: Path, root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    configure(configured(DEFAULT={"log_file": folder / "marconi.log"}))
    log = logging.getLogger("gateway.test")
    log.warning("the first")
    shutil.rmtree(folder)
    log.warning("the second")
    folder.mkdir()
    log.warning("the third")
    assert "the third" in (folder / "marconi.log").read_text()
    error = capsys.readouterr().err
    assert "the second" in error and "Traceback" not in error
    assert "the first" not in error and "the third" not in error


def test_log_on_a_full_disk_fails_nothing(
    configured: Configured, root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(configured(DEFAULT={"log_file": "/dev/full"}))
    logging.getLogger("gateway.test").warning("a line")
    error = capsys.readouterr().err
    assert "a line" in error and "Traceback" not in error


def test_closed_stderr_fails_nothing(
    configured: Configured, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull, "w") as closed:
        monkeypatch.setattr("sys.stderr", closed)
        configure(configured())
    logging.getLogger("gateway.test").warning("a line")


@pytest.mark.parametrize("forbidden", ["sched_getaffinity", "sched_setaffinity", "sched_setscheduler"])
def test_pinning_that_is_forbidden_fails_no_start_and_is_seen(
    forbidden: str, monkeypatch: pytest.MonkeyPatch, fallbacks: Callable[[], list[str]]
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("Operation not permitted")

    for name in ("sched_setaffinity", "sched_setscheduler"):
        monkeypatch.setattr(os, name, lambda *_: None)
    monkeypatch.setattr(gateway.server.pinning, "_follow_idle_cpu", lambda *_: None)
    monkeypatch.setattr(os, forbidden, refuse)
    gateway.server.pinning.pin_process()
    assert fallbacks() == [PIN_WORKERS]


def test_limit_of_open_files_that_may_not_be_raised_fails_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1 << 20))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert gateway.server.loop._room_for_connections() == (341, 342)


def test_housekeeper_goes_on_whatever_fails(
    bridge: MemoryBridge, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = threading.Semaphore(0)

    class Broken:
        def connections(self) -> int:
            raise RuntimeError("dictionary changed size during iteration")

        def maintain(self) -> int:
            rounds.release()
            raise RuntimeError("broken")

    monkeypatch.setattr(gateway.core.housekeeping, "SAMPLING", 0.001)
    monkeypatch.setattr(gateway.core.housekeeping, "MAINTAIN_EVERY", 1)
    pool = Part(name="default", bridge=Broken(), store=Broken(), shares_store=False)
    keeper = gateway.core.housekeeping.Housekeeper(SimpleNamespace(opened=lambda: [pool]))
    try:
        assert all(rounds.acquire(timeout=10) for _ in range(3))
    finally:
        keeper.close()


class Part(SimpleNamespace):
    """What looks like a pool."""

    __hash__ = object.__hash__


class Numbers:
    """A bridge or a side-store that has fallen back so often."""

    def __init__(self, fallbacks: int):
        self.fallbacks = lambda: fallbacks
        self.connections = lambda: 0
        self.maintain = lambda: 0


@pytest.mark.parametrize(("bridge", "store", "option"), [(7, 0, FAST_CONFIRMS), (0, 7, DIRECT_COMMANDS)])
def test_housekeeper_shows_how_often_a_fast_way_was_left(
    monkeypatch: pytest.MonkeyPatch, bridge: int, store: int, option: str
) -> None:
    monkeypatch.setattr(gateway.core.housekeeping, "SAMPLING", 0.001)
    pool = Part(name="default", bridge=Numbers(bridge), store=Numbers(store), shares_store=False)
    count = metrics.FAST_PATH_FALLBACKS.labels(option)._value.get
    before = count()
    keeper = gateway.core.housekeeping.Housekeeper(SimpleNamespace(opened=lambda: [pool]))
    try:
        wait_until(lambda: count() == before + 7, 10, "the count")
        threading.Event().wait(0.05)
        assert count() == before + 7, "each look adds what is new alone"
    finally:
        keeper.close()


def test_core_of_a_configuration_keeps_house(configured: Configured) -> None:
    core = make_core(configured())
    assert "housekeeper" in {thread.name for thread in threading.enumerate()}
    core.close()
