"""What the tests of a bridge share: messages, and calls at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from bridges.base import Bridge, Envelope
from bridges.consuming import Delivery

#: Number of threads that do the same thing at the same moment.
CROWD = 8

#: Seconds until a broker must have counted what it has taken: RabbitMQ's counts are allowed to lag.
COUNTED = 10.0

#: Seconds between two looks while a test waits.
LOOK_EVERY = 0.05

#: Seconds in which nothing comes if nothing ever will, as far as a test waits for that.
SILENCE = 0.15

#: Seconds after which a test fails that waits for a thread; far more than a slow machine needs.
THREAD_DEADLINE = 30.0

MISSING = "marconi.test.never-made"


def envelopes(*bodies: str) -> list[Envelope]:
    return [Envelope(body.encode(), message_id=f"id-{body}") for body in bodies]


def bodies(found: list[Envelope]) -> list[str]:
    return [envelope.body.decode() for envelope in found]


def drain(bridge: Bridge, queue: str, limit: int = 10, in_order: bool = False) -> list[Envelope]:
    """Take all that waits, settled."""
    taken: list[Envelope] = []
    while (batch := bridge.fetch(queue, limit, in_order)).envelopes:
        taken += batch.envelopes
        bridge.settle(batch)
    return taken


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of ``condition()``. Raises TimeoutError after COUNTED seconds."""
    deadline = time.monotonic() + COUNTED
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {COUNTED:g} s in vain for {what}")
        time.sleep(LOOK_EVERY)
    return value


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls at the same moment, each in a thread of its own: their results, or what one of them raised."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(THREAD_DEADLINE)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(THREAD_DEADLINE) for future in [pool.submit(run, call) for call in calls]]


class Inbox:
    """What a consumer has handed out so far; ``consumer`` is that consumer. Thread-safe."""

    def __init__(self, bridge: Bridge):
        self._news = threading.Condition()
        self._arrived: list[Delivery] = []
        self.consumer = bridge.consume(self._take)

    def _take(self, delivery: Delivery) -> None:
        with self._news:
            self._arrived.append(delivery)
            self._news.notify_all()

    def arrived(self, queue: str | None = None) -> list[Delivery]:
        """All that has arrived of one queue or of all, first things first."""
        with self._news:
            return [delivery for delivery in self._arrived if queue in (None, delivery.queue)]

    def bodies(self, queue: str | None = None) -> list[str]:
        """The bodies of what has arrived, of one queue or of all."""
        return bodies([delivery.envelope for delivery in self.arrived(queue)])

    def wait(self, count: int, queue: str | None = None) -> list[Delivery]:
        """The deliveries as soon as there are so many. Raises TimeoutError after COUNTED seconds."""
        with self._news:
            if not self._news.wait_for(lambda: len(self.arrived(queue)) >= count, COUNTED):
                raise TimeoutError(f"waited {COUNTED:g} s for {count} messages, and only {self.bodies(queue)} came")
            return self.arrived(queue)

    def expect(self, *expected: str, queue: str | None = None) -> list[Delivery]:
        """The deliveries when these bodies have arrived, and after them no more for a moment."""
        self.wait(len(expected), queue)
        time.sleep(SILENCE)
        assert self.bodies(queue) == list(expected)
        return self.arrived(queue)


@contextmanager
def consuming(bridge: Bridge, most: int, *queues: str) -> Iterator[Inbox]:
    """What comes out of these queues, up to ``most`` unsettled messages of each; closed at the end."""
    inbox = Inbox(bridge)
    try:
        for queue in queues:
            inbox.consumer.add(queue, most)
        yield inbox
    finally:
        inbox.consumer.close()
