"""The bridge to Redis: what every bridge promises, and what is Redis's own."""

import itertools
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import redis as native

from bridges.base import Envelope
from bridges.errors import (
    BridgeUnavailable,
    BrokerBlocked,
    BrokerRefused,
    LimitReached,
    MessageTooLarge,
    OutcomeUnknown,
    QueueMissing,
)
from bridges.redis import RedisBridge, link, publishing
from bridges.redis.fetching import FETCH_BYTES
from bridges.redis.refusals import RIGHTS
from bridges.redis.scripts import GROUP
from bridges.suite import BridgeSuite, bodies, drain, envelopes, together
from bridges.suite.support import consuming
from functional.deployments import through
from functional.http import Api
from functional.installed import require
from functional.services.certificates import Authority
from functional.services.gateway import Gateway
from functional.services.ports import free_port
from functional.services.process import Service
from functional.services.redis import SERVICE, Redis, Sentinel, WatchedRedis
from functional.wait import wait_until

DOCUMENTATION = Path(__file__).parents[1] / "docs" / "redis.md"

#: Seconds that a call may take in tests that wait for the timeout, and what a slow machine may add to it.
SHORT_TIMEOUT = 0.5
MARGIN = 2.0

#: Seconds of the shortest lease, and until it is over for certain.
LEASE = 1
LEASE_OVER = LEASE + 0.3

#: Milliseconds, more than any lease.
A_DAY = 86_400_000

#: Seconds for Redis to notice or finish something.
SETTLED = 15.0

#: Seconds for Sentinels to make another server the master.
FAILOVER = 40.0

#: Bytes: more than a TLS record holds.
SEVERAL_RECORDS = 100_000


def options(**changed: Any) -> SimpleNamespace:
    """The `[bridge]` options with their defaults."""
    defaults = {option.dest: option.default for option in RedisBridge.OPTS}
    return SimpleNamespace(**defaults | changed)


@contextmanager
def opened(uri: str, **changed: Any) -> Iterator[RedisBridge]:
    bridge = RedisBridge(uri, options(**changed))
    yield bridge
    bridge.close()


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
    with redis.connect() as client:  # a test may have closed the bridge
        client.delete(name)


class TestRedis(BridgeSuite):
    """The promises of every bridge."""

    def test_bound_can_be_changed(self, bridge: RedisBridge, queue: str) -> None:
        """As of every bridge, and nothing goes back for it."""
        bridge.publish(queue, envelopes(*"abcde"))
        with consuming(bridge, 1, queue) as inbox:
            inbox.expect("a")
            inbox.consumer.add(queue, 3)
            first, second, _ = inbox.expect("a", "b", "c")
            inbox.consumer.add(queue, 2)
            inbox.consumer.settle(first)
            inbox.expect("a", "b", "c")
            inbox.consumer.settle(second)
            inbox.expect("a", "b", "c", "d")

    @pytest.fixture
    def bridge(self, redis: Redis) -> Iterator[RedisBridge]:
        with opened(redis.uri) as bridge:
            yield bridge


    @pytest.fixture
    def other(self, redis: Redis) -> Iterator[RedisBridge]:
        with opened(redis.uri) as bridge:
            yield bridge

    def lose(self, bridge: RedisBridge, batch: Any) -> None:
        """Its lease is over at once."""
        with bridge._pool.lent(time.monotonic() + SETTLED) as link:
            link.ask("XCLAIM", batch.key, GROUP, batch.name, 0, *batch.ids, "IDLE", A_DAY, "JUSTID")


class TestUnixSocket(TestRedis):
    """The same by a Unix socket, in another database."""

    @pytest.fixture
    def other(self, redis: Redis) -> Iterator[RedisBridge]:
        with opened(f"{redis.socket_uri}?db=3") as bridge:
            yield bridge

    @pytest.fixture
    def bridge(self, redis: Redis) -> Iterator[RedisBridge]:
        with opened(f"{redis.socket_uri}?db=3") as bridge:
            yield bridge

    @pytest.fixture
    def queue(self, bridge: RedisBridge, redis: Redis) -> Iterator[str]:
        name = f"marconi.test.{uuid4().hex}"
        bridge.create(name)
        yield name
        with redis.connect(db=3) as client:
            client.delete(name)


class TestBatches:
    """Who holds what, and until when."""

    def test_what_a_dead_client_held_comes_back_in_its_place_after_the_lease(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes(*"abcd"))
        with opened(redis.uri, lease=LEASE) as dying:
            assert bodies(dying.fetch(queue, 2).envelopes) == ["a", "b"]
        assert bridge.depth(queue) == 2
        bridge.settle(batch := bridge.fetch(queue, 1))
        assert bodies(batch.envelopes) == ["c"]
        time.sleep(LEASE_OVER)
        again = drain(bridge, queue)
        assert [(envelope.body, envelope.redelivered) for envelope in again] == [
            (b"a", True), (b"b", True), (b"d", False),
        ]
        assert consumers(redis, queue) <= {"back"}, "nothing is left of batches that have ended"

    def test_queue_in_order_waits_for_the_lease_of_a_dead_client(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        with redis.connect() as client:
            for body in "abcd":
                client.xadd(queue, {"body": body})
        with opened(redis.uri, lease=LEASE) as dying:
            assert bodies(dying.fetch(queue, 3, in_order=True).envelopes) == ["a", "b", "c"]
        assert bridge.fetch(queue, 10, in_order=True).envelopes == []
        time.sleep(LEASE_OVER)
        held = bridge.fetch(queue, 2, in_order=True)
        assert bodies(held.envelopes) == ["a", "b"]
        with opened(redis.uri, lease=LEASE) as another:
            assert another.fetch(queue, 10, in_order=True).envelopes == []
            bridge.requeue(held)
            assert bodies(drain(another, queue, in_order=True)) == list("abcd")
        assert consumers(redis, queue) <= {"back"}, "nothing is left of batches that have ended"

    def test_slow_client_gives_nothing_back_that_another_one_holds_by_now(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        slow = bridge.fetch(queue, 2)
        time.sleep(LEASE_OVER)
        with opened(redis.uri, lease=LEASE) as quick:
            held = quick.fetch(queue, 1)
            assert bodies(held.envelopes) == ["a"]
            bridge.requeue(slow)
            assert bodies(drain(bridge, queue)) == ["b"]
            quick.requeue(held)
        assert bodies(drain(bridge, queue)) == ["a"]

    def test_slow_client_that_settles_removes_its_messages_and_no_others(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        """It has stored them, so they need not come again; whoever holds them by now can still end its batch."""
        bridge.publish(queue, envelopes("a", "b", "c"))
        slow = bridge.fetch(queue, 2)
        time.sleep(LEASE_OVER)
        with opened(redis.uri, lease=LEASE) as quick:
            held = quick.fetch(queue, 3)
            assert bodies(held.envelopes) == ["a", "b", "c"]
            bridge.settle(slow)
            quick.requeue(held)
        assert bodies(drain(bridge, queue)) == ["c"]
        assert bridge.depth(queue) == 0

    def test_fetch_whose_answer_was_lost_is_given_back_long_before_the_lease(self, own: Redis) -> None:
        with opened(own.uri, timeout=SHORT_TIMEOUT, lease=3600) as bridge:
            bridge.create("queue")
            assert drain(bridge, "queue") == []  # Redis knows the script from now on
            bridge.publish("queue", envelopes("a", "b"))
            own.pause()
            with pytest.raises(BridgeUnavailable):
                bridge.fetch("queue", 2)
            own.resume()
            with own.connect() as client:  # Redis has read the request, and nobody the answer
                wait_until(lambda: client.xpending("queue", GROUP)["pending"] == 2, SETTLED, "the lost fetch")
            got = wait_until(lambda: drain(bridge, "queue"), SETTLED, "the messages to be back")
            assert bodies(got) == ["a", "b"]

    def test_end_that_could_not_be_told_is_told_later(self, own: Redis) -> None:
        with opened(own.uri, timeout=SHORT_TIMEOUT, lease=3600) as bridge:
            bridge.create("queue")
            bridge.publish("queue", envelopes("a", "b", "c"))
            settled, requeued = bridge.fetch("queue", 1), bridge.fetch("queue", 1)
            own.stop()
            with pytest.raises(BridgeUnavailable):
                bridge.settle(settled)
            bridge.requeue(requeued)
            own.start()
            got = wait_until(lambda: drained(bridge, "queue"), SETTLED, "Redis")
            wait_until(lambda: got.extend(drain(bridge, "queue")) or len(got) == 2, SETTLED, "what was given back")
            assert sorted(bodies(got)) == ["b", "c"]
            with own.connect() as client:
                assert client.xlen("queue") == 0

    def test_deleted_messages_that_were_held_do_not_come_back(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        bridge.publish(queue, envelopes("a", "b"))
        bridge.fetch(queue, 1)
        back = bridge.fetch(queue, 1)
        bridge.requeue(back)
        bridge.purge(queue)
        time.sleep(LEASE_OVER)
        bridge.publish(queue, envelopes("c"))
        assert bridge.depth(queue) in (0, 1)
        assert bodies(drain(bridge, queue)) == ["c"]

    def test_batch_of_a_queue_that_was_deleted_meanwhile_ends_quietly(self, bridge: RedisBridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a", "b", "c"))
        batches = [bridge.fetch(queue, 1) for _ in range(3)]
        bridge.delete(queue)
        bridge.settle(batches[0])
        bridge.requeue(batches[1])
        bridge.create(queue)
        bridge.settle(batches[2])
        bridge.publish(queue, envelopes("d"))
        assert bodies(drain(bridge, queue)) == ["d"]

    def test_fetch_of_large_messages_ends_before_they_fill_the_memory(self, bridge: RedisBridge, queue: str) -> None:
        megabytes = 12
        for _ in range(4):
            bridge.publish(queue, [Envelope(bytes(megabytes << 20))])
        batch = bridge.fetch(queue, 4)
        assert len(batch.envelopes) == FETCH_BYTES // (megabytes << 20) + 1
        bridge.settle(batch)


def drained(bridge: RedisBridge, queue: str) -> list[Envelope]:
    """As drain; nothing while Redis is not there."""
    try:
        return drain(bridge, queue)
    except BridgeUnavailable:
        return []


def consumers(redis: Redis, queue: str) -> set[str]:
    """Names of the consumers of a queue's group."""
    with redis.connect() as client:
        return {consumer["name"].decode() for consumer in client.xinfo_consumers(queue, GROUP)}


class TestExpiry:
    def test_expired_messages_are_not_fetched(self, bridge: RedisBridge, queue: str) -> None:
        bridge.publish(queue, [Envelope(b"short", ttl=50), Envelope(b"long", ttl=60_000), Envelope(b"none")])
        held = bridge.fetch(queue, 1)
        bridge.requeue(held)
        time.sleep(0.1)
        assert [envelope.body for envelope in drain(bridge, queue)] == [b"long", b"none"]
        assert bridge.depth(queue) == 0

    def test_living_message_after_many_expired_ones_is_fetched(self, bridge: RedisBridge, queue: str) -> None:
        for _ in range(5):
            bridge.publish(queue, [Envelope(b"short", ttl=1)] * 500)
        bridge.publish(queue, envelopes("a"))
        assert bodies(bridge.fetch(queue, 1).envelopes) == ["a"]

    def test_expired_messages_that_nobody_reads_are_removed_by_posts(
        self, redis: Redis, queue: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publishing, "TRIM_EVERY", 0.0)
        with opened(redis.uri) as bridge, redis.connect() as client:
            bridge.publish(queue, [Envelope(b"short", ttl=1)] * 50)
            time.sleep(0.05)
            bridge.publish(queue, envelopes("a"))
            assert client.xlen(queue) == 1

    def test_message_of_a_native_producer_with_a_strange_ttl_is_kept(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        with redis.connect() as client:
            for ttl in ("-5", "-inf", "nan", "0x1", "", "soon", "9" * 30):
                client.xadd(queue, {"body": ttl, "ttl": ttl})
        got = drain(bridge, queue)
        assert len(got) == 7
        assert {(envelope.ttl, envelope.readable) for envelope in got} == {(None, False)}


class TestNativeClients:
    def test_native_consumer_reads_what_the_bridge_publishes(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        bridge.publish(queue, [
            Envelope(b'{"a":1}', "the-id", 60_000, 1_700_000_000, headers={"marconi-client": "client"})
        ])
        with redis.connect() as client:
            ((_, ((entry, fields),)),) = client.xreadgroup(GROUP, "native", {queue: ">"}, count=10)
            assert fields == {
                b"body": b'{"a":1}', b"message_id": b"the-id", b"ttl": b"60000", b"timestamp": b"1700000000",
                b"content_type": b"application/json", b"headers": b'{"marconi-client":"client"}',
            }
            assert bridge.fetch(queue, 1).envelopes == []
            client.xdel(queue, entry)
            client.xack(queue, GROUP, entry)
        assert bridge.depth(queue) == 0

    def test_bridge_reads_what_a_native_producer_publishes(
        self, redis: Redis, bridge: RedisBridge, queue: str
    ) -> None:
        with redis.connect() as client:
            client.xadd(queue, {"body": b"\xff\x00"})
            client.xadd(queue, {
                "body": "text", "message_id": "their id", "ttl": 60_000, "timestamp": 1_700_000_000,
                "content_type": "text/plain", "content_encoding": "gzip", "headers": '{"n": [1, null]}', "priority": 3,
                "correlation_id": "c", "reply_to": "r", "type": "t", "app_id": "a", "unknown": "is left out",
            })
            client.xadd(queue, {"no": "body"})
            client.xadd(queue, {"body": "x", "headers": "no JSON", "message_id": b"\xff", "priority": "high"})
        assert drain(bridge, queue) == [
            Envelope(b"\xff\x00", content_type=None),
            Envelope(
                b"text", "their id", 60_000, 1_700_000_000, "text/plain", "gzip", {"n": [1, None]}, 3, "c", "r", "t",
                "a",
            ),
            Envelope(b"", content_type=None, readable=False),
            Envelope(b"x", content_type=None, readable=False),
        ]

    def test_example_of_the_documentation_works(
        self, redis: Redis, bridge: RedisBridge, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (example,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENTATION.read_text(), re.DOTALL | re.MULTILINE)
        bridge.create("marconi.demo.orders")
        exec(example.replace("Redis()", f"Redis(port={redis.port})"), {})
        assert "lamp" in capsys.readouterr().out
        assert bridge.depth("marconi.demo.orders") == 0
        bridge.delete("marconi.demo.orders")

    def test_stream_that_a_native_producer_has_made_is_a_queue(self, redis: Redis, bridge: RedisBridge) -> None:
        name = f"native-{uuid4().hex}"
        with redis.connect() as client:
            client.xadd(name, {"body": "first"})
            assert bridge.depth(name) == 1
            bridge.publish(name, envelopes("second"))
            assert bodies(drain(bridge, name)) == ["first", "second"]
            client.delete(name)


class TestPublishing:
    def test_batch_for_a_missing_queue_is_refused_as_a_whole(self, redis: Redis, bridge: RedisBridge) -> None:
        name = f"missing-{uuid4().hex}"
        with pytest.raises(QueueMissing):
            bridge.publish(name, envelopes(*"abc"))
        with redis.connect() as client:
            assert not client.exists(name)

    def test_too_large_a_message_is_refused_with_the_limit_and_all_others_with_it(self, own: Redis) -> None:
        with opened(own.uri) as bridge, own.connect() as client:
            bridge.create("queue")
            client.config_set("proto-max-bulk-len", 2 << 20)
            with pytest.raises(MessageTooLarge) as refused:
                bridge.publish("queue", [Envelope(b"small"), Envelope(bytes(2 << 20 | 1))])
            assert refused.value.limit == 2 << 20
            assert not refused.value.partly
            assert client.xlen("queue") == 0
            bridge.publish("queue", [Envelope(bytes(2 << 20))])
            assert bridge.depth("queue") == 1

    def test_limit_that_redis_does_not_tell_is_found_out(self, own: Redis) -> None:
        with own.connect() as client:
            client.config_set("proto-max-bulk-len", 2 << 20)
            client.acl_setuser("mute", enabled=True, passwords=["+x"], keys=["*"], commands=["+@all", "-config"])
        with opened(own.uri.replace("//", "//mute:x@")) as bridge:
            bridge.create("queue")
            with pytest.raises((MessageTooLarge, OutcomeUnknown)):
                bridge.publish("queue", [Envelope(b"small"), Envelope(bytes(3 << 20))])
            assert bridge.depth("queue") == 0

    def test_publish_that_was_not_confirmed_is_tried_once_more_with_the_same_id(self, own: Redis) -> None:
        with opened(own.uri, timeout=2.0) as bridge:
            bridge.create("queue")
            own.pause()
            resume = threading.Timer(1.2, own.resume)  # after the first try, which has half of the time
            resume.start()
            bridge.publish("queue", envelopes("a"))
            resume.join()
            got = drain(bridge, "queue")
            assert [envelope.message_id for envelope in got] == ["id-a"] * 2

    def test_key_that_is_no_stream_is_refused_with_advice(self, redis: Redis, bridge: RedisBridge) -> None:
        name = f"theirs-{uuid4().hex}"
        with redis.connect() as client:
            client.set(name, "text")
            for call in (
                lambda: bridge.create(name), lambda: bridge.publish(name, envelopes("a")),
                lambda: bridge.publish(name, envelopes("a", "b")), lambda: bridge.fetch(name, 1),
            ):
                with pytest.raises(BrokerRefused, match="key_prefix"):
                    call()
            client.delete(name)

    def test_services_with_different_prefixes_share_a_database(self, redis: Redis, bridge: RedisBridge) -> None:
        name = f"shared-{uuid4().hex}"
        with opened(redis.uri, key_prefix="one:") as one, opened(redis.uri, key_prefix="{two}:") as two:
            for each in (one, two):
                each.create(name)
                each.ping()
            one.publish(name, envelopes("a"))
            two.publish(name, envelopes("b"))
            assert (bodies(drain(one, name)), bodies(drain(two, name))) == (["a"], ["b"])
            with pytest.raises(QueueMissing):
                bridge.publish(name, envelopes("c"))
            for each in (one, two):
                each.delete(name)


class TestRefusals:
    """What Redis takes no messages for, and what is said of it."""

    def test_at_the_memory_limit_posts_are_refused_and_messages_still_leave(self, own: Redis) -> None:
        with opened(own.uri) as bridge, own.connect() as client:
            bridge.create("queue")
            bridge.publish("queue", envelopes("a", "b", "c", "d"))
            back = bridge.fetch("queue", 1)
            client.config_set("maxmemory", 1)
            for count in (1, 2):
                with pytest.raises(BrokerBlocked, match="maxmemory"):
                    bridge.publish("queue", envelopes(*"xy"[:count]))
            with pytest.raises(BrokerBlocked, match="maxmemory"):
                bridge.ping()
            with pytest.raises(BrokerBlocked, match="maxmemory"):
                bridge.create("another")
            bridge.requeue(back)
            batch = bridge.fetch("queue", 3)
            bridge.settle_others(batch, batch.envelopes[2:])
            assert bodies(batch.envelopes) == ["a", "b", "c"]
            assert bodies(drain(bridge, "queue")) == ["c", "d"]
            bridge.purge("queue")
            bridge.delete("queue")
            client.config_set("maxmemory", 0)
            bridge.ping()

    def test_failed_disk_is_unavailable(self, tmp_path: Path) -> None:
        """The file of a snapshot can't be written, as its name is a folder's."""
        service = require(lambda: Redis(save="3600 1", dbfilename="folder"))
        (service.data / "folder").mkdir()
        with service, opened(service.uri) as bridge, service.connect() as client:
            bridge.create("queue")
            bridge.publish("queue", envelopes("a"))
            client.bgsave()
            wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", SETTLED, "the failure")
            for call in (lambda: bridge.publish("queue", envelopes("b")), bridge.ping):
                with pytest.raises(BrokerBlocked, match="MISCONF.*can't write to its disk"):
                    call()
            with pytest.raises(BridgeUnavailable):
                bridge.fetch("queue", 1)
            (service.data / "folder").rmdir()
            client.bgsave()
            wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok", SETTLED, "the snapshot")
            bridge.ping()
            assert bodies(drain(bridge, "queue")) == ["a"]

    def test_eviction_of_any_key_is_refused(self, own: Redis) -> None:
        with opened(own.uri) as bridge, own.connect() as client:
            bridge.create("queue")
            client.config_set("maxmemory-policy", "allkeys-lru")
            with pytest.raises(BrokerRefused, match="set it to noeviction"):
                bridge.ping()
            with opened(own.uri) as another, pytest.raises(BrokerRefused, match="set it to noeviction"):
                another.publish("queue", envelopes("a"))
            client.config_set("maxmemory-policy", "volatile-lru")
            bridge.ping()

    def test_persistence_that_may_lose_messages_is_logged_once(
        self, own: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        with own.connect() as client:
            for name, value, text in (
                ("appendfsync", "everysec", "appendfsync is everysec"), ("appendonly", "no", "appendonly is off"),
            ):
                caplog.clear()
                client.config_set(name, value)
                with opened(own.uri) as bridge:
                    bridge.ping()
                    bridge.ping()
                assert [text in record.getMessage() for record in caplog.records] == [True]

    @pytest.mark.parametrize(
        ("login", "advice"),
        [("", "correct user and password"), (":wrong@", "correct user and password"),
         ("nobody:x@", "correct user and password"), ("weak:x@", "ACL SETUSER")],
    )
    def test_login_that_is_not_enough_is_refused_with_advice(self, own: Redis, login: str, advice: str) -> None:
        with own.connect() as client:
            client.acl_setuser("weak", enabled=True, passwords=["+x"], keys=["elsewhere*"], commands=["+@all"])
            client.config_set("requirepass", "right")
        with opened(own.uri.replace("//", f"//{login}")) as bridge:
            for call in (bridge.ping, lambda: bridge.publish("queue", envelopes("a"))):
                with pytest.raises(BrokerRefused, match=advice) as refused:
                    call()
                assert "wrong" not in str(refused.value)

    def test_documentation_names_these_rights(self) -> None:
        assert f" {RIGHTS}\n" in DOCUMENTATION.read_text()

    @pytest.mark.parametrize("password", ["a:b@c/d?e#f%g", "p\u00e4ss w\u00f6rd", "%41"])
    def test_user_with_only_the_documented_rights_may_do_all_of_it(self, own: Redis, password: str) -> None:
        with own.connect() as client:
            client.execute_command(
                "ACL", "SETUSER", "us:er", "on", f">{password}", "~mine:*", *RIGHTS.split()
            )
        uri = own.uri.replace("//", f"//us%3Aer:{quote(password, safe='')}@")
        with opened(uri, key_prefix="mine:", lease=LEASE) as bridge:
            assert password not in bridge.describe() and "us" not in bridge.describe().replace("127.0.0.1", "")
            bridge.ping()
            bridge.create("queue")
            bridge.publish("queue", envelopes("a", "b", "c"))
            bridge.publish("queue", [Envelope(bytes(2 << 20))])
            bridge.requeue(bridge.fetch("queue", 2))
            assert bridge.depth("queue") == 4
            assert len(drain(bridge, "queue")) == 4
            bridge.purge("queue")
            bridge.delete("queue")

    def test_too_many_clients_are_a_limit(self, own: Redis) -> None:
        with own.connect() as client:
            client.config_set("maxclients", 1)
            client.ping()
            with opened(own.uri) as bridge, pytest.raises(LimitReached, match="maxclients"):
                bridge.ping()

    def test_database_that_is_not_there_is_refused(self, redis: Redis) -> None:
        with opened(redis.uri.removesuffix("0") + "99") as bridge, pytest.raises(BrokerRefused, match="database"):
            bridge.ping()


class TestOutages:
    def test_frozen_redis_is_unavailable_within_the_timeout(self, own: Redis) -> None:
        with opened(own.uri, timeout=SHORT_TIMEOUT, pool_size=2) as bridge:
            bridge.create("queue")
            bridge.publish("queue", envelopes("a", "b"))
            batch = bridge.fetch("queue", 1)
            own.pause()
            calls: list[Callable[[], object]] = [
                bridge.ping, lambda: bridge.create("another"), lambda: bridge.depth("queue"),
                lambda: bridge.publish("queue", envelopes("c")), lambda: bridge.publish("queue", envelopes("c", "d")),
                lambda: bridge.fetch("queue", 1), lambda: bridge.delete("another"), lambda: bridge.purge("another"),
                lambda: bridge.settle(batch),
            ]

            def timed(call: Callable[[], object]) -> float:
                start = time.monotonic()
                with pytest.raises(BridgeUnavailable):
                    call()
                return time.monotonic() - start

            one_by_one = [timed(call) for call in calls]
            at_once = together(*[lambda call=call: timed(call) for call in calls])
            own.resume()
            assert max(*one_by_one, *at_once) < SHORT_TIMEOUT + MARGIN
            wait_until(lambda: works(bridge), SETTLED, "the bridge to find Redis again")

    def test_connection_that_goes_on_too_slowly_ends_at_the_timeout(self, redis: Redis) -> None:
        """Each byte comes in time, and all of them would take minutes."""
        with dripping() as port, opened(f"redis://127.0.0.1:{port}", timeout=SHORT_TIMEOUT) as bridge:
            start = time.monotonic()
            with pytest.raises(BridgeUnavailable):
                bridge.depth("queue")
            assert time.monotonic() - start < SHORT_TIMEOUT + MARGIN

    @pytest.mark.parametrize("end", [Service.stop, Service.kill])
    def test_restarted_redis_has_everything_and_is_found_again(
        self, own: Redis, end: Callable[[Service], object]
    ) -> None:
        with opened(own.uri, lease=LEASE) as bridge:
            bridge.create("queue")
            bridge.publish("queue", envelopes("a", "b", "c"))
            assert bodies(bridge.fetch("queue", 1).envelopes) == ["a"]
            end(own)
            with pytest.raises(BridgeUnavailable):
                bridge.depth("queue")
            own.start()
            wait_until(lambda: works(bridge), SETTLED, "the bridge to find Redis again")
            time.sleep(LEASE_OVER)
            assert bodies(drain(bridge, "queue")) == ["a", "b", "c"]

    def test_killed_redis_loses_nothing_that_was_confirmed(self, own: Redis) -> None:
        confirmed: list[str] = []
        stop = threading.Event()
        with opened(own.uri, timeout=2.0) as bridge:
            bridge.create("queue")

            def publish(writer: int) -> None:
                for number in itertools.count():
                    if stop.is_set():
                        return
                    names = [f"{writer}-{number}-{part}" for part in range(1 + number % 3)]
                    try:
                        bridge.publish("queue", envelopes(*names))
                    except BridgeUnavailable:
                        stop.wait(0.01)
                    else:
                        confirmed.extend(names)

            writers = [threading.Thread(target=publish, args=(writer,)) for writer in range(8)]
            for writer in writers:
                writer.start()
            for _ in range(3):
                before = len(confirmed)
                wait_until(lambda before=before: len(confirmed) > before + 500, SETTLED, "some load")
                own.kill()
                own.start()
            stop.set()
            for writer in writers:
                writer.join()
            wait_until(lambda: works(bridge), SETTLED, "the bridge to find Redis again")
            got = bodies(drain(bridge, "queue", 100))
        assert set(confirmed) <= set(got)
        for writer in range(8):
            own_order = list(dict.fromkeys(name for name in got if name.startswith(f"{writer}-")))
            assert own_order == sorted(own_order, key=lambda name: [int(part) for part in name.split("-")])

    def test_forked_process_uses_connections_of_its_own(self, redis: Redis, bridge: RedisBridge, queue: str) -> None:
        bridge.publish(queue, envelopes("a"))
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                bridge.publish(queue, envelopes("b"))
                os.write(write, str(bridge.connections()).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 10) == b"1"
        os.close(read)
        os.close(write)
        bridge.publish(queue, envelopes("c"))
        assert bodies(drain(bridge, queue)) == ["a", "b", "c"]
        assert bridge.connections() == 1

    def test_idle_connection_that_was_dropped_silently_is_not_used(
        self, redis: Redis, bridge: RedisBridge, queue: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bridge.publish(queue, envelopes("a"))
        (idle,) = bridge._pool._idle
        monkeypatch.setattr(link, "IDLE", 0.0)
        monkeypatch.setattr(idle._redis, "read_response", silent)
        bridge.publish(queue, envelopes("b"))
        assert bridge._pool._idle != [idle]
        assert bodies(drain(bridge, queue)) == ["a", "b"]


def silent() -> None:
    """What a wait for an answer that does not come ends with."""
    raise native.TimeoutError("nothing")


def works(bridge: RedisBridge) -> bool:
    """Does ping return?"""
    try:
        bridge.ping()
    except BridgeUnavailable:
        return False
    return True


@contextmanager
def dripping() -> Iterator[int]:
    """The port of a server that sends an endless answer, a byte in each tenth of a second."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                client, _ = server.accept()
                with client:
                    client.sendall(b"+")
                    while True:
                        time.sleep(0.1)
                        client.sendall(b"x")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
    thread.join(SETTLED)


class TestReplicas:
    @pytest.fixture
    def replica(self, own: Redis) -> Iterator[Redis]:
        with Redis(own) as service:
            wait_until(lambda: service.is_synchronized, SETTLED, "the replica to be synchronized")
            yield service

    def test_post_waits_for_as_many_replicas_as_wanted(self, own: Redis, replica: Redis) -> None:
        with opened(own.uri, min_replicas=1, timeout=1.0) as bridge, replica.connect() as client:
            wait_until(lambda: works(bridge), SETTLED, "the replica")
            bridge.create("queue")
            for number in range(50):
                bridge.publish("queue", envelopes(str(number)))
                assert client.xlen("queue") == number + 1

    @pytest.mark.parametrize("count", [1, 3])
    def test_without_them_the_outcome_is_unknown_and_nothing_is_sent_twice(
        self, own: Redis, replica: Redis, count: int
    ) -> None:
        with opened(own.uri, min_replicas=1, timeout=1.0) as bridge:
            wait_until(lambda: works(bridge), SETTLED, "the replica")
            bridge.create("queue")
            replica.pause()
            start = time.monotonic()
            with pytest.raises(OutcomeUnknown, match="0 replicas of Redis have confirmed in time, 1 are wanted"):
                bridge.publish("queue", envelopes(*"abc"[:count]))
            assert time.monotonic() - start < 1.0 + MARGIN
            with pytest.raises(BridgeUnavailable, match="1 are wanted"):
                bridge.ping()
            replica.resume()
            with own.connect() as client:
                assert client.xlen("queue") == count
            wait_until(lambda: works(bridge), SETTLED, "the replica")

    def test_server_that_wants_replicas_itself_refuses_and_enqueues_nothing(self, own: Redis) -> None:
        with opened(own.uri) as bridge, own.connect() as client:
            bridge.create("queue")
            client.config_set("min-replicas-to-write", 1)
            for call in (
                lambda: bridge.publish("queue", envelopes("a")), lambda: bridge.publish("queue", envelopes("a", "b")),
                bridge.ping,
            ):
                with pytest.raises(BridgeUnavailable, match="min-replicas-to-write") as refused:
                    call()
                assert not isinstance(refused.value, OutcomeUnknown)
            client.config_set("min-replicas-to-write", 0)
            assert client.xlen("queue") == 0

    def test_demoted_master_is_unavailable_until_it_is_promoted_again(self, own: Redis, replica: Redis) -> None:
        with opened(own.uri) as bridge, own.connect() as client, replica.connect() as other:
            bridge.create("queue")
            wait_until(lambda: other.exists("queue"), SETTLED, "the queue on the replica")
            other.execute_command("REPLICAOF", "NO", "ONE")
            client.execute_command("REPLICAOF", "127.0.0.1", str(replica.port))
            for call in (lambda: bridge.publish("queue", envelopes("a")), lambda: bridge.fetch("queue", 1)) * 2:
                with pytest.raises(BridgeUnavailable):
                    call()
            client.execute_command("REPLICAOF", "NO", "ONE")
            wait_until(lambda: works(bridge), SETTLED, "the promotion to be noticed")
            bridge.publish("queue", envelopes("b"))
            assert bodies(drain(bridge, "queue")) == ["b"]


def test_bridged_queue_is_refused_with_the_reason(
    redis: Redis, start_gateway: Callable[..., Gateway], queue: str
) -> None:
    api = Api(start_gateway(**through(redis)).url)
    refused = api.put(f"/v2/queues/{queue}", json={"_bridge": {"source": {"queue": "theirs"}}})
    assert refused.status_code == 400
    assert "this service has a Redis bridge" in refused.json()["description"]
    assert api.get(f"/v2/queues/{queue}").json().get("_bridge") is None


class TestSentinel:
    def test_bridge_follows_a_failover(self) -> None:
        with require(WatchedRedis) as watched, opened(watched.uri, timeout=2.0, min_replicas=0) as bridge:
            (replica,) = watched.replicas
            for sentinel in watched.sentinels:
                wait_until(lambda s=sentinel: s.knows(1, 2), SETTLED, "the Sentinels to find each other")
            wait_until(lambda: replica.is_synchronized, SETTLED, "the replica to be synchronized")
            bridge.create("queue")
            with opened(watched.uri, timeout=2.0, min_replicas=1) as sure:
                sure.publish("queue", envelopes("a", "b"))
            watched.sentinels[0].kill()  # two of three still decide, and are asked in its place
            watched.first.kill()
            wait_until(lambda: works(bridge), FAILOVER, "the other one to be the master")
            bridge.publish("queue", envelopes("c"))
            assert bodies(drain(bridge, "queue")) == ["a", "b", "c"]
            watched.first.start()  # it finds that it is a replica now
            wait_until(lambda: watched.first.role == "slave", FAILOVER, "the old master to be a replica")
            assert replica.role == "master"
            bridge.publish("queue", envelopes("d"))
            assert bodies(drain(bridge, "queue")) == ["d"]

    def test_name_that_no_sentinel_knows_is_refused_with_advice(self) -> None:
        with require(Redis) as master, require(lambda: Sentinel(master, 1)) as sentinel:
            uri = f"redis+sentinel://127.0.0.1:{sentinel.port}"
            with opened(f"{uri}/other") as bridge, pytest.raises(BrokerRefused, match="'other'; correct the name"):
                bridge.ping()
            with opened(f"{uri}/{SERVICE}") as bridge:
                bridge.ping()

    def test_sentinels_that_are_all_gone_are_unavailable_in_time(self) -> None:
        ports = [free_port() for _ in range(3)]
        uri = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{SERVICE}"
        with opened(uri, timeout=SHORT_TIMEOUT) as bridge, pytest.raises(BridgeUnavailable, match="no Sentinel"):
            bridge.ping()


class TestTLS:
    def test_messages_go_over_tls_and_what_does_not_fit_is_named(self, tmp_path: Path) -> None:
        good, other = Authority(tmp_path), Authority(tmp_path, "other")
        client = good.sign("client")
        files = {"tls_ca_file": str(good.file), "tls_cert_file": str(client.certificate),
                 "tls_key_file": str(client.key)}
        with require(lambda: Redis(tls=(good.file, good.sign("server")))) as service:
            with opened(service.uri, **files) as bridge:
                bridge.ping()
                bridge.create("queue")
                bridge.publish("queue", [Envelope(bytes(SEVERAL_RECORDS)), Envelope(b"b")])
                assert [len(envelope.body) for envelope in drain(bridge, "queue")] == [SEVERAL_RECORDS, 1]
            for changed, text in (
                ({"tls_ca_file": str(other.file)}, "certificate verify failed"),
                ({"tls_cert_file": None, "tls_key_file": None}, "certificate"),
            ):
                with opened(service.uri, **files | changed) as bridge, pytest.raises(BridgeUnavailable, match=text):
                    bridge.ping()
            insecure = {"tls_ca_file": str(other.file), "tls_insecure": True}
            with opened(service.uri.replace("127.0.0.1", "localhost"), **files | insecure) as bridge:
                bridge.ping()
