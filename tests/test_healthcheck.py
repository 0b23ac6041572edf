"""``/healthcheck``: cheap, without headers, and true within a second."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from bridges.errors import BridgeUnavailable
from bridges.memory import MemoryBridge
from gateway.app import make_app
from gateway.commands.check import check
from gateway.core.core import Core
from gateway.environ import DRAINING
from gateway.server import monitor
from gateway.server.listening import listen
from gateway.server.loop import Listener
from gateway.web import healthcheck
from gateway.web.healthcheck import PATIENCE, Dependency, Healthcheck
from tests.test_server import Client, until, wsgi_options


@pytest.fixture
def client(configured: Callable[..., Any], core: Core) -> FlaskClient:
    return make_app(configured(), core).test_client()


def fail(*_: Any) -> None:
    raise BridgeUnavailable("10.0.0.1 refuses")


def test_gateway_that_works_is_well(client: FlaskClient) -> None:
    response = client.get("/healthcheck")
    assert (response.status_code, response.data, response.mimetype) == (200, b"OK", "text/plain")
    head = client.head("/healthcheck")
    assert (head.status_code, head.data) == (200, b"")
    assert client.get("/healthcheck", headers={"Accept": "text/html"}).status_code == 200
    assert client.post("/healthcheck").status_code == 405


@pytest.mark.parametrize(("broken", "said"), [("bridge", "message broker"), ("store", "side-store")])
def test_gateway_without_what_it_needs_is_not(
    configured: Callable[..., Any], core: Core, monkeypatch: pytest.MonkeyPatch, broken: str, said: str
) -> None:
    monkeypatch.setattr(getattr(core.pool, broken), "ping", fail)
    response = make_app(configured(), core).test_client().get("/healthcheck")
    assert response.status_code == 503
    assert response.json is not None and said in response.json["description"]
    assert b"10.0.0.1" not in response.data
    assert int(response.headers["Retry-After"]) > 0


def test_gateway_that_drains_is_not(client: FlaskClient) -> None:
    response = client.get("/healthcheck", environ_overrides={DRAINING: True})
    assert response.status_code == 503 and b"about to end" in response.data


def test_many_that_ask_cost_one_call() -> None:
    calls: list[float] = []
    pool = SimpleNamespace(bridge=SimpleNamespace(ping=lambda: calls.append(0)), store=SimpleNamespace(ping=time.time))
    core = SimpleNamespace(pool=pool)
    check = Healthcheck(core)
    assert {check.answer({})[0] for _ in range(1000)} == {200}
    assert len(calls) <= 2


def test_what_changes_is_noticed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(healthcheck, "FRESH", 0.0)
    outcomes: Iterator[Callable[[], None]] = iter([fail, fail, time.time, fail])  # type: ignore[list-item]
    dependency = Dependency("broker", lambda: next(outcomes)())
    assert [dependency.is_well(dependency.ask()) for _ in range(4)] == [False, False, True, False]
    assert caplog.text.count("10.0.0.1 refuses") == 2


def test_nobody_waits_long_for_what_hangs() -> None:
    """One for a moment, the others not at all; and what was well a moment ago is taken to be so."""
    go, calls = threading.Event(), []

    def ping() -> None:
        calls.append(0)
        if len(calls) > 1:
            go.wait(10)

    dependency = Dependency("broker", ping)
    assert dependency.is_well(dependency.ask())
    dependency._at -= healthcheck.FRESH
    start = time.monotonic()
    assert dependency.is_well(dependency.ask())
    assert time.monotonic() - start >= PATIENCE
    assert [dependency.ask() for _ in range(100)] == [0.0] * 100
    dependency._at -= healthcheck.TRUSTED
    assert not dependency.is_well(dependency.ask())
    assert len(calls) == 2
    go.set()


@pytest.mark.parametrize("path", ["/healthcheck", "/metrics", "/"])
def test_listener_of_metrics_has_what_monitoring_asks(
    configured: Callable[..., Any], core: Core, path: str
) -> None:
    app = make_app(configured(metrics={"bind": "127.0.0.1"}), core)
    assert app.test_client().get(path).status_code == {"/healthcheck": 200, "/metrics": 404, "/": 300}[path]
    monitor = app.monitor.test_client()
    assert monitor.get(path).status_code == {"/healthcheck": 200, "/metrics": 200, "/": 300}[path]
    assert monitor.get("/v2/queues", headers={"X-Project-ID": "p"}).status_code == 404
    assert monitor.get(f"{path.rstrip('/')}/x").status_code == 404


def test_draining_shows_from_the_socket_on(configured: Callable[..., Any], core: Core, bridge: MemoryBridge) -> None:
    listener = Listener(make_app(configured(), core), listen("127.0.0.1", 0), wsgi_options(), 100)
    ask = b"GET /healthcheck HTTP/1.0\r\n\r\n"  # as HAProxy does
    try:
        first, second = (Client(listener) for _ in range(2))
        until(listener, lambda: len(listener.active_channels) == 2)
        first.send(ask).until_closed()
        listener.draining = True
        second.send(ask).until_closed()
    finally:
        listener.task_dispatcher.shutdown(timeout=1)
        listener.close()
    assert first.received.startswith(b"HTTP/1.0 200") and second.received.startswith(b"HTTP/1.0 503")


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0", "::"])
def test_metrics_and_service_can_not_share_a_port(
    configured: Callable[..., Any], capsys: pytest.CaptureFixture[str], bind: str
) -> None:
    conf = configured(metrics={"bind": bind, "port": 8888})
    assert not check(conf)
    assert "metrics         FAILED  [metrics] port is that of [wsgi], 8888: choose another" in capsys.readouterr().out
    for refuse in (monitor.check, monitor.open_listener):
        with pytest.raises(ValueError, match="choose another"):
            refuse(conf)
    assert monitor.check(configured(metrics={"port": 8888})) == "at /metrics of the service, for whoever can reach it"
    assert monitor.check(configured(metrics={"bind": bind})) == f"on {bind} port 9888"
