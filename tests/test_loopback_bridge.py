"""The bridge without a broker: there is never anything in it."""

import pytest

from bridges.base import Envelope
from bridges.errors import BridgeMisconfigured
from bridges.loopback import LoopbackBridge


@pytest.fixture
def bridge() -> LoopbackBridge:
    return LoopbackBridge("loopback://", None)


def test_it_says_that_it_keeps_nothing(bridge: LoopbackBridge) -> None:
    assert bridge.has_backlog is False


def test_its_queues_are_always_empty(bridge: LoopbackBridge) -> None:
    bridge.create("queue")
    assert bridge.depth("queue") == 0
    batch = bridge.fetch("queue", 10)
    assert batch.envelopes == []
    bridge.settle(batch)
    bridge.requeue(bridge.fetch("queue", 1))
    bridge.purge("queue")
    bridge.delete("queue")


def test_it_works_without_anything_to_connect_to(bridge: LoopbackBridge) -> None:
    bridge.ping()
    assert bridge.connections() == 0
    bridge.close()


def test_publishing_to_it_is_a_mistake(bridge: LoopbackBridge) -> None:
    with pytest.raises(NotImplementedError):
        bridge.publish("queue", [Envelope(b"1")])


@pytest.mark.parametrize("uri", ["loopback://host", "loopback:///", "loopback://?a=1"])
def test_it_takes_no_address(uri: str) -> None:
    with pytest.raises(BridgeMisconfigured, match="takes no address"):
        LoopbackBridge(uri, None)
