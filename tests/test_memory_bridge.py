"""The bridge that the core's tests use does what real ones do."""

import pytest

from bridges.memory import MemoryBridge
from bridges.suite import BridgeSuite


class TestMemoryBridge(BridgeSuite):
    """The promises of every bridge."""

    @pytest.fixture
    def bridge(self) -> MemoryBridge:
        return MemoryBridge()

    @pytest.fixture
    def queue(self, bridge: MemoryBridge) -> str:
        bridge.create("queue")
        return "queue"
