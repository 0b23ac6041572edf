"""Adopting queues and exchanges of others: what a bridge may do besides, for queues that are bridged (``_bridge``).

The core asks once whether a bridge is a ForeignBridge. Without one no queue can be bridged, and nothing else changes:
the answer to a ``_bridge`` is Bridge.cannot_adopt then.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from bridges import bridging
from bridges.base import Batch, Bridge, Envelope
from bridges.bridging import Binding, Bridging


class ForeignBridge(Bridge):
    """A bridge that reaches queues and exchanges of others, in any virtual host of the broker.

    What holds for Bridge's methods holds for these: they are thread-safe, and raise BridgeUnavailable in time.
    """

    def parse_bridging(self, value: Any) -> Bridging:
        """A ``_bridge`` from its JSON value. Raises ValueError that says what can't be bridged on this bridge.

        This is for brokers that speak AMQP 0-9-1; no object is asked of the broker.
        """
        return bridging.parse(value)

    @abstractmethod
    def at(self, vhost: str | None) -> ForeignBridge:
        """The bridge for another virtual host of the same broker; None is its own. Belongs to this one.

        Ask for it again after some seconds: what is not asked for may be closed.
        """

    @abstractmethod
    def own_vhost(self) -> str:
        """The virtual host that this bridge works in."""

    @abstractmethod
    def exists(self, queue: str) -> bool:
        """Is there such a queue? Raises SourceUnreadable for one that belongs to another connection alone."""

    @abstractmethod
    def check_source(self, queue: str) -> None:
        """Raises SourceUnreadable when there is such a queue and its messages can't be taken."""

    @abstractmethod
    def check_exchange(self, binding: Binding) -> None:
        """Raises SourceUnreadable when there is such an exchange of another type, if the broker tells."""

    @abstractmethod
    def bind(self, queue: str, binding: Binding) -> None:
        """Bind a queue of ours to an exchange of others. Idempotent. Raises ExchangeMissing, QueueMissing."""

    @abstractmethod
    def publish_to(self, exchange: str, routing_key: str, envelopes: Sequence[Envelope], *, mandatory: bool) -> None:
        """As publish, to an exchange of others. Raises ExchangeMissing, and Unroutable when ``mandatory``."""

    @abstractmethod
    def fetch_foreign(self, queue: str, limit: int) -> Batch:
        """As fetch, from a queue of others: without being a consumer of it for a moment, where that is possible."""

    @abstractmethod
    def peek(self, queue: str, limit: int, see: Callable[[Envelope], bool]) -> None:
        """Show ``see`` up to ``limit`` messages from the front of a queue, which stay there; no queue: none.

        It gets them one by one, and says whether it wants more: what it does not keep is not held in memory.
        """
