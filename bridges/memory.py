"""A bridge whose broker is in this process: for tests of code that uses a bridge, and to learn from.

It is complete, and of no use in production: other processes do not see its messages, and these are gone when the
process ends. So no URI scheme leads to it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bridges.base import Batch, Bridge, Envelope
from bridges.consuming import Consumer, Delivery
from bridges.errors import QueueMissing

LOG = logging.getLogger(__name__)


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

    cannot_adopt: ClassVar[str] = "this service has a memory bridge: nobody else has queues or exchanges in its memory"

    def __init__(self) -> None:
        self._queues: dict[str, deque[Envelope]] = {}
        self._copies: dict[str, set[str]] = {}
        self._in_hand: Counter[int] = Counter()
        self._lock = threading.Lock()
        #: Consumers wait for it: something may have come into a queue, or out of their hands.
        self._changed = threading.Condition(self._lock)

    def create(self, queue: str, in_order: bool = False) -> None:
        with self._lock:
            self._queues.setdefault(queue, deque())

    def delete(self, queue: str) -> None:
        with self._lock:
            self._queues.pop(queue, None)
            self._copies.pop(queue, None)

    def add_copy(self, queue: str, copy: str, create: bool = True) -> None:
        with self._lock:
            if create:
                self._queues.setdefault(copy, deque())
            self._copies.setdefault(queue, set()).add(copy)

    def remove_copy(self, queue: str, copy: str, keep: bool = False) -> None:
        with self._lock:
            if not keep:
                self._queues.pop(copy, None)
            self._copies.get(queue, set()).discard(copy)

    def purge(self, queue: str) -> None:
        with self._lock:
            self._queues.get(queue, deque()).clear()

    def depth(self, queue: str) -> int:
        return len(self._queues.get(queue, ()))

    def in_hand(self, queue: str) -> int:
        with self._lock:
            return self._in_hand[id(self._queues.get(queue))]

    def publish(self, queue: str, envelopes: Sequence[Envelope], copied: bool = False) -> None:
        with self._lock:
            if queue not in self._queues or copied and queue not in self._copies:
                raise QueueMissing(queue)
            for name in (queue, *(self._copies[queue] if copied else ())):
                if name in self._queues:  # a copy may have been deleted as a queue
                    self._queues[name].extend(replace(envelope) for envelope in envelopes)
            self._changed.notify_all()

    def publish_copies(self, queue: str, envelopes: Sequence[Envelope]) -> None:
        with self._lock:
            if queue not in self._copies:
                raise QueueMissing(queue)
            for name in self._copies[queue]:
                if name in self._queues:
                    self._queues[name].extend(replace(envelope) for envelope in envelopes)
            self._changed.notify_all()

    def fetch(self, queue: str, limit: int, in_order: bool = False) -> Batch:
        with self._lock:
            waiting = self._queues.get(queue, deque())
            if in_order and self._in_hand[id(waiting)]:
                limit = 0  # another batch has the queue
            batch = MemoryBatch([waiting.popleft() for _ in range(min(limit, len(waiting)))], waiting)
            self._in_hand[id(waiting)] += len(batch.envelopes)
            return batch

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
            self._in_hand[id(batch.source)] -= len(batch.envelopes)
            batch.source.extendleft(reversed(returned))  # of a queue that has been deleted nobody sees it
            self._changed.notify_all()

    def consume(self, arrived: Callable[[Delivery], None]) -> Consumer:
        return MemoryConsumer(arrived, self._queues, self._in_hand, self._changed)

    def ping(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(eq=False, slots=True)
class _Held:
    """A message in a consumer's hands, and the queue that it is from: another one of its name may be there by now."""

    source: deque[Envelope]
    envelope: Envelope


class MemoryConsumer(Consumer):
    """Hands out what is in a bridge's ``queues``; ``changed`` guards these and ``in_hand``, and tells of news."""

    def __init__(
        self, arrived: Callable[[Delivery], None], queues: dict[str, deque[Envelope]], in_hand: Counter[int],
        changed: threading.Condition,
    ):
        self._arrived = arrived
        self._queues = queues
        self._in_hand = in_hand
        self._changed = changed
        self._most: dict[str, int] = {}
        #: By queue, in the order in which they were handed out.
        self._held: dict[str, list[_Held]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="memory-consumer", daemon=True)
        self._thread.start()

    def add(self, queue: str, most: int) -> None:
        with self._changed:
            if self._most.get(queue, most) != most:
                self._give_back(queue)
            self._most[queue] = most
            self._changed.notify_all()

    def remove(self, queue: str) -> None:
        with self._changed:
            self._most.pop(queue, None)
            self._give_back(queue)

    def settle(self, delivery: Delivery) -> None:
        with self._changed:
            self._release(delivery)

    def requeue(self, delivery: Delivery) -> None:
        with self._changed:
            if (held := self._release(delivery)) is not None:
                held.source.appendleft(replace(held.envelope, redelivered=True))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for queue in list(self._held):
                self._give_back(queue)
            self._changed.notify_all()
        self._thread.join()

    def _release(self, delivery: Delivery) -> _Held | None:
        """The message, out of our hands; None if it was not in them any more."""
        held: _Held = delivery.tag
        if held not in self._held.get(delivery.queue, ()):
            return None
        self._held[delivery.queue].remove(held)
        self._in_hand[id(held.source)] -= 1
        self._changed.notify_all()
        return held

    def _give_back(self, queue: str) -> None:
        for held in reversed(self._held.pop(queue, [])):
            self._in_hand[id(held.source)] -= 1
            held.source.appendleft(replace(held.envelope, redelivered=True))
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (delivery := self._next()) is None:
                    self._changed.wait()
                if self._closed:
                    return
            assert delivery is not None  # nosec B101  # for the type checker
            try:
                self._arrived(delivery)
            except Exception:  # the next message must come all the same
                LOG.exception("a message of queue %s was handed out and not taken", delivery.queue)

    def _next(self) -> Delivery | None:
        """Take the first message that may be handed out. The queue that it is from comes last the next time."""
        for queue, most in self._most.items():
            source = self._queues.get(queue)
            if source and sum(held.source is source for held in self._held.get(queue, ())) < most:
                taken = _Held(source, source.popleft())
                self._held.setdefault(queue, []).append(taken)
                self._in_hand[id(source)] += 1
                self._most[queue] = self._most.pop(queue)
                return Delivery(queue, taken.envelope, taken)
        return None
