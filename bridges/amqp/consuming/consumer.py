"""The consumer that others see: which of its threads has which queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from bridges.amqp.consuming.thread import Connect, ConsumerThread, Tag
from bridges.consuming import Consumer, Delivery


class AMQPConsumer(Consumer):
    """All queues are on one connection, or, if they do not fit, on as many as are needed."""

    def __init__(self, connect: Connect, timeout: float, arrived: Callable[[Delivery], None]):
        """``connect`` opens a connection, within ``timeout`` seconds."""
        self._connect = connect
        self._timeout = timeout
        self._arrived = arrived
        self._lock = threading.Lock()
        self._threads: list[ConsumerThread] = []
        #: The thread of each queue, and its prefetch.
        self._by_queue: dict[str, tuple[ConsumerThread, int]] = {}
        self._is_closed = False

    def add(self, queue: str, most: int) -> None:
        with self._lock:
            if queue in self._by_queue:
                self._give(self._by_queue[queue][0], queue, most)
            elif not self._is_closed:
                self._give(self._thread(0), queue, most)

    def remove(self, queue: str) -> None:
        with self._lock:
            if queue in self._by_queue:
                self._by_queue.pop(queue)[0].remove(queue)

    def settle(self, delivery: Delivery) -> None:
        tag: Tag = delivery.tag
        tag.thread.settle(tag)

    def settle_all(self, deliveries: Sequence[Delivery]) -> None:
        by_thread: dict[ConsumerThread, list[Tag]] = {}
        for delivery in deliveries:
            by_thread.setdefault(delivery.tag.thread, []).append(delivery.tag)
        for thread, tags in by_thread.items():
            thread.settle_all(tags)

    def requeue(self, delivery: Delivery) -> None:
        tag: Tag = delivery.tag
        tag.thread.requeue(tag)

    def connections(self) -> int:
        with self._lock:
            return sum(thread.is_connected for thread in self._threads)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            threads = list(self._threads)
        for thread in threads:
            thread.close()

    def _thread(self, place: int) -> ConsumerThread:
        """The thread at this place, which is started if it is the first after the last."""
        if place == len(self._threads):
            self._threads.append(ConsumerThread(self._connect, self._timeout, self._arrived, self._pass_on))
        return self._threads[place]

    def _give(self, thread: ConsumerThread, queue: str, most: int) -> None:
        self._by_queue[queue] = (thread, most)
        thread.add(queue, most)

    def _pass_on(self, thread: ConsumerThread, queue: str) -> None:
        """This thread has no room for a queue: the next one gets it."""
        with self._lock:
            owner, most = self._by_queue.get(queue, (None, 0))
            if owner is thread and not self._is_closed:
                thread.remove(queue)  # it may have been added once more meanwhile
                self._give(self._thread(self._threads.index(thread) + 1), queue, most)
