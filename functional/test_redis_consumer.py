"""Consumers of Redis: what they hold, for how long, and what becomes of it when something fails."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import pytest

from bridges.base import Envelope
from bridges.consuming import Consumer, Delivery
from bridges.redis import RedisBridge
from bridges.redis.consuming_scripts import TAKE
from bridges.redis.refusals import RIGHTS
from bridges.redis.scripts import GROUP
from bridges.redis.session import AT_ONCE, Session
from bridges.suite import bodies, drain, envelopes
from bridges.suite.support import Inbox, consuming
from functional.installed import require
from functional.services.redis import Redis, WatchedRedis
from functional.test_redis_bridge import FAILOVER, LEASE, LEASE_OVER, SETTLED, consumers, opened, works
from functional.wait import wait_until

#: Queues of one consumer in tests that are about many, and seconds in which a message must arrive from one of them.
MANY = 1000
PROMPT = 0.2

#: What a busy machine may add to that, as long as most of the messages are prompt.
HICCUP = 1.0

#: Shares of a processor that a consumer of MANY queues without messages may take: it, and Redis.
IDLE_SHARE = 0.10


@pytest.fixture
def own() -> Iterator[Redis]:
    """A server of the test's own."""
    with require(Redis) as service:
        yield service


@pytest.fixture
def bridge(redis: Redis) -> Iterator[RedisBridge]:
    with opened(redis.uri, lease=LEASE) as bridge:
        yield bridge


@pytest.fixture
def queue(bridge: RedisBridge, redis: Redis) -> Iterator[str]:
    name = f"marconi.test.{uuid4().hex}"
    bridge.create(name)
    yield name
    with redis.connect() as client:
        client.delete(name)


def settle_all(inbox: Inbox) -> None:
    for delivery in inbox.arrived():
        inbox.consumer.settle(delivery)


class TestManyQueues:
    @pytest.fixture
    def names(self, own: Redis) -> list[str]:
        """Names of queues that are there."""
        names = [f"marconi.demo.queue.~{number:032x}" for number in range(MANY)]
        with own.connect() as client:
            pipeline = client.pipeline()
            for name in names:
                pipeline.xgroup_create(name, GROUP, "0", mkstream=True)
            pipeline.execute()
        return names

    def test_few_messages_cost_little_and_are_prompt(self, own: Redis, names: list[str]) -> None:
        with opened(own.uri) as bridge, own.connect() as client, consuming(bridge, 10, *names) as inbox:
            bridge.publish(names[-1], envelopes("first"))
            inbox.wait(1)
            settle_all(inbox)

            def used() -> float:
                told = client.info("cpu")
                return float(told["used_cpu_user"] + told["used_cpu_sys"])

            began, ours, theirs = time.monotonic(), time.process_time(), used()
            time.sleep(3.0)
            seconds = time.monotonic() - began
            assert (time.process_time() - ours) / seconds < IDLE_SHARE
            assert (used() - theirs) / seconds < IDLE_SHARE

            took = []
            for number in range(20):
                began = time.monotonic()
                bridge.publish(names[number * 37], envelopes(str(number)))
                inbox.wait(number + 2)
                took.append(time.monotonic() - began)
            assert sorted(took)[-5] < PROMPT
            assert max(took) < HICCUP

    def test_no_queue_gets_more_than_its_bound_and_all_get_everything(self, own: Redis, names: list[str]) -> None:
        each, most = 7, 3
        held: Counter[str] = Counter()
        exceeded: list[str] = []
        arrived: list[Delivery] = []
        news = threading.Condition()

        def take(delivery: Delivery) -> None:
            with news:
                held[delivery.queue] += 1
                if held[delivery.queue] > most:
                    exceeded.append(delivery.queue)
                arrived.append(delivery)
                news.notify_all()

        with opened(own.uri) as bridge, own.connect() as client:
            consumer = bridge.consume(take)
            for name in names:
                consumer.add(name, most)
            for part in range(each):
                pipeline = client.pipeline()
                for name in names:
                    pipeline.xadd(name, {"body": str(part)})
                pipeline.execute()
            for number in range(each * MANY):
                with news:
                    assert news.wait_for(lambda number=number: len(arrived) > number, SETTLED)
                    held[arrived[number].queue] -= 1
                consumer.settle(arrived[number])
            consumer.close()
            assert not exceeded
            got: dict[str, list[bytes]] = {}
            for delivery in arrived:
                got.setdefault(delivery.queue, []).append(delivery.envelope.body)
            assert got == {name: [b"%d" % part for part in range(each)] for name in names}
            assert sum(client.xlen(name) for name in names) == 0

    def test_queue_that_is_never_done_delays_no_other(self, own: Redis, names: list[str]) -> None:
        """Each of its messages is settled at once, so there is always room for the next."""
        busy, quiet = names[0], names[1:]
        came: list[float] = []
        consumer: Consumer

        def take(delivery: Delivery) -> None:
            if delivery.queue != busy:
                came.append(time.monotonic())
            consumer.settle(delivery)

        with opened(own.uri) as bridge:
            for _ in range(20):
                bridge.publish(busy, [Envelope(b"x")] * 1000)
            consumer = bridge.consume(take)
            for name in names:
                consumer.add(name, 5)
            time.sleep(0.5)
            took = []
            for number in range(10):
                began = time.monotonic()
                bridge.publish(quiet[number], envelopes("a"))
                wait_until(lambda number=number: len(came) > number, SETTLED, "the message")
                took.append(came[number] - began)
            assert bridge.depth(busy) > 0
            assert sorted(took)[-3] < PROMPT
            consumer.close()

    def test_missing_ones_among_them_are_found_when_they_come(self, own: Redis, names: list[str]) -> None:
        with opened(own.uri) as bridge, own.connect() as client:
            gone = names[3::AT_ONCE] + names[-1:]
            client.delete(*gone)
            client.set(gone[0], "no stream")
            with consuming(bridge, 1, *names) as inbox:
                bridge.publish(names[0], envelopes("a"))
                inbox.expect("a")
                client.delete(gone[0])
                for name in gone:
                    bridge.create(name)
                    bridge.publish(name, envelopes("b"))
                inbox.wait(1 + len(gone))
                client.delete(*gone)
                client.xgroup_destroy(names[1], GROUP)
                for name in names[1:3]:
                    bridge.publish(name, envelopes("c"))
                inbox.wait(1 + len(gone) + 2)
                assert sorted(inbox.bodies()) == ["a", *"b" * len(gone), "c", "c"]


class TestHolding:
    def test_what_is_held_for_longer_than_the_lease_stays_held(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        with consuming(bridge, 1, queue) as inbox, opened(redis.uri, lease=LEASE) as other:
            (delivery,) = inbox.expect("a")
            for _ in range(5):
                time.sleep(LEASE / 2)
                with consuming(other, 5, queue) as theirs:
                    assert "a" not in theirs.bodies()
                assert "a" not in bodies(other.fetch(queue, 5).envelopes)
            assert other.in_hand(queue) >= 1
            inbox.consumer.settle(delivery)
            wait_until(lambda: "b" in inbox.bodies(), SETTLED, "the next one")
            assert inbox.bodies()[0] == "a" and "a" not in inbox.bodies()[1:]

    def test_what_a_dead_consumer_held_comes_to_a_living_one_after_the_lease(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        pid = dying_consumer(redis.uri, queue)
        wait_until(lambda: bridge.in_hand(queue) == 2, SETTLED, "the other one to hold them")
        with consuming(bridge, 5, queue) as inbox:
            bridge.publish(queue, envelopes("c"))
            time.sleep(LEASE_OVER)
            assert inbox.bodies() in (["c"], [])
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            killed = time.monotonic()
            inbox.wait(3)
            assert time.monotonic() - killed < LEASE_OVER + HICCUP + 1.0
            assert sorted(inbox.bodies()) == ["a", "b", "c"]
            assert {
                delivery.envelope.redelivered for delivery in inbox.arrived() if delivery.envelope.body in (b"a", b"b")
            } == {True}
            settle_all(inbox)
            wait_until(lambda: bridge.depth(queue) + bridge.in_hand(queue) == 0, SETTLED, "all to be settled")
        assert consumers(redis, queue) <= {"back"}

    def test_what_others_give_back_comes_soon(self, bridge: RedisBridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        batch = bridge.fetch(queue, 2)
        with consuming(bridge, 5, queue) as inbox:
            bridge.publish(queue, envelopes("c"))
            inbox.expect("c")
            bridge.requeue(batch)
            inbox.expect("c", "a", "b")

    def test_suspended_consumer_takes_nothing_away_from_those_that_hold_it_now(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes("a"))
        pid = dying_consumer(redis.uri, queue)
        wait_until(lambda: bridge.in_hand(queue) == 1, SETTLED, "the other one to hold it")
        os.kill(pid, signal.SIGSTOP)
        with consuming(bridge, 5, queue) as inbox:
            (delivery,) = inbox.expect("a")
            os.kill(pid, signal.SIGCONT)
            time.sleep(2 * LEASE)
            inbox.expect("a")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            inbox.consumer.requeue(delivery)
            inbox.expect("a", "a")

    def test_what_another_one_holds_by_now_is_neither_renewed_nor_given_back(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        slow, quick = (Session(bridge._open_link, f"batch-{name}", LEASE, 5.0) for name in ("slow", "quick"))
        (_, first, deliveries, _), (_, second, _, _) = slow.take({queue: 2}).entries
        assert deliveries == 0
        time.sleep(LEASE_OVER)
        assert slow.take({queue: 2}).entries == [], "what is its own is not handed out a second time"
        assert quick.take({queue: 2}).entries == [], "by that it is renewed"
        time.sleep(LEASE_OVER)
        ((_, taken, deliveries, _),) = quick.take({queue: 1}).entries
        assert (taken, deliveries) == (first, 1)
        slow.renew([queue])
        slow.give_some_back({queue: [first, second]})
        slow.give_back([queue])
        with redis.connect() as client:
            held = {row["message_id"]: row["consumer"] for row in client.xpending_range(queue, GROUP, "-", "+", 10)}
        assert held == {first: b"batch-quick", second: b"back"}
        for session in (slow, quick):
            session.close()

    def test_consumers_that_have_died_are_forgotten(self, redis: Redis, bridge: RedisBridge, queue: str) -> None:
        with redis.connect() as client:
            for name in ("batch-dead", "native"):
                client.xgroup_createconsumer(queue, GROUP, name)
            time.sleep(LEASE_OVER)
            with consuming(bridge, 1, queue) as inbox:
                bridge.publish(queue, envelopes("a"))
                inbox.expect("a")
                assert {"native"} <= consumers(redis, queue) and "batch-dead" not in consumers(redis, queue)

    def test_expired_messages_are_not_handed_out(self, redis: Redis, bridge: RedisBridge, queue: str) -> None:
        bridge.publish(queue, [Envelope(b"short", ttl=1)] * 3)
        time.sleep(0.05)
        with consuming(bridge, 5, queue) as inbox, redis.connect() as client:
            bridge.publish(queue, envelopes("a"))
            inbox.expect("a")
            client.xadd(queue, {"body": "past", "ttl": 0})
            bridge.publish(queue, envelopes("b"))
            inbox.expect("a", "b")
            settle_all(inbox)
            wait_until(lambda: client.xlen(queue) == 0, SETTLED, "all to be gone")

    def test_at_the_memory_limit_messages_still_leave(self, own: Redis) -> None:
        with opened(own.uri) as bridge, own.connect() as client:
            bridge.create("queue")
            bridge.publish("queue", envelopes(*"abcd"))
            client.config_set("maxmemory", 1)
            with consuming(bridge, 1, "queue") as inbox:
                (delivery,) = inbox.expect("a")
                inbox.consumer.requeue(delivery)
                inbox.expect("a", "a")
                for number in range(1, 5):
                    inbox.consumer.settle(inbox.wait(number + 1)[number])
                wait_until(lambda: client.xlen("queue") == 0, SETTLED, "all to be gone")
                client.config_set("maxmemory", 0)
                bridge.publish("queue", envelopes("e"))
                inbox.expect("a", *"abcd", "e")

    def test_large_backlog_comes_in_parts_that_fit_into_the_memory(self, bridge: RedisBridge, queue: str) -> None:
        megabytes, count = 12, 8
        for number in range(count):
            bridge.publish(queue, [Envelope(bytes([number]) * (megabytes << 20))])
        with consuming(bridge, count, queue) as inbox:
            assert [delivery.envelope.body[0] for delivery in inbox.wait(count)] == list(range(count))
            settle_all(inbox)


def dying_consumer(uri: str, queue: str) -> int:
    """The id of a process that consumes a queue and settles nothing, until it is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            with opened(uri, lease=LEASE) as bridge:
                bridge.consume(lambda delivery: None).add(queue, 5)
                time.sleep(60.0)
        finally:
            os._exit(1)
    return pid


class TestOutages:
    @pytest.mark.parametrize("end", ["stop", "kill"])
    def test_restarted_redis_hands_out_again_what_was_not_settled(self, own: Redis, end: str) -> None:
        with opened(own.uri, timeout=2.0) as bridge:
            bridge.create("queue")
            bridge.publish("queue", envelopes("a", "b", "c"))
            with consuming(bridge, 5, "queue") as inbox:
                first, second, _ = inbox.expect("a", "b", "c")
                inbox.consumer.settle(first)
                wait_until(lambda: bridge.in_hand("queue") == 2, SETTLED, "it to be settled")
                getattr(own, end)()
                inbox.consumer.settle(second)  # told as soon as Redis is there again
                own.start()
                *_, again = inbox.wait(4)
                assert (again.envelope.body, again.envelope.redelivered) == (b"c", True)
                inbox.consumer.settle(inbox.arrived()[2])  # it came over a connection that is gone
                time.sleep(0.1)
                assert bridge.in_hand("queue") == 1
                inbox.consumer.settle(again)
                bridge.publish("queue", envelopes("d"))
                inbox.expect("a", "b", "c", "c", "d")

    def test_frozen_redis_is_left_and_found_again(self, own: Redis) -> None:
        with opened(own.uri, timeout=0.5, lease=3600) as bridge:
            bridge.create("queue")
            with consuming(bridge, 5, "queue") as inbox:
                bridge.publish("queue", envelopes("a"))
                inbox.expect("a")
                own.pause()
                time.sleep(2.0)
                own.resume()
                wait_until(lambda: works(bridge), SETTLED, "the bridge to find Redis again")
                bridge.publish("queue", envelopes("b"))
                wait_until(lambda: set(inbox.bodies()) == {"a", "b"} and len(inbox.bodies()) > 2, SETTLED, "both")
                settle_all(inbox)
                wait_until(lambda: bridge.depth("queue") + bridge.in_hand("queue") == 0, SETTLED, "the end")

    def test_redis_that_comes_late_is_found_and_closing_does_not_wait_for_it(self, own: Redis) -> None:
        with opened(own.uri) as bridge:
            bridge.create("queue")
            bridge.publish("queue", envelopes("a"))
            own.stop()
            with consuming(bridge, 1, "queue") as inbox:
                time.sleep(0.3)
                own.start()
                inbox.expect("a")
                own.pause()
                began = time.monotonic()
                inbox.consumer.close()
                assert time.monotonic() - began < 4.0
                own.resume()

    def test_load_with_kills_loses_nothing(self, own: Redis) -> None:
        """Copies that are published, consumed and settled while Redis is killed: each confirmed one arrives."""
        confirmed: list[str] = []
        stop = threading.Event()
        consumer: Consumer
        got: Counter[str] = Counter()

        def arrived(delivery: Delivery) -> None:
            got[delivery.envelope.body.decode()] += 1
            consumer.settle(delivery)

        with opened(own.uri, timeout=2.0) as bridge:
            bridge.create("queue")
            bridge.add_copy("queue", "queue.~1")
            consumer = bridge.consume(arrived)
            consumer.add("queue.~1", 10)

            def publish() -> None:
                number = 0
                while not stop.is_set():
                    number += 1
                    try:
                        bridge.publish("queue", envelopes(str(number)), copied=True)
                        confirmed.append(str(number))
                    except Exception:
                        stop.wait(0.01)

            writer = threading.Thread(target=publish)
            writer.start()
            for _ in range(2):
                before = len(confirmed)
                wait_until(lambda before=before: len(confirmed) > before + 200, SETTLED, "some load")
                own.kill()
                own.start()
            wait_until(lambda: works(bridge), SETTLED, "the bridge to find Redis again")
            stop.set()
            writer.join()
            wait_until(lambda: set(confirmed) <= set(got), SETTLED, "all that was confirmed")
            wait_until(
                lambda: bridge.depth("queue.~1") + bridge.in_hand("queue.~1") == 0, SETTLED, "all to be settled"
            )
            consumer.close()
            assert drain(bridge, "queue.~1") == []

    def test_consumer_follows_a_failover(self) -> None:
        with require(WatchedRedis) as watched, opened(watched.uri, timeout=2.0) as bridge:
            (replica,) = watched.replicas
            for sentinel in watched.sentinels:
                wait_until(lambda s=sentinel: s.knows(1, 2), SETTLED, "the Sentinels to find each other")
            wait_until(lambda: replica.is_synchronized, SETTLED, "the replica to be synchronized")
            with opened(watched.uri, timeout=2.0, min_replicas=1) as sure:
                sure.create("queue")
                sure.add_copy("queue", "queue.~1")
                sure.publish("queue", envelopes("a"), copied=True)
            with consuming(bridge, 5, "queue.~1") as inbox:
                inbox.expect("a")
                watched.first.kill()
                wait_until(lambda: works(bridge), FAILOVER, "the other one to be the master")
                bridge.publish("queue", envelopes("b"), copied=True)
                wait_until(lambda: "b" in inbox.bodies(), FAILOVER, "the consumer to find it")


def test_user_with_only_the_documented_rights_may_copy_and_consume(own: Redis) -> None:
    with own.connect() as client:
        client.execute_command("ACL", "SETUSER", "user", "on", ">x", "~mine:*", *RIGHTS.split())
    with opened(own.uri.replace("//", "//user:x@"), key_prefix="mine:", lease=LEASE) as bridge:
        bridge.create("queue")
        bridge.add_copy("queue", "queue.~1")
        with consuming(bridge, 2, "queue.~1", "missing") as inbox:
            for body in "ab":
                bridge.publish("queue", envelopes(body), copied=True)
            first, second = inbox.expect("a", "b")
            time.sleep(LEASE_OVER)  # it is renewed
            inbox.consumer.requeue(first)
            inbox.consumer.settle(second)
            inbox.expect("a", "b", "a")
            inbox.consumer.add("queue", 1)
            inbox.wait(4)
        bridge.remove_copy("queue", "queue.~1")
        bridge.delete("queue")


def test_take_goes_on_where_it_has_stopped_removing_expired_ones(redis: Redis, bridge: RedisBridge, queue: str) -> None:
    # Not by two posts: the first one removes what has expired.
    bridge.publish(queue, [Envelope(b"short", ttl=100)] * 5 + envelopes("a"))
    time.sleep(0.15)
    with redis.connect() as client:
        _, done, missing, taken = client.eval(TAKE.source, 2, queue, "missing", GROUP, "batch-x", 1000, 1, 3, 9, 9)
        assert (done, missing, taken, client.xlen(queue)) == (0, [], [], 3)
        _, done, missing, taken = client.eval(TAKE.source, 2, queue, "missing", GROUP, "batch-x", 1000, 99, 3, 9, 9)
        assert (done, missing, len(taken), client.xlen(queue)) == (2, [2], 1, 1)
