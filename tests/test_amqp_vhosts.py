"""Bridges for other virtual hosts: no thread and no connection for what is only named."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from bridges.amqp import AMQPBridge, vhosts
from bridges.amqp.vhosts import VHosts
from bridges.errors import BridgeUnavailable
from functional.services.ports import free_port


class FakeBridge:
    def __init__(self, vhost: str):
        self.vhost = vhost
        self.open = 0
        self.closed = False

    def connections(self) -> int:
        return self.open

    def close(self) -> None:
        self.closed = True


def names(hosts: VHosts) -> list[str]:
    return [bridge.vhost for bridge in hosts.all()]


def test_same_host_has_the_same_bridge() -> None:
    hosts = VHosts(FakeBridge)
    assert hosts.at("a") is hosts.at("a")
    assert hosts.at("b") is not hosts.at("a")


def test_surplus_is_closed_first_what_has_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vhosts, "MOST", 3)
    hosts = VHosts(FakeBridge)
    used = hosts.at("used")
    used.open = 1
    invented = [hosts.at(f"invented-{number}") for number in range(50)]
    assert names(hosts) == ["used", "invented-48", "invented-49"]
    assert [bridge.closed for bridge in invented] == [True] * 48 + [False] * 2
    for bridge in invented[-2:]:
        bridge.open = 1
    hosts.at("used")
    hosts.at("new")
    assert names(hosts) == ["invented-49", "used", "new"]


def test_bridge_that_cannot_be_made_closes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vhosts, "MOST", 1)
    bridges = iter([FakeBridge("a")])
    hosts = VHosts(lambda _: next(bridges))
    first = hosts.at("a")
    with pytest.raises(StopIteration):
        hosts.at("b")
    assert (names(hosts), first.closed) == (["a"], False)


def test_idle_bridge_is_closed_and_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = VHosts(FakeBridge)
    idle, used = hosts.at("idle"), hosts.at("used")
    hosts._used["idle"] -= vhosts.IDLE_FOR + 1
    hosts.close_idle()
    assert (idle.closed, used.closed, names(hosts)) == (True, False, ["used"])
    assert hosts.at("idle") is not idle
    assert len(hosts._used) == 2


def test_named_hosts_cost_no_threads() -> None:
    options = {option.dest: option.default for option in AMQPBridge.OPTS} | {"timeout": 0.2, "heartbeat": 2}
    bridge = AMQPBridge(f"amqp://guest:guest@127.0.0.1:{free_port()}/", SimpleNamespace(**options))
    before = threading.active_count()
    try:
        for number in range(200):
            other: Any = bridge.at(f"invented-{number}")
            assert other.own_vhost() == f"invented-{number}"
            with pytest.raises(BridgeUnavailable):
                other.exists("q")
        assert threading.active_count() <= before + 1
        assert len(bridge._vhosts.all()) == vhosts.MOST
        assert bridge.at(None) is bridge.at("/") is bridge
    finally:
        bridge.close()


def test_keeper_closes_what_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vhosts, "IDLE_FOR", 0.3)
    options = {option.dest: option.default for option in AMQPBridge.OPTS} | {"timeout": 0.2, "heartbeat": 0.3}
    bridge = AMQPBridge(f"amqp://guest:guest@127.0.0.1:{free_port()}/", SimpleNamespace(**options))
    with pytest.raises(BridgeUnavailable):
        bridge.at("there is none").exists("q")
    deadline = time.monotonic() + 5
    while bridge._vhosts.all() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert bridge._vhosts.all() == []
    bridge.close()
