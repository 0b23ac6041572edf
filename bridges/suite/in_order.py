"""Queues whose messages are fetched in order, by one client at a time."""

import random
import threading
import time
from collections.abc import Iterator

import pytest

from bridges.base import Batch, Bridge
from bridges.suite.support import COUNTED, CROWD, MISSING, bodies, drain, envelopes, eventually, together

#: Messages posted one by one while several clients read.
STREAM = 150

#: Seconds that an empty fetch may take, with some for a slow machine.
SHORT = 2.0


class OrderTests:
    """``create`` and ``fetch`` with ``in_order``."""

    @pytest.fixture
    def other(self, bridge: Bridge) -> Bridge:
        """Another bridge to the same broker; the same one if the broker is in it."""
        return bridge

    @pytest.fixture
    def fifo(self, bridge: Bridge, queue: str) -> Iterator[str]:
        """A new queue for messages in order."""
        name = f"{queue}.fifo"
        bridge.create(name, in_order=True)
        yield name
        bridge.delete(name)

    def lose(self, bridge: Bridge, batch: Batch) -> None:
        """Have the client of a batch die, and the broker notice it; where none can, the batch is given back."""
        bridge.requeue(batch)

    def test_nobody_else_is_given_messages_until_the_batch_is_settled(
        self, bridge: Bridge, other: Bridge, fifo: str
    ) -> None:
        bridge.publish(fifo, envelopes("a", "b"))
        ours = bridge.fetch(fifo, 10, in_order=True)
        assert bodies(ours.envelopes) == ["a", "b"]
        bridge.publish(fifo, envelopes("c"))
        started = time.monotonic()
        for waiting in other, bridge:
            assert waiting.fetch(fifo, 10, in_order=True).envelopes == []
        assert time.monotonic() - started < SHORT
        bridge.settle(ours)
        assert bodies(drain(other, fifo, in_order=True)) == ["c"]
        assert drain(bridge, fifo, in_order=True) == []

    def test_queue_is_not_drained_while_anybody_has_messages_of_it(
        self, bridge: Bridge, other: Bridge, fifo: str
    ) -> None:
        assert bridge.is_drained(fifo)
        bridge.publish(fifo, envelopes("a"))
        assert not other.is_drained(fifo)
        batch = bridge.fetch(fifo, 10, in_order=True)
        assert not other.is_drained(fifo)
        assert not bridge.is_drained(fifo)
        bridge.settle(batch)
        eventually(lambda: other.is_drained(fifo), "the queue to be drained")
        assert bridge.is_drained(MISSING)

    @pytest.mark.parametrize("limit", [2, 100])
    def test_requeued_batch_comes_first_and_in_order_to_whoever_fetches_next(
        self, bridge: Bridge, other: Bridge, fifo: str, limit: int
    ) -> None:
        bridge.publish(fifo, envelopes(*"abcde"))
        for _ in range(2):
            for each in bridge, other:
                batch = _next(each, fifo, limit)
                got = bodies(batch.envelopes)
                assert got == list("abcde"[:len(got)])
                each.requeue(batch)
        assert bodies(eventually(lambda: drain(other, fifo, in_order=True), "the messages")) == list("abcde")

    def test_order_stays_when_parts_of_what_was_given_back_are_given_back_again(
        self, bridge: Bridge, other: Bridge, fifo: str
    ) -> None:
        """A quorum queue puts what is given back after what was given back before."""
        posted = [f"{number:02}" for number in range(12)]
        bridge.publish(fifo, envelopes(*posted))
        for limit in (10, 2, 5, 1, 12, 3):
            batch = _next(bridge, fifo, limit)
            got = bodies(batch.envelopes)
            assert got == posted[:len(got)]
            bridge.requeue(batch)
        assert bodies(eventually(lambda: drain(other, fifo, 4, in_order=True), "the messages")) == posted

    def test_batch_of_a_client_that_has_died_comes_first_and_in_order(
        self, bridge: Bridge, other: Bridge, fifo: str
    ) -> None:
        bridge.publish(fifo, envelopes(*"abc"))
        batch = bridge.fetch(fifo, 2, in_order=True)
        bridge.publish(fifo, envelopes("d"))
        self.lose(bridge, batch)
        again = _next(other, fifo, 2)
        assert bodies(again.envelopes)[:2] == ["a", "b"]
        assert all(envelope.redelivered for envelope in again.envelopes[:2])
        other.settle(again)
        assert bodies(again.envelopes + drain(bridge, fifo, in_order=True)) == list("abcd")

    @pytest.mark.parametrize("kept", [[0], [2], [0, 2]])
    def test_kept_ones_of_a_batch_come_before_those_that_follow(
        self, bridge: Bridge, other: Bridge, fifo: str, kept: list[int]
    ) -> None:
        bridge.publish(fifo, envelopes("a", "b", "c"))
        batch = bridge.fetch(fifo, 3, in_order=True)
        bridge.publish(fifo, envelopes("d", "e"))
        bridge.settle_others(batch, [batch.envelopes[place] for place in kept])
        if type(bridge).settle_others is Bridge.settle_others:  # a driver that gives back all
            kept = [0, 1, 2]
        left = eventually(lambda: drain(other, fifo, in_order=True), "the messages to be back")
        assert bodies(left) == ["abc"[place] for place in kept] + ["d", "e"]

    @pytest.mark.parametrize("limit", [1, 7, 100])
    def test_batches_follow_each_other_without_a_gap(
        self, bridge: Bridge, other: Bridge, fifo: str, limit: int
    ) -> None:
        posted = [f"{number:03}" for number in range(120)]
        bridge.publish(fifo, envelopes(*posted))
        got: list[str] = []
        while len(got) < len(posted):
            for each in bridge, other:
                batch = each.fetch(fifo, limit, in_order=True)
                got += bodies(batch.envelopes)
                each.settle(batch)
            assert got == posted[:len(got)]
        assert got == posted

    def test_clients_that_give_back_or_die_keep_the_order_while_somebody_writes(
        self, bridge: Bridge, other: Bridge, fifo: str
    ) -> None:
        """Each stores what it gets and is new, and settles it then; some die in between."""
        posted = [f"{number:03}" for number in range(STREAM)]
        stored: list[str] = []
        wrong: list[list[str]] = []
        end = time.monotonic() + 3 * COUNTED
        lock = threading.Lock()

        def write() -> None:
            for body in posted:
                bridge.publish(fifo, envelopes(body))

        def read(reader: Bridge, seed: int) -> None:
            chance = random.Random(seed)
            while len(stored) < len(posted) and not wrong and time.monotonic() < end:
                batch = reader.fetch(fifo, chance.choice((1, 5, 100)), in_order=True)
                with lock:
                    new = [body for body in bodies(batch.envelopes) if body not in stored]
                    if new != posted[len(stored):len(stored) + len(new)]:
                        wrong.append(bodies(batch.envelopes))
                    if stores := chance.random() < 0.7:
                        stored.extend(new)
                if batch.envelopes and chance.random() < 0.1:
                    self.lose(reader, batch)
                elif stores:
                    reader.settle(batch)
                else:
                    reader.requeue(batch)

        together(write, *[lambda n=n: read((bridge, other)[n % 2], n) for n in range(CROWD // 2)])
        assert (stored, wrong) == (posted, [])

    def test_copies_of_it_and_itself_get_all_in_order(self, bridge: Bridge, other: Bridge, fifo: str) -> None:
        copy = f"{fifo}.1"
        bridge.add_copy(fifo, copy)
        for letters in ("ab", "cd"):
            bridge.publish(fifo, envelopes(*letters), copied=True)
        batch = bridge.fetch(fifo, 10, in_order=True)
        assert bodies(drain(other, copy)) == list("abcd")
        assert other.fetch(fifo, 10, in_order=True).envelopes == []
        bridge.settle(batch)
        assert bodies(batch.envelopes + drain(other, fifo, in_order=True)) == list("abcd")
        bridge.remove_copy(fifo, copy)

    def test_creating_again_leaves_messages_and_order(self, bridge: Bridge, other: Bridge, fifo: str) -> None:
        bridge.publish(fifo, envelopes("a", "b"))
        other.create(fifo, in_order=True)
        batch = bridge.fetch(fifo, 10, in_order=True)
        other.create(fifo, in_order=True)
        bridge.requeue(batch)
        assert bodies(eventually(lambda: drain(other, fifo, in_order=True), "the messages")) == ["a", "b"]

    @pytest.mark.parametrize("limit", [1, 10])
    def test_queue_that_is_empty_missing_or_purged_has_nothing(self, bridge: Bridge, fifo: str, limit: int) -> None:
        started = time.monotonic()
        for queue in (fifo, MISSING):
            bridge.settle(bridge.fetch(queue, limit, in_order=True))
            bridge.requeue(bridge.fetch(queue, limit, in_order=True))
        bridge.publish(fifo, envelopes("a"))
        bridge.purge(fifo)
        assert bridge.fetch(fifo, limit, in_order=True).envelopes == []
        assert time.monotonic() - started < SHORT
        bridge.publish(fifo, envelopes("b"))
        assert bodies(drain(bridge, fifo, limit, in_order=True)) == ["b"]


def _next(bridge: Bridge, queue: str, limit: int) -> Batch:
    """The next batch that has messages. Raises TimeoutError when none comes."""

    def fetch() -> Batch | None:
        batch = bridge.fetch(queue, limit, in_order=True)
        return batch if batch.envelopes else None

    found: Batch = eventually(fetch, "the messages to be back")
    return found
