"""The supervisor, without workers that serve."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import gateway.server.supervisor
from gateway.app import build
from gateway.config.refused import CannotServe
from gateway.server.supervisor import Child, Supervisor

Configured = Callable[..., Any]


@pytest.fixture
def supervisor(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(gateway.server.supervisor, "RESPAWN_DELAY", 0.01)
    monkeypatch.setattr(gateway.server.supervisor, "LONGEST_DELAY", 0.01)
    monkeypatch.setattr(gateway.server.supervisor, "WATCH_STEP", 0.01)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    listener = socket.create_server(("127.0.0.1", 0))
    yield Supervisor(configured(wsgi={"workers": 2, "drain_timeout": 1}), listener, build)
    for number, handler in before.items():
        signal.signal(number, handler)


def stop_soon(supervisor: Supervisor, when: Callable[[], bool]) -> None:
    def wait() -> None:
        pause = threading.Event()
        for _ in range(1000):
            if when():
                break
            pause.wait(0.01)
        supervisor._stopping = True

    threading.Thread(target=wait, daemon=True).start()


def test_refused_configuration_ends_it_with_one_reason(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise CannotServe("[encryption] key is not base64")

    monkeypatch.setattr(gateway.server.supervisor, "work", refuse)
    with pytest.raises(CannotServe, match=r"^\[encryption\] key is not base64$"):
        supervisor.run()
    assert supervisor._workers == {}


def test_worker_that_fails_in_any_other_way_is_replaced(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        (tmp_path / str(os.getpid())).touch()
        raise ValueError("a bug, not a refusal")

    monkeypatch.setattr(gateway.server.supervisor, "work", fail)
    stop_soon(supervisor, lambda: len(list(tmp_path.iterdir())) >= 5)
    supervisor.run()
    assert len(list(tmp_path.iterdir())) >= 5


def test_fork_that_is_refused_is_tried_again(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def no(*_: Any) -> Any:
        tries.append(1)
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(gateway.server.supervisor, "Child", no)
    stop_soon(supervisor, lambda: len(tries) >= 3)
    assert supervisor.run() == 0
    assert "can't start a worker now" in caplog.text


def test_child_ends_even_if_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        child = Child(lambda: print("x" * 10, file=full))
        while (status := child.ended()) is None:
            threading.Event().wait(0.01)
        child.close()
        monkeypatch.undo()
    assert status == 0
