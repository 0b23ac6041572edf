"""Messages handed out as they come, for whoever delivers them: the third side of a bridge, beside publish and fetch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bridges.base import Envelope


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message that a :class:`Consumer` has handed out and that is not settled yet.

    ``tag`` is the driver's own: by it the driver finds the message at the broker, and knows whether the connection
    that it came over is still the one in use.
    """

    queue: str
    envelope: Envelope
    tag: Any = field(compare=False, repr=False)


class Consumer(ABC):
    """Messages of many queues as they come, over as few connections as possible. Thread-safe.

    It connects by itself, also after a failure, and goes on trying; then what was unsettled comes again, marked
    redelivered where the broker knows. The function that it was created with gets each :class:`Delivery`; a thread of
    the consumer calls it, so it must not block, nor raise. It may call the methods below, except ``close``.

    Messages of a queue come in the queue's order, as long as none goes back to it.
    """

    @abstractmethod
    def add(self, queue: str, most: int) -> None:
        """Hand out messages of this queue, up to ``most`` (at least 1) unsettled at a time.

        A missing queue is tried again every second, and so is one that is deleted meanwhile. If a queue has been added
        with another ``most``, it is removed first. Never raises, and never waits for the broker.
        """

    @abstractmethod
    def remove(self, queue: str) -> None:
        """Hand out no more of this queue; what is unsettled goes back to it. Nothing happens if it was never added.

        Never raises, and never waits for the broker: a delivery that is on its way may still arrive.
        """

    @abstractmethod
    def settle(self, delivery: Delivery) -> None:
        """Acknowledge: the broker forgets the message. Nothing happens if its connection is gone: it comes again.

        Never raises, and never waits for the broker.
        """

    def settle_all(self, deliveries: Sequence[Delivery]) -> None:
        """As ``settle`` for each of them. A driver that wakes a thread for it wakes it once."""
        for delivery in deliveries:
            self.settle(delivery)

    @abstractmethod
    def requeue(self, delivery: Delivery) -> None:
        """Give the message back to its queue, to come again. Nothing happens if its connection is gone.

        Never raises, and never waits for the broker.
        """

    def connections(self) -> int:
        """Connections open now, for the metrics: Bridge.connections counts them."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Give everything back and close the connections. Nothing is handed out after it has returned."""
