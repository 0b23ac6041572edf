"""The `marconi` command."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import __version__
from gateway.cli import main


def write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "marconi.conf"
    file.write_text(text)
    return str(file)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"marconi {__version__}\n"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "serve" in out and "check" in out and "bench" in out and "OS_BRIDGE__URI" in out


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--port", "1"], ["check", "--config-file"], ["bench"]])
def test_wrong_command_line_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: marconi" in capsys.readouterr().err


def test_check_of_a_good_configuration_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, f"[side_store]\nuri = sqlite:///{tmp_path}/marconi.db\n")
    assert main(["check", "--config-file", file]) == 0
    assert "FAILED" not in capsys.readouterr().out


def test_check_of_a_bad_configuration_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "[side_store]\nuri = sqlite://\n")
    assert main(["check", "--config-file", file]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "[wsgi]\nport = many\n",
        "[wsgi]\nbind = 0.0.0.0\n",
        "[wsgi]\nport = 0\nbind = 192.0.2.1\n[DEFAULT]\nauth_strategy = basic\n",
        "[DEFAULT]\nauth_strategy = kerberos\n[wsgi]\nport = 0\n",
        "[bridge]\nuri = zeromq://user:secret@host/\n[wsgi]\nport = 0\n",
        "[bridge]\nuri = redis://user:secret/more@host/\n[wsgi]\nport = 0\n",
        "[bridge]\nuri = user:secret@host\n[wsgi]\nport = 0\n",
        "[bridge]\nuri = loopback://user:secret@host\n[wsgi]\nport = 0\n",
        "[bridge]\nuri = amqp://user:secret@host:port/\n[wsgi]\nport = 0\n",
        "[bridge]\nuri = amqp://user:secret/more@host/\n[wsgi]\nport = 0\n",
        "[side_store]\nuri = sqlite://user:secret@host/\n[wsgi]\nport = 0\n",
        "[side_store]\nuri = mongodb://user:secret/more@host/\n[wsgi]\nport = 0\n",
        "[encryption]\nkey = secret\n[wsgi]\nport = 0\n",
        "no section\n",
    ],
)
def test_error_is_one_line_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gateway.commands.serve.configure", lambda conf: None)
    monkeypatch.setattr("gateway.server.serving.Server.run", lambda self, timeout: pytest.fail("it serves"))
    assert main(["serve", "--config-file", write(tmp_path, text)]) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch(r"marconi: .+\n", err)
    assert "secret" not in out + err


def test_installed_command_ends_with_a_line_and_no_traceback(tmp_path: Path) -> None:
    file = write(tmp_path, "[bridge]\nuri = zeromq://host/\n[wsgi]\nport = 0\n")
    command = [sys.executable, "-m", "gateway.cli", "serve", "--config-file", file]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("marconi: no driver for 'zeromq'")
    assert "Traceback" not in done.stderr


def test_missing_configuration_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config-file", str(tmp_path / "none.conf")]) == 1
    assert "none.conf" in capsys.readouterr().err


#: What only some commands need, and what takes longest to import.
HEAVY = {
    "flask", "werkzeug", "waitress", "pymongo", "kombu", "amqp", "redis", "oslo_policy", "oslo_config",
    "prometheus_client",
}

#: Runs a command line, and prints which modules were imported for it.
IMPORTS = """
import sys
from gateway.cli import main
try:
    if sys.argv[1:]:
        main(sys.argv[1:])
except SystemExit:
    pass
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules} | {
    name for name in sys.modules if name.startswith("gateway.")
}))
"""


def imported(*arguments: str) -> set[str]:
    command = [sys.executable, "-c", IMPORTS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.rpartition("imported: ")[2].split())


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["serve", "--help"], ["check", "--help"]])
def test_command_line_imports_nothing_that_it_does_not_need(arguments: list[str]) -> None:
    modules = imported(*arguments)
    assert modules & HEAVY == set()
    assert {name for name in modules if name.startswith("gateway.")} == {"gateway.cli"}


def test_help_of_the_bench_imports_no_gateway() -> None:
    modules = imported("bench", "--help")
    assert modules & HEAVY == set()
    assert "gateway.bench.options" in modules and "gateway.config.options" not in modules
