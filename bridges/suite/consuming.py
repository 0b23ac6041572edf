"""Consumers: messages of many queues as they come."""

import time

from bridges.base import Bridge
from bridges.suite.support import MISSING, SILENCE, bodies, consuming, drain, envelopes, eventually

#: Queues that one consumer reads here: more than a driver has connections.
QUEUES = 20

#: Messages that a consumer gets one after the other.
STREAM = 200


class ConsumerTests:
    """``consume``, and what a consumer does."""

    def test_consumer_gets_what_waits_and_what_comes_in_order(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        with consuming(bridge, 10, queue) as inbox:
            inbox.expect("a", "b")
            bridge.publish(queue, envelopes("c"))
            bridge.publish(queue, envelopes("d", "e"))
            deliveries = inbox.expect("a", "b", "c", "d", "e")
            assert not any(delivery.envelope.redelivered for delivery in deliveries)
            assert {delivery.queue for delivery in deliveries} == {queue}
            for delivery in deliveries:
                inbox.consumer.settle(delivery)
            eventually(lambda: bridge.depth(queue) == 0, "no messages")
        assert drain(bridge, queue) == []

    def test_all_fields_arrive_at_a_consumer(self, bridge: Bridge, queue: str) -> None:
        (sent,) = envelopes("a")
        sent.ttl, sent.timestamp, sent.headers = 3_600_000, 1_700_000_000, {"marconi-client": "0192", "other": "grüße"}
        bridge.publish(queue, [sent])
        with consuming(bridge, 1, queue) as inbox:
            (delivery,) = inbox.expect("a")
            assert delivery.envelope == sent

    def test_connections_of_a_consumer_are_counted(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a"))
        before = bridge.connections()  # 0 for bridges that have none
        with consuming(bridge, 1, queue) as inbox:
            inbox.expect("a")
            assert (inbox.consumer.connections() > 0) is (before > 0)
            assert bridge.connections() == before + inbox.consumer.connections()
        assert bridge.connections() == before

    def test_unsettled_are_bounded_and_settling_frees_the_next(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes(*"abcde"))
        with consuming(bridge, 2, queue) as inbox:
            first, second = inbox.expect("a", "b")
            inbox.consumer.settle(second)
            inbox.expect("a", "b", "c")
            inbox.consumer.settle(first)
            inbox.consumer.settle(first)  # once is enough
            inbox.expect("a", "b", "c", "d")
        assert bodies(drain(bridge, queue)) == ["c", "d", "e"]

    def test_each_queue_has_its_own_bound(self, bridge: Bridge, queue: str) -> None:
        other = f"{queue}.other"
        bridge.create(other)
        bridge.publish(queue, envelopes("a", "b"))
        bridge.publish(other, envelopes(*"vwxyz"))
        with consuming(bridge, 1, queue) as inbox:
            inbox.consumer.add(other, 3)
            inbox.expect("v", "w", "x", queue=other)
            (delivery,) = inbox.expect("a", queue=queue)
            inbox.consumer.settle(delivery)
            inbox.expect("a", "b", queue=queue)
        bridge.delete(other)

    def test_one_at_a_time_keeps_the_order(self, bridge: Bridge, queue: str) -> None:
        posted = [f"{number:03}" for number in range(STREAM)]
        bridge.publish(queue, envelopes(*posted))
        with consuming(bridge, 1, queue) as inbox:
            for number in range(STREAM):
                inbox.consumer.settle(inbox.wait(number + 1)[number])
            inbox.expect(*posted)

    def test_requeued_message_comes_again(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        with consuming(bridge, 1, queue) as inbox:
            (first,) = inbox.expect("a")
            inbox.consumer.requeue(first)
            _, again = inbox.expect("a", "a")
            assert again.envelope.redelivered
            inbox.consumer.settle(first)  # it is not this one's any more
            inbox.expect("a", "a")
            inbox.consumer.settle(again)
            inbox.expect("a", "a", "b")

    def test_removed_queue_gets_back_what_is_unsettled(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a", "b", "c"))
        with consuming(bridge, 2, queue) as inbox:
            first, _ = inbox.expect("a", "b")
            inbox.consumer.remove(queue)
            inbox.consumer.remove(queue)
            inbox.consumer.remove(MISSING)
            got = eventually(lambda: drain(bridge, queue), "the messages to be back")
            assert sorted(bodies([*got, *drain(bridge, queue)])) == ["a", "b", "c"]
            inbox.consumer.settle(first)
            bridge.publish(queue, envelopes("d"))
            inbox.expect("a", "b")
            inbox.consumer.add(queue, 2)
            inbox.expect("a", "b", "d")

    def test_bound_can_be_changed(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes(*"abcde"))
        with consuming(bridge, 1, queue) as inbox:
            inbox.expect("a")
            inbox.consumer.add(queue, 1)
            inbox.expect("a")
            inbox.consumer.add(queue, 3)
            inbox.expect("a", "a", "b", "c")

    def test_two_consumers_share_a_queue(self, bridge: Bridge, queue: str) -> None:
        with consuming(bridge, 2, queue) as ours, consuming(bridge, 2, queue) as theirs:
            posted = [f"{number:02}" for number in range(10)]
            settled: set[int] = set()

            def all_arrived() -> bool:
                for inbox in (ours, theirs):
                    for delivery in inbox.arrived():
                        if id(delivery) not in settled:
                            settled.add(id(delivery))
                            inbox.consumer.settle(delivery)
                return len(ours.arrived()) + len(theirs.arrived()) >= len(posted)

            bridge.publish(queue, envelopes(*posted))
            eventually(all_arrived, "all messages")
            assert sorted(ours.bodies() + theirs.bodies()) == posted

    def test_closed_consumer_gives_all_back(self, bridge: Bridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a", "b", "c"))
        with consuming(bridge, 10, queue) as inbox:
            first, _, _ = inbox.expect("a", "b", "c")
            inbox.consumer.settle(first)
            inbox.consumer.close()
            bridge.publish(queue, envelopes("d"))
            got = eventually(lambda: len(again := drain(bridge, queue)) == 3 and again, "the messages to be back")
            assert bodies(got) == ["b", "c", "d"]
            assert [envelope.redelivered for envelope in got] == [True, True, False]
            assert inbox.bodies() == ["a", "b", "c"]

    def test_queue_may_come_later_and_come_again(self, bridge: Bridge, queue: str) -> None:
        other = f"{queue}.other"
        with consuming(bridge, 2, other, queue) as inbox:
            bridge.publish(queue, envelopes("a"))
            inbox.expect("a")
            for count, body in enumerate("bc", 1):
                bridge.create(other)
                bridge.publish(other, envelopes(body))
                inbox.wait(count, other)
                bridge.delete(other)
                time.sleep(SILENCE)  # RabbitMQ mixes up a quorum queue with one that is created in the same moment
            assert inbox.bodies(other) == ["b", "c"]
            bridge.publish(queue, envelopes("d"))  # and the others go on meanwhile
            inbox.expect("a", "d", queue=queue)

    def test_many_queues(self, bridge: Bridge, queue: str) -> None:
        names = [f"{queue}.{number:02}" for number in range(QUEUES)]
        for name in names:
            bridge.create(name)
        with consuming(bridge, 3, *names) as inbox:
            for name in names:
                bridge.publish(name, envelopes(*(f"{name[-2:]}{letter}" for letter in "abcdef")))
            for number in range(6 * QUEUES):
                inbox.consumer.settle(inbox.wait(number + 1)[number])
            for name in names:
                assert inbox.bodies(name) == [f"{name[-2:]}{letter}" for letter in "abcdef"]
        for name in names:
            bridge.delete(name)

    def test_copies_can_be_consumed(self, bridge: Bridge, queue: str) -> None:
        bridge.add_copy(queue, f"{queue}.1")
        with consuming(bridge, 1, f"{queue}.1") as inbox:
            bridge.publish(queue, envelopes("a"), copied=True)
            (delivery,) = inbox.expect("a")
            inbox.consumer.settle(delivery)
        assert bodies(drain(bridge, queue)) == ["a"]
        assert drain(bridge, f"{queue}.1") == []
        bridge.remove_copy(queue, f"{queue}.1")
