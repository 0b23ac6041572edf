"""What `marconi check` and `marconi serve` say of a configuration that can't work has no secret in it."""

import warnings
from pathlib import Path

import pytest

import gateway.commands.serve
from functional.services.gateway import render
from gateway.app import make_core
from gateway.cli import main

SECRET = "hush4711"

#: Configurations that can't work, with a secret in the place of {}.
BROKEN: list[dict[str, dict[str, str]]] = [
    {"bridge": {"uri": uri}} for uri in (
        "amqp://user:{}@127.0.0.1:9/", "amqp://user:{}@127.0.0.1:port/", "amqp://user:{}", "amqp://{}@[::1/",
        "amqp://user:a/{}@h/", "amqp://user:a@{}@127.0.0.1:9/", "amqp://user:{} x@127.0.0.1:9", "user:{}@host",
        "amqps://user:{}@127.0.0.1:9/?x=1", "redis://:{}@host/0", "loopback://user:{}@x", "{}",
    )
] + [
    {"side_store": {"uri": uri}} for uri in (
        "mongodb://user:{}@127.0.0.1:9/db", "mongodb://user:{}@127.0.0.1:port/db", "mongodb://user:a/{}@h/db",
        "mongodb://user:a:{}@h/db", "mongodb://user:a@{}@h/db", "mongodb://user:%{}@h", "sqlite://user:{}@h/db",
        "mongodb://127.0.0.1:9/db?tls=true&tlsCertificateKeyFilePassword={}", "postgres://user:{}@h/db", "{}",
        "mongodb://user:{}@h/a.b", "mongodb://user:{}@h/db?w=x&wtimeoutMS=y", "mongodb://user:{}@\u2100/",
    )
] + [
    {"encryption": {"key": "{}"}}, {"encryption": {"key": "{}ü"}}, {"encryption": {"other_keys": "{},{}"}},
    {"DEFAULT": {"auth_strategy": "x"}, "signed_url": {"secret_key": "{}"}},
]


@pytest.mark.parametrize("options", BROKEN, ids=str)
@pytest.mark.parametrize("command", ["check", "serve"])
def test_no_secret_is_in_what_the_commands_say(
    options: dict[str, dict[str, str]], command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filled: dict[str, dict[str, object]] = {
        section: {name: value.replace("{}", SECRET) for name, value in values.items()}
        for section, values in options.items()
    }
    for group in ("bridge", "side_store"):
        filled.setdefault(group, {}).setdefault("timeout", 0.2)
    filled["side_store"].setdefault("uri", f"sqlite:///{tmp_path}/marconi.db")
    file = tmp_path / "marconi.conf"
    file.write_text(render(filled))
    monkeypatch.setattr(gateway.commands.serve, "configure", lambda conf: None)
    monkeypatch.setattr(gateway.commands.serve, "_listen", lambda *_: None)
    monkeypatch.setattr(gateway.commands.serve, "work", lambda conf, *_: make_core(conf).close())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        status = main([command, "--config-file", str(file)])
    captured = capsys.readouterr()
    assert status == 1 or command == "serve" or "signed_url" in options
    assert SECRET not in captured.out + captured.err
    assert SECRET not in "".join(str(warning.message) for warning in warned)
