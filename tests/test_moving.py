"""`marconi migrate`, `marconi evacuate`, and what `marconi check` says of pools."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.app import make_core
from gateway.cli import main
from gateway.commands import moving
from gateway.commands.progress import Progress
from gateway.core.core import Core
from gateway.core.messages.post import Post
from gateway.core.migration import workers
from tests.threads import replace_sleep

SECRET = "hush4711"


@pytest.fixture
def file(configured: Callable[..., Any], tmp_path: Path) -> str:
    """A configuration file with a catalogue that has the pools `a` and `b`, and messages in queue `q` of pool `a`."""
    core = make_core(configured())
    try:
        for name in "ab":
            core.pools.put(name, 1, f"sqlite:///{tmp_path}/{name}.db", "", {})
        core.queues.create("project", "q", None, placed="a")
        core.messages.post("project", "q", "client", [Post(b"1"), Post(b"2")], 2)
    finally:
        core.close()
    return str(tmp_path / "marconi.conf")


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody moves what should move."""
    monkeypatch.setattr(workers.Workers, "_look", lambda self: None)


def place(configured: Callable[..., Any], look: Callable[[Core], Any]) -> Any:
    core = make_core(configured())
    try:
        return look(core)
    finally:
        core.close()


MIGRATE = ["migrate", "q", "b", "--project", "project", "--config-file"]


def test_migrate_waits_until_the_queue_is_there(
    file: str, configured: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*MIGRATE, file]) == 0
    out = capsys.readouterr().out
    assert out.endswith("Queue q is in pool b.\n") and "messages moved" in out
    assert place(configured, lambda core: core.migrations.get("project", "q").pool) == "b"


@pytest.mark.usefixtures("idle")
def test_migrate_may_leave_it_to_the_gateways_and_be_cancelled(
    file: str, configured: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*MIGRATE, file, "--no-wait"]) == 0
    assert "Queue q moves to pool b" in capsys.readouterr().out
    assert place(configured, lambda core: core.migrations.get("project", "q").move.target) == "b"
    assert main(["migrate", "q", "--project", "project", "--cancel", "--config-file", file]) == 0
    assert capsys.readouterr().out == "Queue q stays in pool a.\n"
    assert place(configured, lambda core: core.migrations.get("project", "q").move) is None


@pytest.mark.usefixtures("idle")
def test_ctrl_c_leaves_the_move_to_the_gateways(
    file: str, configured: Callable[..., Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        replace_sleep(patch, moving, interrupt)
        assert main([*MIGRATE, file]) == 130
    assert "The gateways go on with it" in capsys.readouterr().err
    assert place(configured, lambda core: core.migrations.get("project", "q").move.target) == "b"


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["migrate", "q", "none", "--project", "project"], 1, "There is no pool 'none'"),
        (["migrate", "q", "a", "--project", "project"], 1, "in pool a already"),
        (["migrate", "other", "a", "--project", "project"], 1, "Queue other does not exist"),
        (["migrate", "q", "--project", "project"], 2, "needs the POOL"),
        (["evacuate", "none"], 1, "There is no pool none"),
        (["evacuate", "a", "--to", "a"], 1, "can't be moved to where they are"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    file: str, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, complaint: str
) -> None:
    assert main([*arguments, "--config-file", file]) == status
    captured = capsys.readouterr()
    assert complaint in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_evacuate_waits_until_the_pool_is_empty(
    file: str, configured: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evacuate", "a", "--to", "b", "--config-file", file]) == 0
    assert "Pool a is empty" in capsys.readouterr().out
    assert place(configured, lambda core: core.migrations.get("project", "q").pool) == "b"
    assert main(["evacuate", "a", "--cancel", "--config-file", file]) == 0
    assert place(configured, lambda core: core.migrations.evacuation("a")) is None


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream in (io.StringIO(), Terminal()):
        progress = Progress(stream, "messages")
        progress.show(3, 7, "switching")
        progress.show(4, 6, "switching")
        progress.note("done")
        progress.close()
        shown = stream.getvalue()
        assert "done\n" in shown
        if stream.isatty():
            assert "3/10 messages" in shown and "7 left, switching" in shown and "\r" in shown
        else:
            assert shown == "3 messages moved, 7 left: switching\ndone\n"


def test_check_tries_each_pool(file: str, configured: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config-file", file]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[-3:]] == [["pools", "ok", "2"], ["pool", "a", "ok"], ["pool", "b", "ok"]]

    def replace_uri(core: Core) -> None:
        records = core.pools._records
        found = records.get("b")
        assert found is not None
        assert records.put(replace(found, uri=f"amqp://user:{SECRET}@127.0.0.1:9/", options={"timeout": 0.2}))

    place(configured, replace_uri)
    assert main(["check", "--config-file", file]) == 1
    out = capsys.readouterr().out
    assert "pool b          FAILED  amqp://" in out and SECRET not in out
