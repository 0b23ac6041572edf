"""Notifications from the post to a receiver: a core with a broker in memory or without one, and real HTTP."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.messages.post import Post
from gateway.core.seal import KEY_SIZE, Seal
from gateway.core.subscriptions.addresses import Rules
from gateway.core.subscriptions.letters import Death, typed
from gateway.core.subscriptions.record import (
    ACTIVE,
    CONFIRMATION,
    DISABLED,
    PAUSED,
    UNCONFIRMED,
    Secret,
    Subscription,
)
from gateway.notify.notifier import Notifier
from gateway.notify.settings import DeliverySettings, HttpSettings
from storage.model import Message
from storage.sqlite import SQLiteStore
from tests.notify_receiver import OK, Receiver, Request, receiving, wait_for

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RULES = Rules(["127.0.0.1/32"])
SETTINGS = DeliverySettings(HttpSettings(request_timeout=2.0), retry_schedule=(0, 0))


class Bench:
    """A core with a notifier, and what tests do with them."""

    def __init__(self, bridge: Any, store: SQLiteStore, settings: DeliverySettings = SETTINGS, rules: Rules = RULES):
        self.store = store
        self.core = Core(bridge, store, Limits(), Seal(bytes(KEY_SIZE)))
        self.notifier = Notifier(self.core, settings, lambda: rules)

    def subscribe(self, url: str, source: str = "q", **options: Any) -> Subscription:
        """Subscribe, and have what is posted copied from now on."""
        info = self.core.directory.ensure("p", source)
        now = self.core.now()
        new = Subscription(
            "p", source, self.core.ids.make(now)[0], url, 3600, options, now, now + 3600_000, True, ACTIVE, since=now,
            secrets=(Secret(SECRET),),
        )
        bound = self.core.copies.bind(info, new)
        self.store.catalogue.set_notifies(f"p/{source}")
        self.core._known.forget("p", source)
        assert self.core.subscription_records.put(bound)
        self.notifier.tend()
        return self.get(bound)

    def get(self, subscription: Subscription) -> Subscription:
        found = self.core.subscription_records.get(subscription.project, subscription.source, subscription.id)
        assert found is not None
        return found

    def change(self, subscription: Subscription, **fields: Any) -> None:
        """Change a subscription, and wait as the API does until all workers heed it."""
        self.core.subscription_records.change(
            subscription.project, subscription.source, subscription.id,
            lambda found: replace(found, since=self.core.now(), **fields),
        )
        time.sleep(1.2)

    def post(self, *bodies: Any, source: str = "q", ttl: int = 600, delay: int | None = None) -> list[str]:
        posts = [Post(orjson.dumps(body), ttl, delay) for body in bodies]
        return self.core.messages.post("p", source, "c", posts, 100)

    def claim(self, queue: str) -> list[Any]:
        """The bodies of a queue's messages, which are claimed."""
        claim = self.core.directory.on("p", queue, lambda info: self.core.claims.create(info, 60, 60, 10))
        return [orjson.loads(message.body) for message in claim or ()]

    def left(self, subscription: Subscription) -> int:
        """How many messages are left for it, on the broker and in the side-store."""
        bridge = self.core.pool.bridge
        landed = len(self.store.landed.list_messages(subscription.key, 0, 1000, claimed=True, delayed=True))
        return landed + bridge.depth(subscription.copy) + (bridge.in_hand(subscription.copy) or 0)

    def dead(self, subscription: Subscription) -> list[Death]:
        return [Death.of(message) for message in self.store.landed.list_messages(subscription.dead_key, 0, 100)]

    def close(self) -> None:
        self.notifier.close()
        self.core.close()


@pytest.fixture(params=["broker", "no broker"])
def bench(request: pytest.FixtureRequest, store: SQLiteStore) -> Iterator[Bench]:
    loopback = LoopbackBridge("loopback://", SimpleNamespace(timeout=5.0))
    bench = Bench(MemoryBridge() if request.param == "broker" else loopback, store)
    yield bench
    bench.close()


def statuses(*codes: int, then: int = 200, headers: dict[str, str] | None = None) -> Callable[[Request], Any]:
    """Answers with these, one after the other."""
    left = list(codes)
    return lambda request: (left.pop(0), headers or {}) if left else (then, {})


def test_what_is_posted_is_delivered(bench: Bench, receiver: Receiver) -> None:
    subscription = bench.subscribe(receiver.url)
    ids = bench.post({"n": 1}, 2)
    wait_for(lambda: len(receiver.requests) == 2)
    first = receiver.requests[0]
    assert first.json == {"body": {"n": 1}, "ttl": 600, "queue_name": "q", "Message_Type": "Notification"}
    assert {request.headers["webhook-id"] for request in receiver.requests} == set(ids)
    assert first.headers["marconi-subscription"] == subscription.id
    assert first.headers["marconi-attempt"] == "1"
    assert first.headers["webhook-signature"].startswith("v1,")
    wait_for(lambda: bench.left(subscription) == 0)


def test_nothing_runs_before_there_is_a_subscription(bench: Bench) -> None:
    bench.post(1)
    bench.notifier.tend()
    assert bench.notifier._thread is None


def test_delayed_messages_come_when_their_delay_is_over(bench: Bench, receiver: Receiver) -> None:
    bench.subscribe(receiver.url)
    posted = time.monotonic()
    bench.post("late", delay=1)
    wait_for(lambda: receiver.bodies == ["late"])
    assert receiver.requests[0].at - posted >= 0.9


def test_failures_are_tried_again_with_the_same_id(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = statuses(500, 503)
    subscription = bench.subscribe(receiver.url)
    (id_,) = bench.post("x")
    wait_for(lambda: len(receiver.requests) == 3)
    assert [request.headers["webhook-id"] for request in receiver.requests] == [id_] * 3
    assert [request.headers["marconi-attempt"] for request in receiver.requests] == ["1", "2", "3"]
    wait_for(lambda: bench.left(subscription) == 0)
    assert bench.dead(subscription) == []


def test_a_retry_waits_as_its_policy_says(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = statuses(500)
    policy = {
        "retries_with_no_delay": 0, "minimum_delay_retries": 1, "minimum_delay": 1, "maximum_delay": 11,
    }
    bench.subscribe(receiver.url, _retry_policy=policy)
    bench.post("x")
    wait_for(lambda: len(receiver.requests) == 2)
    assert 1.0 <= receiver.requests[1].at - receiver.requests[0].at < 3.0


def test_exhausted_messages_are_dead_letters(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = statuses(then=500)
    subscription = bench.subscribe(receiver.url)
    bench.post("x")
    wait_for(lambda: bench.dead(subscription))
    (death,) = bench.dead(subscription)
    assert (death.reason, death.status, death.attempts, death.ttl) == ("exhausted", 500, 3, 600)
    assert 0 < death.first_attempt <= death.last_attempt
    wait_for(lambda: bench.left(subscription) == 0)
    assert len(receiver.requests) == 3


def test_dead_letters_go_to_a_queue_that_is_named(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = statuses(then=413)
    subscription = bench.subscribe(receiver.url, _dead_letter_queue="letters")
    (id_,) = bench.post({"a": 1})

    found: list[Any] = []
    wait_for(lambda: found.extend(bench.claim("letters")) or found)
    assert found[0]["Message_Type"] == "DeadLetter"
    assert found[0]["message"] == {"id": id_, "ttl": 600, "body": {"a": 1}}
    assert (found[0]["reason"], found[0]["status"], found[0]["attempts"]) == ("unacceptable", 413, 1)
    assert bench.dead(subscription) == []


def test_a_message_that_would_be_tried_again_after_its_end_is_dead(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = statuses(then=500)
    subscription = bench.subscribe(receiver.url, _retry_policy={
        "retries_with_no_delay": 0, "minimum_delay": 600, "maximum_delay": 900,
    })
    bench.post("x", ttl=300)
    wait_for(lambda: bench.dead(subscription))
    assert bench.dead(subscription)[0].reason == "expired"


def test_gone_ends_the_deliveries_and_keeps_what_waits(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = statuses(then=410)
    subscription = bench.subscribe(receiver.url)
    bench.post("a")
    wait_for(lambda: bench.get(subscription).state == DISABLED)
    assert bench.get(subscription).reason == "gone"
    time.sleep(1.2)
    before = len(receiver.requests)
    bench.post("b")
    time.sleep(0.4)
    assert len(receiver.requests) == before == 1
    receiver.answer = statuses()
    bench.change(subscription, state=ACTIVE, reason="")
    wait_for(lambda: sorted(receiver.bodies[1:]) == ["a", "b"])
    wait_for(lambda: bench.left(subscription) == 0)


def test_paused_keeps_and_active_delivers(bench: Bench, receiver: Receiver) -> None:
    subscription = bench.subscribe(receiver.url)
    bench.change(subscription, state=PAUSED)
    bench.post("a", "b")
    time.sleep(0.4)
    assert receiver.requests == []
    bench.change(subscription, state=ACTIVE)
    wait_for(lambda: sorted(receiver.bodies) == ["a", "b"])


def test_no_attempt_begins_after_the_answer_to_a_change(bench: Bench, receiver: Receiver) -> None:
    subscription = bench.subscribe(receiver.url)
    bench.post(*range(20))
    wait_for(lambda: receiver.requests)
    receiver.answer = lambda request: time.sleep(0.15) or OK
    bench.post(*range(300))
    bench.change(subscription, state=PAUSED)
    paused_at = time.monotonic()
    time.sleep(0.4)
    assert [request for request in receiver.requests if request.at > paused_at] == []
    assert bench.left(subscription) > 0


def test_requests_to_confirm_are_tried_again(bench: Bench, receiver: Receiver) -> None:
    """After a wait, too, and although nothing else may be delivered."""
    receiver.answer = statuses(500)
    policy = {"retries_with_no_delay": 0, "minimum_delay_retries": 1, "minimum_delay": 1, "maximum_delay": 11}
    subscription = bench.subscribe(receiver.url, _retry_policy=policy)
    bench.change(subscription, state=UNCONFIRMED, confirmed=False)
    bench.post("waits")
    now = bench.core.now()
    bench.store.landed.append(subscription.key, [
        Message("confirm-1", now, now + 60_000, b"{}", properties=typed(CONFIRMATION), hidden_until=now + 500)
    ])
    wait_for(lambda: len(receiver.requests) == 2)
    assert [request.headers["marconi-attempt"] for request in receiver.requests] == ["1", "2"]
    assert {request.headers["webhook-id"] for request in receiver.requests} == {"confirm-1"}


def test_retry_after_rests_the_whole_subscription_and_is_no_attempt(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = statuses(429, headers={"Retry-After": "1"})
    subscription = bench.subscribe(receiver.url)
    bench.post("a", "b", "c")
    wait_for(lambda: len(receiver.requests) == 4)
    first, *others = receiver.requests
    assert min(request.at for request in others) - first.at >= 1.0
    assert {request.headers["marconi-attempt"] for request in receiver.requests} == {"1"}
    wait_for(lambda: bench.left(subscription) == 0)


def test_slow_and_dead_receivers_delay_nobody_else(bench: Bench, receiver: Receiver) -> None:
    with receiving() as slow:
        slow.answer = lambda request: time.sleep(1.5) or OK
        bench.subscribe(slow.url)
        bench.subscribe("http://127.0.0.1:1/")
        bench.subscribe(receiver.url)
        bench.post("first")
        wait_for(lambda: slow.requests and receiver.requests)
        began = time.monotonic()
        bench.post(*range(100))
        wait_for(lambda: len(receiver.requests) == 101)
        assert time.monotonic() - began < 5.0
        assert len(slow.requests) < 20


def test_order_is_kept_one_at_a_time(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = statuses(200, 500, 200, 500, 500)
    subscription = bench.subscribe(receiver.url, _max_in_flight=1)
    bench.post(*range(10))
    wait_for(lambda: bench.left(subscription) == 0)
    seen = list(dict.fromkeys(receiver.bodies))
    assert seen == list(range(10)) and receiver.bodies == sorted(receiver.bodies)
    assert receiver.most_at_once == 1


def test_filters_choose_and_count(bench: Bench, receiver: Receiver) -> None:
    subscription = bench.subscribe(receiver.url, _filter={"kind": ["a"]}, _rate_limit=5)
    began = time.monotonic()
    bench.post(*({"kind": "b"} for _ in range(40)), {"kind": "a"})
    wait_for(lambda: receiver.bodies == [{"kind": "a"}])
    wait_for(lambda: bench.left(subscription) == 0)
    assert time.monotonic() - began < 5.0  # what does not match is not slowed down by the rate
    wait_for(lambda: bench.core.delivery_statuses.get(subscription.name).filtered == 40)


def test_the_rate_is_limited(bench: Bench, receiver: Receiver) -> None:
    bench.subscribe(receiver.url, _rate_limit=10)
    bench.post(*range(25))
    wait_for(lambda: len(receiver.requests) == 25)
    assert receiver.requests[-1].at - receiver.requests[0].at > 1.2


def test_no_more_at_a_time_than_allowed(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = lambda request: time.sleep(0.3) or OK  # far longer than a busy machine needs for the next one
    bench.subscribe(receiver.url, _max_in_flight=3)
    bench.post(*range(12))
    wait_for(lambda: len(receiver.requests) == 12)
    assert receiver.most_at_once == 3


def test_encrypted_messages_die_rather_than_go_out_in_the_clear(bench: Bench, receiver: Receiver) -> None:
    bench.core.queues.create("p", "q", {"_enable_encrypt_messages": True})
    subscription = bench.subscribe(receiver.url)
    bench.post("secret")
    wait_for(lambda: bench.dead(subscription))
    assert [death.reason for death in bench.dead(subscription)] == ["encrypted"]
    (letter,) = bench.store.landed.list_messages(subscription.dead_key, 0, 10)
    assert letter.encrypted and b"secret" not in letter.body
    assert receiver.requests == []


def test_refused_addresses_get_nothing(store: SQLiteStore, receiver: Receiver) -> None:
    bench = Bench(MemoryBridge(), store, replace(SETTINGS, retry_schedule=()), Rules())
    try:
        subscription = bench.subscribe(receiver.url)
        bench.post("x")
        wait_for(lambda: bench.dead(subscription))
        wait_for(lambda: bench.core.delivery_statuses.get(subscription.name).last_failure is not None)
        failure = bench.core.delivery_statuses.get(subscription.name).last_failure
        assert failure is not None and (failure.reason, failure.status) == ("address", 0)
        assert receiver.requests == []
    finally:
        bench.close()


def test_the_account_is_written(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = statuses(500)
    subscription = bench.subscribe(receiver.url)
    bench.post("x")
    wait_for(lambda: bench.core.delivery_statuses.get(subscription.name).delivered == 1)
    status = bench.core.delivery_statuses.get(subscription.name)
    assert (status.failed, status.dead, status.row) == (1, 0, 0)
    assert [attempt.outcome for attempt in status.attempts] == ["delivered", "failed"]
    assert status.last_failure is not None and status.last_failure.status == 500


def test_another_process_goes_on_and_nothing_is_lost(
    tmp_path: Path, store: SQLiteStore, receiver: Receiver
) -> None:
    """The first one has claimed what it delivers when it disappears."""
    bridge = MemoryBridge()
    receiver.answer = lambda request: time.sleep(0.05) or OK
    bench = Bench(bridge, store)
    subscription = bench.subscribe(receiver.url)
    bench.post(*range(60))
    wait_for(lambda: len(receiver.requests) > 5)
    bench.notifier.close()
    taken = len(receiver.requests)
    assert taken < 60
    second = Notifier(bench.core, SETTINGS, lambda: RULES)
    second.tend()
    wait_for(lambda: len(set(receiver.bodies)) == 60)
    wait_for(lambda: bench.left(subscription) == 0)
    assert len(receiver.requests) == 60  # what was under way has ended, and nothing came twice
    second.close()
    bench.close()


def test_two_processes_share_and_deliver_once(bench: Bench, receiver: Receiver) -> None:
    other = Notifier(bench.core, SETTINGS, lambda: RULES)
    with receiving() as second:
        for n in range(4):
            bench.subscribe(f"{receiver.url}/{n}")
            bench.subscribe(f"{second.url}/{n}")
        other.tend()
        bench.post(*range(50))
        wait_for(lambda: len(receiver.requests) + len(second.requests) >= 400)
        time.sleep(0.5)
        assert len(receiver.requests) + len(second.requests) == 400
    other.close()


def test_alerts_are_posted(bench: Bench, receiver: Receiver) -> None:
    receiver.answer = statuses(then=413)
    bench.subscribe(receiver.url, _alert="marconi:alarms")
    bench.post("x")
    found: list[Any] = []

    wait_for(lambda: found.extend(bench.claim("alarms")) or found)
    assert (found[0]["event"], found[0]["queue_name"]) == ("exhausted", "q")


@pytest.mark.parametrize("bridge", [MemoryBridge(), LoopbackBridge("loopback://", SimpleNamespace(timeout=5.0))])
def test_the_oldest_die_when_too_many_wait(store: SQLiteStore, receiver: Receiver, bridge: Any) -> None:
    bench = Bench(bridge, store, replace(SETTINGS, max_pending=10))
    try:
        subscription = bench.subscribe(receiver.url)
        bench.change(subscription, state=PAUSED)
        bench.post(*range(30))
        wait_for(lambda: len(bench.dead(subscription)) == 20)
        assert {death.reason for death in bench.dead(subscription)} == {"overflow"}
        bench.change(subscription, state=ACTIVE)
        wait_for(lambda: sorted(receiver.bodies) == list(range(20, 30)))
        wait_for(lambda: bench.core.delivery_statuses.get(subscription.name).dead == 20)
    finally:
        bench.close()


def test_no_http_client_is_imported_before_it_is_needed() -> None:
    code = "import sys, gateway.app, gateway.commands.notify; sys.exit('pycurl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
