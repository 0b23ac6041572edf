"""Queues, and messages that are published and fetched."""

import threading
from collections.abc import Callable

import pytest

from bridges.base import Bridge, Envelope
from bridges.errors import QueueMissing
from bridges.suite.support import CROWD, MISSING, bodies, drain, envelopes, eventually, together

#: Number of batches that each thread of a crowd posts.
BATCHES = 5

#: Messages posted one by one while somebody reads: enough for every way in which the two may meet.
STREAM = 200

#: More than one AMQP frame holds (128 KiB).
SEVERAL_FRAMES = 300 * 1024


class MessageTests:
    """What every caller of a bridge needs."""

    # -- queues -------------------------------------------------------------------------------------------------

    def test_ping_returns_when_the_broker_works(self, bridge: Bridge) -> None:
        bridge.ping()

    def test_creating_again_leaves_the_messages(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a"))
        bridge.create(queue)
        assert bodies(drain(bridge, queue)) == ["a"]

    def test_many_create_at_once(self, bridge: Bridge, queue: str) -> None:
        bridge.delete(queue)
        together(*[lambda: bridge.create(queue)] * CROWD)
        bridge.publish(queue, envelopes("a"))
        assert bodies(drain(bridge, queue)) == ["a"]

    def test_depth_counts_what_waits(self, bridge: Bridge, queue: str) -> None:
        assert bridge.depth(queue) == 0
        bridge.publish(queue, envelopes("a", "b", "c"))
        eventually(lambda: bridge.depth(queue) == 3, "three messages")
        drain(bridge, queue)
        eventually(lambda: bridge.depth(queue) == 0, "no messages")

    def test_purged_queue_is_empty_and_works(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        bridge.purge(queue)
        assert bridge.fetch(queue, 10).envelopes == []
        bridge.publish(queue, envelopes("c"))
        assert bodies(drain(bridge, queue)) == ["c"]

    def test_deleted_queue_is_gone_with_its_messages(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a"))
        bridge.delete(queue)
        with pytest.raises(QueueMissing):
            bridge.publish(queue, envelopes("b"))
        bridge.create(queue)
        assert bridge.fetch(queue, 10).envelopes == []

    @pytest.mark.parametrize(
        ("call", "answer"),
        [
            (lambda bridge: bridge.delete(MISSING), None),
            (lambda bridge: bridge.purge(MISSING), None),
            (lambda bridge: bridge.depth(MISSING), 0),
            (lambda bridge: bridge.fetch(MISSING, 1).envelopes, []),
            (lambda bridge: bridge.fetch(MISSING, 10).envelopes, []),
        ],
        ids=["delete", "purge", "depth", "fetch-1", "fetch-10"],
    )
    def test_missing_queue_is_an_empty_one(
        self, bridge: Bridge, queue: str, call: Callable[[Bridge], object], answer: object
    ) -> None:
        assert call(bridge) == answer
        bridge.publish(queue, envelopes("a", "b"))  # and the bridge goes on working
        assert bodies(drain(bridge, queue)) == ["a", "b"]

    @pytest.mark.parametrize("count", [1, 3])
    def test_publishing_to_a_missing_queue_is_refused(self, bridge: Bridge, queue: str, count: int) -> None:
        for _ in range(2):
            with pytest.raises(QueueMissing):
                bridge.publish(MISSING, envelopes(*"abc"[:count]))
        bridge.publish(queue, envelopes("d"))
        assert bodies(drain(bridge, queue)) == ["d"]

    # -- order --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("limit", [1, 2, 7, 100])
    def test_first_in_is_first_out(self, bridge: Bridge, queue: str, limit: int) -> None:
        posted = [f"{number:02}" for number in range(10)]
        for part in (posted[:1], posted[1:5], posted[5:]):
            bridge.publish(queue, envelopes(*part))
        assert bodies(drain(bridge, queue, limit)) == posted

    @pytest.mark.parametrize("limit", [1, 10])
    def test_reader_sees_the_order_of_a_writer_that_is_still_writing(
        self, bridge: Bridge, queue: str, limit: int
    ) -> None:
        posted = [f"{number:03}" for number in range(STREAM)]
        written = threading.Event()

        def write() -> None:
            try:
                for body in posted:
                    bridge.publish(queue, envelopes(body))
            finally:
                written.set()

        def read() -> list[str]:
            got: list[str] = []
            while True:
                last_round = written.is_set()
                got += bodies(drain(bridge, queue, limit))
                if last_round:
                    return got

        _, got = together(write, read)
        assert got == posted

    @pytest.mark.parametrize("limit", [1, 3])
    def test_fetch_takes_no_more_than_asked_for(self, bridge: Bridge, queue: str, limit: int) -> None:
        bridge.publish(queue, envelopes(*"abcde"))
        batch = bridge.fetch(queue, limit)
        assert bodies(batch.envelopes) == list("abcde"[:limit])
        bridge.settle(batch)
        assert bodies(drain(bridge, queue)) == list("abcde"[limit:])

    def test_what_is_fetched_is_not_handed_to_others(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a", "b", "c"))
        ours = bridge.fetch(queue, 2)
        theirs = bridge.fetch(queue, 2)
        assert (bodies(ours.envelopes), bodies(theirs.envelopes)) == (["a", "b"], ["c"])
        bridge.settle(ours)
        bridge.settle(theirs)

    def test_in_hand_is_what_nobody_has_settled_yet(self, bridge: Bridge, queue: str) -> None:
        """The broker's queue of one that has moved to another pool is deleted when nothing is in hand any more."""
        bridge.publish(queue, envelopes("1", "2", "3"))
        batch = bridge.fetch(queue, 2)
        assert bridge.in_hand(queue) in (2, None)
        bridge.settle(batch)
        bridge.settle(bridge.fetch(queue, 1))
        eventually(lambda: bridge.in_hand(queue) in (0, None), "nothing in hand")
        assert bridge.in_hand(MISSING) in (0, None)
        assert bridge.gives_back_after >= 0

    def test_settled_messages_are_gone(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        bridge.settle(bridge.fetch(queue, 2))
        assert bridge.fetch(queue, 2).envelopes == []
        eventually(lambda: bridge.depth(queue) == 0, "no messages")

    @pytest.mark.parametrize("kept", [[0], [1], [2], [0, 2], [0, 1, 2]])
    def test_some_of_a_batch_are_settled_and_others_go_back(self, bridge: Bridge, queue: str, kept: list[int]) -> None:
        bridge.publish(queue, envelopes(*"abcde"))
        batch = bridge.fetch(queue, 3)
        bridge.settle_others(batch, [batch.envelopes[place] for place in kept])
        again = eventually(lambda: drain(bridge, queue), "the messages to be back")
        if type(bridge).settle_others is Bridge.settle_others:  # a driver that gives back all
            kept = [0, 1, 2]
        assert bodies(again) == ["abc"[place] for place in kept] + ["d", "e"]
        assert [envelope.redelivered for envelope in again] == [True] * len(kept) + [False, False]

    def test_deposit_makes_the_queue_that_is_not_there(self, bridge: Bridge, queue: str) -> None:
        bridge.delete(queue)
        bridge.deposit(queue, envelopes("a"))
        bridge.deposit(queue, envelopes("b"))
        assert bodies(drain(bridge, queue)) == ["a", "b"]

    @pytest.mark.parametrize("limit", [1, 3])
    def test_requeued_messages_are_back_in_their_place(self, bridge: Bridge, queue: str, limit: int) -> None:
        bridge.publish(queue, envelopes(*"abcde"))
        batch = bridge.fetch(queue, limit)
        assert not any(envelope.redelivered for envelope in batch.envelopes)
        bridge.requeue(batch)
        again = eventually(lambda: drain(bridge, queue), "the messages to be back")
        assert bodies(again) == list("abcde")
        assert [envelope.redelivered for envelope in again] == [n < limit for n in range(5)]

    def test_empty_batch_can_be_ended_either_way(self, bridge: Bridge, queue: str) -> None:
        bridge.settle(bridge.fetch(queue, 3))
        bridge.requeue(bridge.fetch(queue, 3))
        bridge.publish(queue, envelopes("a"))
        assert bodies(drain(bridge, queue)) == ["a"]

    def test_queues_do_not_mix(self, bridge: Bridge, queue: str) -> None:
        other = f"{queue}.other"
        bridge.create(other)
        bridge.publish(queue, envelopes("a"))
        bridge.publish(other, envelopes("b"))
        assert bodies(drain(bridge, other)) == ["b"]
        assert bodies(drain(bridge, queue)) == ["a"]
        bridge.delete(other)

    # -- what a message carries ---------------------------------------------------------------------------------

    def test_all_fields_arrive(self, bridge: Bridge, queue: str) -> None:
        sent = Envelope(
            b'{"a": 1}', message_id="0192b0a0-0000-7000-8000-000000000000", ttl=3_600_000, timestamp=1_700_000_000,
            content_type="application/octet-stream", content_encoding="identity",
            headers={"marconi-client": "0192b0a0", "other": "grüße"},
        )
        bridge.publish(queue, [sent])
        (got,) = drain(bridge, queue)
        assert got == sent

    def test_missing_fields_stay_missing(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, [Envelope(b"1", content_type=None)])
        (got,) = drain(bridge, queue)
        assert got == Envelope(b"1", content_type=None)

    @pytest.mark.parametrize("size", [0, 1, SEVERAL_FRAMES])
    @pytest.mark.parametrize("count", [1, 3])
    def test_bodies_arrive_whole(self, bridge: Bridge, queue: str, size: int, count: int) -> None:
        sent = [(bytes(range(1 + number, 252 + number)) * (size // 251 + 1))[:size] for number in range(count)]
        bridge.publish(queue, [Envelope(body) for body in sent])
        assert [envelope.body for envelope in drain(bridge, queue, count)] == sent

    # -- many at once -------------------------------------------------------------------------------------------

    def test_many_threads_lose_nothing_and_keep_each_ones_order(self, bridge: Bridge, queue: str) -> None:
        def publish(writer: int) -> None:
            for batch in range(BATCHES):
                bridge.publish(queue, envelopes(f"{writer}-{batch}-0", f"{writer}-{batch}-1"))

        together(*[lambda n=n: publish(n) for n in range(CROWD)])
        got = bodies(drain(bridge, queue, 7))
        posted = [f"{w}-{b}-{n}" for w in range(CROWD) for b in range(BATCHES) for n in (0, 1)]
        assert sorted(got, key=lambda body: body[0]) == posted

    def test_of_many_readers_each_message_goes_to_one(self, bridge: Bridge, queue: str) -> None:
        posted = [f"{number:03}" for number in range(CROWD * 10)]
        bridge.publish(queue, envelopes(*posted))
        got = together(*[lambda n=n: bodies(drain(bridge, queue, 1 + n % 4)) for n in range(CROWD)])
        assert sorted(body for part in got for body in part) == posted
        assert all(part == sorted(part) for part in got)

    def test_closed_bridge_has_no_connections(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a"))
        bridge.close()
        assert bridge.connections() == 0
