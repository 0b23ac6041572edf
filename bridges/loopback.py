"""The bridge without a broker: a post lands in the side-store at once, so nothing ever waits here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from bridges.base import Batch, Bridge, Envelope
from bridges.errors import BridgeMisconfigured


class LoopbackBridge(Bridge):
    """``loopback://``"""

    has_backlog: ClassVar[bool] = False
    cannot_adopt: ClassVar[str] = "this service has a loopback bridge: without a broker there is nothing to bridge to"

    def __init__(self, uri: str, options: Any):
        if uri != "loopback://":
            raise BridgeMisconfigured("[bridge] uri: loopback takes no address, write loopback:// alone")

    def describe(self) -> str:
        return "loopback://"

    def create(self, queue: str, in_order: bool = False) -> None:
        pass

    def delete(self, queue: str) -> None:
        pass

    def purge(self, queue: str) -> None:
        pass

    def depth(self, queue: str) -> int:
        return 0

    def publish(self, queue: str, envelopes: Sequence[Envelope], copied: bool = False) -> None:
        raise NotImplementedError("without a backlog there is nothing to publish to")

    def fetch(self, queue: str, limit: int, in_order: bool = False) -> Batch:
        return Batch([])

    def settle(self, batch: Batch) -> None:
        pass

    def requeue(self, batch: Batch) -> None:
        pass

    def ping(self) -> None:
        pass

    def close(self) -> None:
        pass
