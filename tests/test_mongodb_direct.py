"""The direct way to MongoDB, without a server: when it leaves everything to the driver, and what the log says of it."""

from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import WriteConcern

from storage.mongodb.direct import Direct
from storage.mongodb.direct.wire import Connection

URI = "mongodb://127.0.0.1:1/db"


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses that are connected to, in vain."""
    addresses: list[Any] = []

    def connect(self: Connection, address: Any, *_: Any) -> None:
        addresses.append(address)
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(Connection, "__init__", connect)
    return addresses


def find(uri: str, enabled: bool = True, times: int = 3) -> int:
    """Ask for documents, so often; the driver has to find them. Returns how many fallbacks were counted."""
    client: Any = SimpleNamespace(primary=("127.0.0.1", 1))
    direct = Direct(client, uri, "db", WriteConcern(), 1.0, lambda: 1.0, enabled)
    for _ in range(times):
        direct.connections._paused_until = float("-inf")
        assert direct.find("messages", {}, 1) is None
    return direct.fallbacks


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_switch_leaves_everything_to_the_driver(tried: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    assert find(URI, enabled=False) == 0
    assert (tried, said(caplog)) == ([], [])


@pytest.mark.parametrize(("options", "named"), [
    ("readConcernLevel=majority", "readConcernLevel"), ("loadBalanced=true", "loadBalanced"),
    ("authMechanism=PLAIN", "PLAIN"), ("authMechanism=GSSAPI", "GSSAPI"),
])
def test_what_it_does_not_know_leaves_everything_to_the_driver(
    options: str, named: str, tried: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert find(f"mongodb://user:hunter2x@127.0.0.1:1/db?{options}") == 1
    assert tried == []
    (text,) = said(caplog)
    assert "all commands go through the driver" in text and named.lower() in text.lower()
    assert "hunter2x" not in text


@pytest.mark.parametrize("options", [
    "", "replicaSet=rs&retryWrites=true&w=majority&journal=true&readPreference=primary", "ssl=true&tlsInsecure=true",
    "authSource=admin&authMechanism=SCRAM-SHA-256", "serverSelectionTimeoutMS=5&compressors=zlib&appName=x",
])
def test_connections_that_fail_are_said_once(
    options: str, tried: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert find(f"mongodb://user:hunter2x@127.0.0.1:1/db?{options}") == 1
    assert tried == [("127.0.0.1", 1)] * 3
    (text,) = said(caplog)
    assert text == "MongoDB: commands go through the driver until a connection can be made: refused"
