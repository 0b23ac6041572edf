"""`marconi serve`, before it serves."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

import gateway.commands.serve
from gateway.commands.serve import CannotServe, serve

Configured = Callable[..., Any]


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the service would have listened; it goes no further than that."""
    addresses: list[str] = []

    def listen(host: str, port: int, reuse_port: bool, mode: int) -> None:
        addresses.append(host)

    monkeypatch.setattr(gateway.commands.serve, "configure", lambda conf: None)
    monkeypatch.setattr(gateway.commands.serve, "_listen", listen)
    monkeypatch.setattr(gateway.commands.serve, "work", lambda *_: None)
    return addresses


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "unix:/run/marconi.sock"])
def test_noauth_serves_this_machine(configured: Configured, listened: list[str], bind: str) -> None:
    assert serve(configured(wsgi={"bind": bind})) == 0
    assert listened == [bind]


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1", "example.org", "localhost.example.org"])
def test_noauth_does_not_serve_others(configured: Configured, listened: list[str], bind: str) -> None:
    with pytest.raises(CannotServe, match="allow_unauthenticated_remote"):
        serve(configured(wsgi={"bind": bind}))
    assert listened == []


def test_noauth_serves_others_when_told_to(configured: Configured, listened: list[str]) -> None:
    serve(configured(wsgi={"bind": "0.0.0.0", "allow_unauthenticated_remote": "true"}))
    assert listened == ["0.0.0.0"]


def test_authentication_serves_others(configured: Configured, listened: list[str]) -> None:
    serve(configured(wsgi={"bind": "0.0.0.0"}, DEFAULT={"auth_strategy": "basic"}))
    assert listened == ["0.0.0.0"]


def test_port_in_use_is_an_error_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotServe, match=f"127.0.0.1 port {port}: Address already in use"):
            gateway.commands.serve._listen("127.0.0.1", port)


def test_name_that_is_none_is_an_error_that_says_so() -> None:
    with pytest.raises(CannotServe, match="can't listen on none.invalid"):
        gateway.commands.serve._listen("none.invalid", 0)


def test_listener_takes_connections() -> None:
    with (
        gateway.commands.serve._listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname(), timeout=5),
    ):
        accepted, _ = listener.accept()
        accepted.close()
