"""The supervisor and its roles, without workers that serve."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gateway.server.role_processes
import gateway.server.supervisor
from gateway.config.refused import CannotServe
from gateway.observe import fast_paths, metrics
from gateway.server.child import Child
from gateway.server.role import Role
from gateway.server.supervisor import Supervisor

Configured = Callable[..., Any]

#: Seconds that a test waits for what must happen.
PATIENCE = 10.0

#: What nothing else counts: a metric that exists before the fork is not shared.
COUNTED = "counted by a role"


@pytest.fixture
def supervise(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Supervisor]]:
    """Make a supervisor of roles, whose configuration may have [metrics] options."""
    monkeypatch.setattr(gateway.server.role_processes, "RESPAWN_DELAY", 0.01)
    monkeypatch.setattr(gateway.server.role_processes, "LONGEST_DELAY", 0.01)
    monkeypatch.setattr(gateway.server.supervisor, "WATCH_STEP", 0.01)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}

    def make(*roles: Role, **options: Any) -> Supervisor:
        return Supervisor(configured(wsgi={"drain_timeout": 1}, metrics=options), roles, lambda conf: None)

    yield make
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


def running(supervisor: Supervisor) -> int:
    return sum(len(processes) for processes in supervisor._roles)


class Runs:
    """What the processes of a role do: leave a file with their id and wait for a signal, which they write there."""

    def __init__(self, folder: Path, stop_signal: int = signal.SIGTERM):
        folder.mkdir()
        self._folder = folder
        self._stop_signal = stop_signal

    def __call__(self, conf: Any) -> None:
        asked = threading.Event()
        signal.signal(self._stop_signal, lambda number, frame: asked.set())
        file = self._folder / str(os.getpid())
        file.touch()
        asked.wait(PATIENCE)
        file.write_text(f"stopped within {conf.wsgi.drain_timeout}")

    @property
    def pids(self) -> set[int]:
        """The processes that have ever run."""
        return {int(file.name) for file in self._folder.iterdir()}

    @property
    def ends(self) -> list[str]:
        """What the processes have written at their end, an empty text for those that were killed."""
        return sorted(file.read_text() for file in self._folder.iterdir())


def test_refused_configuration_ends_it_with_one_reason(supervise: Callable[..., Supervisor]) -> None:
    def refuse(conf: Any) -> None:
        raise CannotServe("[encryption] key is not base64")

    supervisor = supervise(Role("web", 2, refuse))
    with pytest.raises(CannotServe, match=r"^\[encryption\] key is not base64$"):
        supervisor.run()
    assert running(supervisor) == 0


def test_worker_that_fails_in_any_other_way_is_replaced(
    supervise: Callable[..., Supervisor], tmp_path: Path
) -> None:
    folder = tmp_path / "web"
    folder.mkdir()

    def fail(conf: Any) -> None:
        (folder / str(os.getpid())).touch()
        raise ValueError("a bug, not a refusal")

    supervisor = supervise(Role("web", 2, fail))
    stop_soon(supervisor, lambda: len(list(folder.iterdir())) >= 5)
    supervisor.run()
    assert len(list(folder.iterdir())) >= 5


def test_fork_that_is_refused_is_tried_again(
    supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def no(*_: Any) -> Any:
        tries.append(1)
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(gateway.server.role_processes, "Child", no)
    supervisor = supervise(Role("web", 2, lambda conf: None))
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


def test_two_roles_run_side_by_side_and_each_is_stopped_its_own_way(
    supervise: Callable[..., Supervisor], tmp_path: Path
) -> None:
    web, ticker = Runs(tmp_path / "web"), Runs(tmp_path / "ticker", signal.SIGUSR1)
    order: list[tuple[str, list[str]]] = []
    supervisor = supervise(
        Role("web", 2, web, before_stop=lambda: order.append(("web", web.ends))),
        Role("ticker", 1, ticker, signal.SIGUSR1, before_stop=lambda: order.append(("ticker", ticker.ends))),
    )
    stop_soon(supervisor, lambda: (len(web.pids), len(ticker.pids)) == (2, 1))
    assert supervisor.run() == 0
    assert (len(web.pids), len(ticker.pids)) == (2, 1)
    assert web.ends == ["stopped within 1"] * 2 and ticker.ends == ["stopped within 1"]
    # Each is called once, before the role's processes were asked.
    assert order == [("web", ["", ""]), ("ticker", [""])]


def test_process_of_one_role_that_dies_is_replaced_and_the_other_role_goes_on(
    supervise: Callable[..., Supervisor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    web, ticker = Runs(tmp_path / "web"), Runs(tmp_path / "ticker")
    supervisor = supervise(Role("web", 2, web), Role("ticker", 1, ticker))
    killed: list[int] = []

    def replaced() -> bool:
        if not killed and (len(web.pids), len(ticker.pids)) == (2, 1):
            killed.extend(ticker.pids)
            os.kill(killed[0], signal.SIGKILL)
        return len(ticker.pids) == 2

    stop_soon(supervisor, replaced)
    assert supervisor.run() == 0
    assert ticker.ends == ["", "stopped within 1"] and web.ends == ["stopped within 1"] * 2
    assert f"worker {killed[0]} (ticker) died (status -9)" in caplog.text


def test_role_that_can_not_start_delays_no_other_role(
    supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gateway.server.role_processes, "RESPAWN_DELAY", 3600.0)
    monkeypatch.setattr(gateway.server.role_processes, "LONGEST_DELAY", 3600.0)
    web = Runs(tmp_path / "web")

    def fail(conf: Any) -> None:
        raise ValueError("a bug")

    supervisor = supervise(Role("broken", 1, fail), Role("web", 2, web))
    stop_soon(supervisor, lambda: running(supervisor) == len(web.pids) == 2)
    supervisor.run()
    assert web.ends == ["stopped within 1"] * 2


def test_process_that_does_not_stop_in_time_is_killed_and_seen(
    supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gateway.server.supervisor, "KILL_MARGIN", -0.8)
    deaf = Runs(tmp_path / "deaf", signal.SIGUSR1)

    def run(conf: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        deaf(conf)

    supervisor = supervise(Role("deaf", 1, run))
    stop_soon(supervisor, lambda: len(deaf.pids) == 1)
    start = time.monotonic()
    assert supervisor.run() == 1
    assert time.monotonic() - start < PATIENCE
    assert deaf.ends == [""]


def test_processes_of_each_role_end_with_their_supervisor(
    supervise: Callable[..., Supervisor], tmp_path: Path
) -> None:
    web, ticker = Runs(tmp_path / "web"), Runs(tmp_path / "ticker", signal.SIGUSR1)
    tidied = tmp_path / "tidied"
    pid = os.fork()
    if not pid:
        try:
            supervisor = supervise(
                Role("web", 1, web, after_supervisor_died=tidied.touch), Role("ticker", 1, ticker, signal.SIGUSR1)
            )
            supervisor.run()
        finally:
            os._exit(1)
    deadline = time.monotonic() + PATIENCE
    while (len(web.pids), len(ticker.pids)) != (1, 1):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while (web.ends, ticker.ends) != (["stopped within 1"], ["stopped within 1"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert tidied.exists()


def shown(folder: Path, number: int) -> Callable[[Any], None]:
    """What a process does that counts something of its own, and writes down the metrics that it shows."""

    def run(conf: Any) -> None:
        metrics.MESSAGES.labels(COUNTED).inc(number)
        (folder / f"{number}.counted").touch()
        while len(list(folder.glob("*.counted"))) < 2:
            time.sleep(0.01)
        (folder / f"{number}.part").write_bytes(metrics.render()[0])
        (folder / f"{number}.part").rename(folder / f"{number}.shown")
        threading.Event().wait(PATIENCE)

    return run


def refuse_memory(size: int) -> Any:
    raise OSError("Cannot allocate memory")


@pytest.mark.parametrize(("memory", "option", "counted", "fell_back"), [
    (None, True, {"3.0"}, "0.0"),
    (None, False, {"1.0", "2.0"}, "0.0"),
    (refuse_memory, True, {"1.0", "2.0"}, "1.0"),
])
def test_roles_count_together_unless_there_is_no_memory_for_it(
    supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, memory: Any, option: bool,
    counted: set[str], fell_back: str,
) -> None:
    if memory is not None:
        monkeypatch.setattr(gateway.server.supervisor, "Memory", memory)
    monkeypatch.setattr(fast_paths, "_said", set())
    metrics.FAST_PATH_FALLBACKS.clear()
    folder = tmp_path / "metrics"
    folder.mkdir()
    supervisor = supervise(
        Role("web", 1, shown(folder, 1)), Role("ticker", 1, shown(folder, 2)), shared_memory=option
    )
    stop_soon(supervisor, lambda: len(list(folder.glob("*.shown"))) == 2)
    supervisor.run()
    texts = [file.read_text() for file in folder.glob("*.shown")]
    series = f'marconi_messages_total{{event="{COUNTED}"}} '
    assert {line.removeprefix(series) for text in texts for line in text.splitlines() if series in line} == counted
    for text in texts:
        assert f'marconi_fast_path_fallbacks_total{{option="[metrics] shared_memory"}} {fell_back}' in text
