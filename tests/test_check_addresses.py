"""`marconi check URL`: the same rules as for deliveries."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main

Configured = Callable[..., Any]


@pytest.fixture
def check(configured: Configured, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The exit status and the lines for some subscribers; the keywords are sections of the configuration."""

    def run(*urls: str, **sections: dict[str, object]) -> tuple[int, list[str]]:
        configured(**sections)
        status = main(["check", "--config-file", str(tmp_path / "marconi.conf"), *urls])
        return status, capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """``both.test`` has a public and a private address, ``none.test`` has none; literals are their own."""
    addresses = {"both.test": ["93.184.216.34", "10.1.2.3"], "none.test": []}

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        found = addresses.get(host, ["127.0.0.1"])
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    ("url", "notification", "line"),
    [
        ("https://93.184.216.34/x", {}, "allowed  https://93.184.216.34/x: public"),
        ("http://10.1.2.3/x", {}, "an entry in [notification] allowed_networks allows it"),
        ("http://10.1.2.3/x", {"allowed_networks": "10.1.0.0/16"}, "listed in [notification] allowed_networks"),
        ("http://93.184.216.34/", {"denied_networks": "93.184.0.0/16"}, "is listed in [notification] denied_networks"),
        ("https://93.184.216.34:22/", {}, "port 22 is not in [notification] allowed_ports"),
        ("https://169.254.169.254/", {"allowed_networks": "169.254.0.0/16"}, "a cloud's metadata service"),
        ("http://127.0.0.1:8888/", {"allowed_networks": "127.0.0.0/8"}, "is the gateway's own"),
        ("trust+https://10.1.2.3/", {"trust_networks": "10.1.0.0/16"}, "listed in [notification] trust_networks"),
        ("trust+http://93.184.216.34/", {}, "is not listed in [notification] trust_networks"),
        ("trust+http://10.1.2.3/", {"trust_networks": "10.1.0.0/16", "proxy": "http://p:1"}, "[notification] proxy"),
        ("https://none.test/", {"proxy": "http://p:1"}, "left to the [notification] proxy"),
        ("http://93.184.216.34/", {"allow_http": "false"}, "[notification] allow_http is false"),
        ("https://user:secret@93.184.216.34/", {}, "must not contain a user or a password"),
        ("ftp://93.184.216.34/", {}, "must be supported in the list"),
        ("mailto:a@example.org", {}, "mail server"),
        ("marconi:orders", {}, "a queue of the same project"),
        ("https://none.test/", {}, "can't be resolved here: Name or service not known"),
    ],
)
@pytest.mark.usefixtures("names")
def test_the_verdict_names_what_decides(check: Any, url: str, notification: dict[str, str], line: str) -> None:
    status, lines = check(url, notification=notification)
    assert len(lines) == 1 and line in lines[0] and "secret" not in lines[0]
    assert lines[0].startswith("REFUSED" if status else "allowed")


@pytest.mark.usefixtures("names")
def test_each_address_of_a_name_is_judged_and_one_is_enough(check: Any) -> None:
    assert check("https://both.test:8443/x") == (0, [
        "allowed  https://both.test:8443/x: 1 of 2 addresses may be connected to",
        "  allowed  93.184.216.34 port 8443: public",
        "  REFUSED  10.1.2.3 port 8443: 10.1.2.3 is not public (10.0.0.0/8, a private network); an entry in"
        " [notification] allowed_networks allows it",
    ])


@pytest.mark.usefixtures("names")
def test_all_are_judged_and_one_refusal_is_enough_for_status_1(check: Any) -> None:
    status, lines = check("http://10.1.2.3/", "http://127.1/", "https://93.184.216.34/")
    assert status == 1
    assert [line.split()[0] for line in lines] == ["REFUSED", "REFUSED", "REFUSED", "allowed"]  # 127.1 is looked up


def test_types_that_may_not_subscribe_are_refused(check: Any) -> None:
    status, (line,) = check("mailto:a@example.org", transport={"subscriber_types": "https"})
    assert (status, line) == (1, "REFUSED  mailto:a@example.org: mailto is not in [transport] subscriber_types")


def test_brokers_of_pools_are_the_gateways_own(check: Any, configured: Configured, tmp_path: Path) -> None:
    from gateway.config.drivers import SIDE_STORES, create_driver
    from gateway.core.pools.record import PoolRecord, PoolRecords
    from gateway.core.seal import Seal

    conf = configured()
    store = create_driver(SIDE_STORES, conf.side_store.uri, conf.side_store)
    store.prepare()
    PoolRecords(store, Seal()).put(PoolRecord("far", 1, "amqp://93.184.216.34:5672/"))
    store.close()
    status, (line,) = check("https://93.184.216.34:5672/")
    assert status == 1 and "its broker's" in line


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"notification": {"allowed_networks": "ten"}}, "[notification] allowed_networks: 'ten' must be a network"),
        ({"side_store": {"uri": "sqlite:////proc/none/marconi.db"}}, "the side-store, which knows the pools"),
    ],
)
def test_what_can_not_be_judged_is_one_line(
    configured: Configured, tmp_path: Path, capsys: pytest.CaptureFixture[str], sections: Any, complaint: str
) -> None:
    configured(**sections)
    assert main(["check", "--config-file", str(tmp_path / "marconi.conf"), "https://93.184.216.34/"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("marconi: ") and complaint in captured.err and captured.out == ""
