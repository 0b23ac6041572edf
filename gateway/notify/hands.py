"""A consumer of the broker as the loop sees it: what crosses to its thread and back goes over in one piece.

Each crossing wakes a thread, and two threads that are awake take the GIL from each other at every system call. So what
arrives while the loop is busy is seen in its next turn, all of it, and what is settled waits a moment for more of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from bridges.consuming import Consumer, Delivery

LOG = logging.getLogger(__name__)

#: How many acknowledgements go at once, and seconds that fewer of them wait. Where the broker hands out fewer than two
#: times as many messages at a time, it sends more only when it knows: there none waits.
AT_ONCE, WAIT = 8, 0.002


class Hands:
    """Create it on the loop; then ``open``. All methods but ``hand_over`` belong to the loop; those that block say so.

    ``arrived`` gets this object and what has arrived since its last call, in order.
    """

    def __init__(self, arrived: Callable[[Hands, Sequence[Delivery]], None]):
        self._loop = asyncio.get_running_loop()
        self._take = arrived
        self._handed: deque[Delivery] = deque()
        self._is_called = False
        self._settled: list[Delivery] = []
        self._flushing: asyncio.Handle | None = None
        #: By queue, how many messages the broker hands out at a time.
        self._most: dict[str, int] = {}
        self._consumer: Consumer

    def open(self, consume: Callable[[Callable[[Delivery], None]], Consumer]) -> None:
        """Get the consumer. Blocks. Raises what ``consume`` raises."""
        self._consumer = consume(self.hand_over)

    # -- what arrives -------------------------------------------------------------------------------------------

    def hand_over(self, delivery: Delivery) -> None:
        """Called by a thread of the consumer."""
        self._handed.append(delivery)
        if self._is_called:  # it is cleared before the first of them is taken, so this one is not missed
            return
        self._is_called = True
        try:
            self._loop.call_soon_threadsafe(self._arrived)
        except RuntimeError:  # the loop has ended: so will the consumer, and it gives back what it has
            LOG.debug("a message of queue %s arrived too late", delivery.queue)

    def _arrived(self) -> None:
        self._is_called = False
        self._take(self, [self._handed.popleft() for _ in range(len(self._handed))])

    # -- what goes back -----------------------------------------------------------------------------------------

    def settle(self, delivery: Delivery) -> None:
        """Acknowledge a moment later."""
        self._settled.append(delivery)
        if len(self._settled) == AT_ONCE or self._most.get(delivery.queue, 0) < 2 * AT_ONCE:
            self._flush_by(self._loop.call_soon(self._flush))
        elif self._flushing is None:
            self._flush_by(self._loop.call_later(WAIT, self._flush))

    def _flush_by(self, handle: asyncio.Handle | None) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
        self._flushing = handle

    def requeue(self, delivery: Delivery) -> None:
        """See Consumer.requeue."""
        self._consumer.requeue(delivery)

    def _flush(self) -> None:
        self._flush_by(None)
        settled, self._settled = self._settled, []
        if settled:
            self._consumer.settle_all(settled)

    # -- queues -------------------------------------------------------------------------------------------------

    def add(self, queue: str, most: int) -> None:
        """See Consumer.add."""
        self._flush()  # a change of ``most`` gives back what is not settled yet
        self._most[queue] = most
        self._consumer.add(queue, most)

    def remove(self, queue: str) -> None:
        """See Consumer.remove."""
        self._flush()
        self._most.pop(queue, None)
        self._consumer.remove(queue)

    def close(self) -> Any:
        """Settle what is to be settled; what closes the consumer then, and blocks."""
        self._flush()
        return self._consumer.close
