"""A bridge whose broker is in this process: for tests of code that uses a bridge, and to learn from.

It is complete, and of no use in production: other processes do not see its messages, and these are gone when the
process ends. So no URI scheme leads to it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from bridges.base import Batch, Bridge, Envelope
from bridges.errors import QueueMissing


class MemoryBatch(Batch):
    """A batch that knows which queue it is from, and whether it has ended."""

    __slots__ = ("source", "ended")

    def __init__(self, envelopes: list[Envelope], source: deque[Envelope]):
        super().__init__(envelopes)
        self.source = source
        self.ended = False

    def end(self) -> None:
        """It is settled or requeued now. Raises RuntimeError the second time: it is the caller's mistake."""
        if self.ended:
            raise RuntimeError("a batch is settled or requeued once")
        self.ended = True


class MemoryBridge(Bridge):
    """Queues in memory. A test may set ``fetch``, ``settle``… of an object to break or to delay it."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Envelope]] = {}
        self._lock = threading.Lock()

    def create(self, queue: str) -> None:
        with self._lock:
            self._queues.setdefault(queue, deque())

    def delete(self, queue: str) -> None:
        with self._lock:
            self._queues.pop(queue, None)

    def purge(self, queue: str) -> None:
        with self._lock:
            self._queues.get(queue, deque()).clear()

    def depth(self, queue: str) -> int:
        return len(self._queues.get(queue, ()))

    def publish(self, queue: str, envelopes: Sequence[Envelope]) -> None:
        with self._lock:
            if queue not in self._queues:
                raise QueueMissing(queue)
            self._queues[queue].extend(replace(envelope) for envelope in envelopes)

    def fetch(self, queue: str, limit: int) -> Batch:
        with self._lock:
            waiting = self._queues.get(queue, deque())
            return MemoryBatch([waiting.popleft() for _ in range(min(limit, len(waiting)))], waiting)

    def settle(self, batch: Batch) -> None:
        self._give_back(batch, ())

    def settle_others(self, batch: Batch, kept: Sequence[Envelope]) -> None:
        self._give_back(batch, kept)

    def requeue(self, batch: Batch) -> None:
        self._give_back(batch, batch.envelopes)

    def _give_back(self, batch: Batch, kept: Sequence[Envelope]) -> None:
        assert isinstance(batch, MemoryBatch)  # nosec B101  # for the type checker
        batch.end()
        returned = [replace(envelope, redelivered=True) for envelope in kept]
        with self._lock:
            batch.source.extendleft(reversed(returned))  # of a queue that has been deleted nobody sees it

    def ping(self) -> None:
        pass

    def close(self) -> None:
        pass
