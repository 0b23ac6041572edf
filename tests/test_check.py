"""`marconi check`."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from functional.services.ports import free_port
from gateway.commands.check import check, without_password
from gateway.core.seal import key_id

Configured = Callable[..., Any]

KEY = base64.b64encode(bytes(range(32))).decode()


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Outcome and text by part."""
    found = {}
    for line in capsys.readouterr().out.splitlines():
        name, outcome, text = line[:15].strip(), *line[16:].split(None, 1)
        found[name] = f"{outcome} {text}"
    return found


def test_embedded_default_is_fine(configured: Configured, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert check(configured()) is True
    assert lines(capsys) == {
        "configuration": f"ok {tmp_path}/marconi.conf",
        "address": "ok 127.0.0.1:8888",
        "authentication": "ok noauth",
        "policy": "ok no policy file: defaults",
        "encryption": "ok no key: queues can't be encrypted",
        "bridging": "ok no rules: nothing of others can be bridged",
        "audit": "ok no file: nothing is recorded",
        "bridge": "ok loopback://",
        "side-store": f"ok sqlite:///{tmp_path}/marconi.db",
        "pools": "ok none but the default one",
    }


def test_key_is_checked_and_not_shown(configured: Configured, capsys: pytest.CaptureFixture[str]) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    assert check(configured(encryption={"key": key})) is True
    out = capsys.readouterr().out
    assert f"key {key_id(bytes(range(32)))} encrypts" in out and key not in out


def test_ids_of_keys_that_only_decrypt_are_shown(
    configured: Configured, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = (bytes([number]) * 32 for number in range(3))
    others = ",".join(base64.b64encode(key).decode() for key in (two, three))
    assert check(configured(encryption={"key": base64.b64encode(one).decode(), "other_keys": others})) is True
    only = f"{key_id(two)}, {key_id(three)} only to decrypt"
    assert lines(capsys)["encryption"] == f"ok key {key_id(one)} encrypts; {only}"
    assert check(configured(encryption={"other_keys": others})) is True
    assert lines(capsys)["encryption"] == f"ok no key: queues can't be encrypted; {only}"


@pytest.mark.parametrize(
    ("sections", "part", "complaint"),
    [
        ({"wsgi": {"bind": "0.0.0.0"}}, "address", "allow_unauthenticated_remote"),
        ({"wsgi": {"bind": "unix:/none/marconi.sock"}}, "address", "/none is no folder"),
        ({"audit": {"file": "/none/audit.log"}}, "audit", "/none/audit.log"),
        ({"DEFAULT": {"auth_strategy": "kerberos"}}, "authentication", "'kerberos' is not one of"),
        ({"DEFAULT": {"auth_strategy": "basic"}}, "authentication", "htpasswd_file is not set"),
        ({"transport": {"max_message_ttl": 600}}, "configuration", "default_message_ttl = 3600 is above"),
        ({"oslo_policy": {"policy_file": "/none.yaml"}}, "policy", "there is no /none.yaml"),
        ({"encryption": {"key": "AAEC"}}, "encryption", "3 bytes, not 32"),
        ({"encryption": {"other_keys": f"{KEY}, AAEC"}}, "encryption", "other_keys, number 2 has 3 bytes, not 32"),
        ({"encryption": {"other_keys": "!"}}, "encryption", "other_keys, number 1 is not base64"),
        ({"encryption": {"key": KEY, "other_keys": KEY}}, "encryption", "other_keys, number 1 is the same key as key"),
        ({"encryption": {"other_keys": f"{KEY},{KEY}"}}, "encryption", "is the same key as other_keys, number 1"),
        ({"bridge": {"uri": "zeromq://localhost"}}, "bridge", "no driver for 'zeromq'"),
        ({"bridge": {"uri": "redis://host:port/"}}, "bridge", "host[:port]"),
        ({"bridge": {"uri": "loopback://x"}}, "bridge", "takes no address"),
        ({"bridge": {"uri": "amqp://host:port/"}}, "bridge", "host[:port]"),
        ({"side_store": {"uri": "sqlite://"}}, "side-store", "no SQLite URI"),
        ({"side_store": {"uri": "sqlite:////proc/none/marconi.db"}}, "side-store", "/proc/none"),
    ],
)
def test_fault_is_shown_where_it_is(
    configured: Configured, capsys: pytest.CaptureFixture[str], sections: dict[str, dict[str, str]], part: str,
    complaint: str,
) -> None:
    assert check(configured(**sections)) is False
    found = lines(capsys)
    assert found[part].startswith("FAILED") and complaint in found[part]
    assert [name for name, text in found.items() if text.startswith("FAILED")] == [part]


def test_broker_that_cannot_be_reached_is_a_fault(configured: Configured, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"amqp://user:secret@127.0.0.1:{free_port()}/"
    assert check(configured(bridge={"uri": uri, "timeout": 0.5})) is False
    text = lines(capsys)["bridge"]
    assert "FAILED" in text and "127.0.0.1" in text and "secret" not in text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("amqp://user:secret@host:5672/v", "amqp://user:***@host:5672/v"),
        ("amqp://user:se:cret@host/v", "amqp://user:***@host/v"),
        ("amqp://user:se/cret@host/v", "amqp://user:***@host/v"),
        ("amqp://user:se@cret@host/v", "amqp://user:***@host/v"),
        ("mongodb://user:secret@a:1,b:2/db?x=1", "mongodb://user:***@a:1,b:2/db?x=1"),
        ("two amqp://u:secret@h/ and mongodb://u:secret@h/", "two amqp://u:***@h/ and mongodb://u:***@h/"),
        ("amqp://host:5672/v", "amqp://host:5672/v"),
        ("no uri: at all", "no uri: at all"),
    ],
)
def test_passwords_are_masked(text: str, masked: str) -> None:
    assert without_password(text) == masked
