"""The bridge that the core's tests use does what real ones do."""

import pytest

from tests.bridge_suite import BridgeSuite
from tests.memory_bridge import MemoryBridge


class TestMemoryBridge(BridgeSuite):
    """The promises of every bridge."""

    @pytest.fixture
    def bridge(self) -> MemoryBridge:
        return MemoryBridge()

    @pytest.fixture
    def queue(self, bridge: MemoryBridge) -> str:
        bridge.create("queue")
        return "queue"
