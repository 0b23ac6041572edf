"""What a configuration needs of the machine, and what nobody understands: one line, from `serve` and `check`."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gateway.config.machine
import gateway.observe.log_options
from functional.services.gateway import find_command, render
from gateway.cli import main
from gateway.config.machine import check_address
from gateway.config.reader import load
from gateway.observe.log_options import check_appendable

SECRET = "hunter2x"


def run(capsys: pytest.CaptureFixture[str], folder: Path, command: str, sections: dict[str, dict[str, object]]) -> str:
    """All that a command that fails says."""
    file = folder / "marconi.conf"
    sections.setdefault("side_store", {}).setdefault("uri", f"sqlite:///{folder}/marconi.db")
    file.write_text(render(sections))
    assert main([command, "--config-file", str(file)]) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    if command == "serve":
        assert len(captured.err.strip().splitlines()) == 1, captured.err
        return captured.err
    failed = [line for line in captured.out.splitlines() if "FAILED" in line]
    return "\n".join(failed) + captured.err


#: Configurations that can't work, and a piece of the complaint. {} is a folder.
BROKEN: list[tuple[dict[str, dict[str, object]], str]] = [
    ({"DEFAULT": {"use_journal": True}}, "use_journal"),
    ({"DEFAULT": {"use_syslog": True}}, "use_syslog"),
    ({"DEFAULT": {"publish_errors": True}}, "publish_errors"),
    ({"DEFAULT": {"log_file": "{}/none/marconi.log"}}, "log_file: {}/none/marconi.log: there is no folder {}/none"),
    ({"DEFAULT": {"log_dir": "{}/none"}}, "log_dir: {}/none/marconi.log: there is no folder"),
    ({"DEFAULT": {"log_file": "{}"}}, "is a folder"),
    ({"DEFAULT": {"log_config_append": "{}/none"}}, "log_config_append"),
    ({"DEFAULT": {"log_config_append": "{}"}}, "log_config_append"),
    ({"DEFAULT": {"log_config_append": "{}/marconi.conf"}}, "no logging configuration"),
    ({"DEFAULT": {"log_config_append": "/dev/null"}}, "there are no keys in [loggers]"),
    ({"DEFAULT": {"default_log_levels": "amqp=LOUD"}}, "'amqp=LOUD' is not of the form"),
    ({"DEFAULT": {"default_log_levels": "amqp"}}, "'amqp' is not of the form"),
    ({"side_store": {"uri": "sqlite:///:memory:"}}, "a file of its own"),
    ({"side_store": {"uri": "sqlite:////proc/none/x.db"}}, "/proc/none"),
    ({"side_store": {"uri": "sqlite:///{}/"}}, "is a folder"),
    ({"wsgi": {"bind": "192.0.2.1", "allow_unauthenticated_remote": True}}, "192.0.2.1"),
    ({"wsgi": {"threads": "many"}}, "threads"),
    ({"wsgi": {"port": 0, "trusted_proxy": "10.0.0.0/8"}}, "trusted_proxy"),
    ({"wsgi": {"port": 0, "trusted_proxy": "proxy.example.org"}}, "trusted_proxy"),
    ({"wsgi": {"port": 99999}}, "port"),
    ({"bridge": {"timeout": "soon"}}, "timeout"),
    ({"DEFAULT": {"admin_mode": "perhaps"}}, "admin_mode"),
    ({"audit": {"file": "$nothing/audit"}}, "[audit] file: a $ refers to another option"),
    ({"DEFAULT": {"auth_strategy": "basic"}, "basic": {"htpasswd_file": "{}/none"}}, "{}/none"),
    ({"DEFAULT": {"auth_strategy": "basic"}, "basic": {"htpasswd_file": "{}"}}, "{}"),
    ({"oslo_policy": {"policy_file": "{}/none.yaml"}}, "{}/none.yaml"),
    ({"bridge": {"uri": "amqps://h/", "login_method": "EXTERNAL"}}, "tls_cert_file is not set"),
    ({"bridge": {"uri": "amqp://h/", "login_method": "EXTERNAL"}}, "amqps://"),
    ({"bridge": {"uri": "amqps://h/", "tls_ca_file": "{}/none.pem"}}, "tls_ca_file"),
]


@pytest.fixture
def without_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without syslog and without the libraries that some options need."""
    monkeypatch.setattr(gateway.observe.log_options.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(gateway.observe.log_options, "SYSLOG", ("/none",))


@pytest.mark.usefixtures("without_journal")
@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(("sections", "complaint"), BROKEN, ids=[complaint for _, complaint in BROKEN])
def test_what_can_not_work_is_one_line(
    command: str, sections: dict[str, dict[str, object]], complaint: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    def filled(value: object) -> object:
        return value.replace("{}", str(tmp_path)) if isinstance(value, str) else value

    monkeypatch.setattr("gateway.server.serving.Server.run", lambda *_, **__: pytest.fail("it serves"))
    said = run(capsys, tmp_path, command, {
        section: {name: filled(value) for name, value in values.items()} for section, values in sections.items()
    } | ({} if "wsgi" in sections else {"wsgi": {"port": 0}}))
    assert complaint.replace("{}", str(tmp_path)) in said
    assert not (tmp_path / "none").exists()


def test_audit_file_that_can_not_be_written_is_told_and_stops_no_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What serves beside the main job never fails a start (rule 10 of docs/architecture.md)."""
    sections: dict[str, dict[str, object]] = {"audit": {"file": f"{tmp_path}/none/audit"}, "wsgi": {"port": 0}}
    assert "[audit] file" in run(capsys, tmp_path, "check", sections)
    served: list[bool] = []
    monkeypatch.setattr("gateway.server.serving.Server.run", lambda *_, **__: served.append(True))
    assert main(["serve", "--config-file", str(tmp_path / "marconi.conf")]) == 0
    assert served


def test_logging_configuration_that_fails_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "logging.conf"
    file.write_text("[loggers]\nkeys = root\n[handlers]\nkeys = h\n[formatters]\nkeys =\n"
                    "[logger_root]\nhandlers = h\n[handler_h]\nclass = no.such.Handler\nargs = (1/0,)\n")
    said = run(capsys, tmp_path, "serve", {"DEFAULT": {"log_config_append": str(file)}, "wsgi": {"port": 0}})
    assert "the log can't be set up as configured" in said


@pytest.mark.parametrize("text", [
    f"[bridge]\nuri {SECRET}\n", f"{SECRET}\n", f"[encryption\nkey = {SECRET}", f"[bridge]\n = {SECRET}\n",
])
def test_line_that_is_no_option_is_not_shown(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "marconi.conf"
    file.write_text(text)
    assert main(["serve", "--config-file", str(file)]) == 1
    captured = capsys.readouterr()
    assert SECRET not in captured.err + captured.out
    assert "marconi.conf" in captured.err and len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_file_that_can_not_be_read_is_one_line(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "marconi.conf"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    assert main(["check", "--config-file", str(file)]) == 1
    said = capsys.readouterr().err
    assert "marconi.conf" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("written", "read"),
    [("$HOME", "$HOME"), ("$timeout", "$timeout"), ("$uri", "$uri"), ("${x}", "${x}"), ("$", "$"), ("a$$b", "a$b"),
     ("a\\$b", "a$b"), ("$bridge.uri", "$bridge.uri"), ("%(x)s", "%(x)s"), ("a;b#c", "a;b#c"), ("$5", "$5")],
)
@pytest.mark.parametrize("environment", [False, True])
def test_dollar_in_a_secret_is_a_dollar(
    configured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, written: str, read: str, environment: bool
) -> None:
    if environment:
        monkeypatch.setenv("OS_BRIDGE__URI", f"amqp://u:{written}@h/")
        conf = load(config_files=[])
    else:
        conf = configured(bridge={"uri": f"amqp://u:{written}@h/"})
    assert conf.bridge.uri == f"amqp://u:{read}@h/"


def test_other_options_refer_to_each_other(configured: Callable[..., Any]) -> None:
    conf = configured(DEFAULT={"log_dir": "/var/log"}, audit={"file": "$log_dir/audit"})
    assert conf.audit.file == "/var/log/audit"


def test_misspelled_options_are_told(
    configured: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configured(wsgi={"thread": SECRET}, brigde={"uri": SECRET}, DEFAULT={"debug": False, "use-syslog": False})
    assert main(["check", "--config-file", str(tmp_path / "marconi.conf")]) == 0
    out = capsys.readouterr().out
    assert "there is no option [wsgi] thread; is it threads?" in out
    assert "there is no section [brigde]; is it bridge?" in out
    assert out.count("WARNING") == 2 and SECRET not in out


def test_misspelled_variables_are_told(
    configured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configured()
    for name in ("OS_WSGI__THREAD", "OS_AUTH_URL", "OS_OTHER__THING", "OS_WSGI__THREADS"):
        monkeypatch.setenv(name, "7")
    assert main(["check", "--config-file", str(tmp_path / "marconi.conf")]) == 0
    out = capsys.readouterr().out
    assert "OS_WSGI__THREAD: [wsgi] thread; is it threads?" in out and out.count("WARNING") == 1


def test_what_is_in_the_sample_is_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "etc" / "marconi.conf.sample").read_text()
    file = tmp_path / "marconi.conf"
    file.write_text(f"{text}\n[side_store]\nuri = sqlite:///{tmp_path}/m.db\n[cors]\nallowed_origin = x\n"
                    "[keystone_authtoken]\nanything = 1\n[oslo_policy]\npolicy_dirs = d\n")
    main(["check", "--config-file", str(file)])
    assert "WARNING" not in capsys.readouterr().out


def test_address_in_use_is_no_fault_of_the_configuration() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        check_address("127.0.0.1")
    with pytest.raises(ValueError, match=r"\[wsgi\] bind"):
        check_address("nowhere.invalid")


def test_nothing_is_made_by_asking(tmp_path: Path) -> None:
    check_appendable("x", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("sections", [
    {"bridge": {"uri": f"amqp://u:{SECRET}@h:port/"}}, {"encryption": {"key": SECRET}},
    {"DEFAULT": {"auth_strategy": "basic"}}, {"side_store": {"uri": "sqlite:////proc/none/x.db"}},
], ids=str)
def test_workers_that_can_not_start_end_the_service(sections: dict[str, dict[str, object]], tmp_path: Path) -> None:
    file = tmp_path / "marconi.conf"
    sections = {"side_store": {"uri": f"sqlite:///{tmp_path}/m.db"}, **sections, "wsgi": {"workers": 2, "port": 0}}
    file.write_text(render(sections))
    done = subprocess.run(
        [find_command(), "serve", "--config-file", str(file)], capture_output=True, text=True, timeout=60
    )
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("marconi: ")]
    assert done.returncode == 1 and len(lines) == 1, done
    assert "Traceback" not in done.stderr + done.stdout and SECRET not in done.stderr + done.stdout
