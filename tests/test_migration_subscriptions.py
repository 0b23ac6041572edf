"""Queues move to other pools with their subscriptions: what waits for these goes along, while posts go on."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import orjson
import pytest

from functional.wait import wait_until
from gateway.core.core import Core
from gateway.core.errors import Busy, Conflict
from gateway.core.messages.post import Post
from gateway.core.migration import mover
from gateway.core.migration.move import DRAINING, SWITCHING
from gateway.core.subscriptions.addresses import Rules
from gateway.core.subscriptions.letters import Death
from gateway.core.subscriptions.record import ACTIVE, LANDING, PAUSED, Secret, Subscription
from gateway.core.subscriptions.waiting import Wanted
from gateway.notify.notifier import Notifier
from gateway.notify.settings import DeliverySettings, HttpSettings
from storage.model import Message
from tests.notify_receiver import OK, Answer, Receiver, Request
from tests.test_migration import MOVED, Broker, brokers, gateway, move, phase  # noqa: F401

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RULES = Rules(["127.0.0.1/32"])
SETTINGS = DeliverySettings(HttpSettings(request_timeout=2.0), retry_schedule=(600,))

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture
def core(gateway: Callable[[], Core]) -> Core:  # noqa: F811
    """One more pool, ``c``: broker b with a side-store of its own; and ``own``: the default side-store, no broker."""
    core = gateway()
    core.pools.put("own", 0, "sqlite://main", "", {})
    return core


@pytest.fixture
def served(core: Core) -> Iterator[Core]:
    """The core with a process that delivers."""
    notifier = Notifier(core, SETTINGS, lambda: RULES)
    core.also_tend = notifier.tend
    notifier.tend()
    yield core
    notifier.close()


def subscribe(core: Core, url: str, **options: Any) -> Subscription:
    """Subscribe to queue q, and have what is posted copied from now on."""
    info = core.directory.ensure("p", "q")
    now = core.now()
    new = Subscription(
        "p", "q", core.ids.make(now)[0], url, 3600, options, now, now + 3600_000, True, ACTIVE, since=now,
        secrets=(Secret(SECRET),),
    )
    bound = core.copies.bind(info, new)
    core.pool.store.catalogue.set_notifies("p/q")
    core._known.forget("p", "q")
    assert core.subscription_records.put(bound)
    if core.also_tend is not None:
        core.also_tend()
    return bound


def now_of(core: Core, subscription: Subscription) -> Subscription:
    found = core.subscription_records.get("p", "q", subscription.id)
    assert found is not None
    return found


def post(core: Core, *bodies: Any, delay: int | None = None) -> list[str]:
    posts = [Post(orjson.dumps(body), 3600, delay) for body in bodies]
    return core.messages.post("p", "q", "client", posts, 100)


def kept(core: Core, pool: str, key: str) -> list[Message]:
    found: list[Message] = core.all_pools.get(pool).store.landed.export(key, 0, 1000)
    return found


def use_own_store(core: Core) -> None:
    """Broker b becomes the pool ``c``, whose side-store is its own."""
    core.pools.delete("b")
    core.pools.put("c", 0, "memory://b", "", {"side_store": "c"})


class Poster:
    """Posts numbers one after the other, until it is stopped."""

    def __init__(self, core: Core):
        self.ids: list[str] = []
        self.longest = 0.0
        self.failure: BaseException | None = None
        self._core = core
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for number in count():
                if self._is_stopping:
                    return
                begun = time.monotonic()
                self.ids += post(self._core, number)
                self.longest = max(self.longest, time.monotonic() - begun)
                time.sleep(0.01)
        except BaseException as failure:
            self.failure = failure

    def stop(self) -> list[int]:
        """What has been posted."""
        self._is_stopping = True
        self._thread.join(20)
        assert self.failure is None
        return list(range(len(self.ids)))


@pytest.mark.parametrize("way", ["b", "c", "stored", "own", "stored-b", "stored-c", "own-b-default"])
def test_deliveries_go_on_in_order_while_a_queue_moves(
    served: Core, receiver: Receiver, brokers: dict[str, Broker], way: str,  # noqa: F811
) -> None:
    core = served
    if "c" in way.split("-"):
        use_own_store(core)
    strict = subscribe(core, f"{receiver.url}?strict", _max_in_flight=1)
    subscribe(core, f"{receiver.url}?other")
    poster = Poster(core)
    for target in way.split("-"):
        move(core, target)
        time.sleep(0.3)
    posted = poster.stop()
    last = way.rpartition("-")[2]

    def got(which: str) -> list[int]:
        return [request.json["body"] for request in list(receiver.requests) if request.path.endswith(which)]

    wait_until(lambda: len(set(got("strict"))) == len(set(got("other"))) == len(posted), 30, "all of them to come")
    assert got("strict") == posted, "each once, in order"
    assert sorted(got("other")) == posted
    assert {request.headers["webhook-id"] for request in receiver.requests} == set(poster.ids)
    assert (now_of(core, strict).pool, now_of(core, strict).moving) == (last, "")
    on_broker = {name for bridge in brokers.values() for name in bridge._queues if "~" in name}
    assert len(on_broker) == (0 if last in ("stored", "own") else 2), "the old delivery queues are gone"
    for pool in ("default", "stored"):
        if pool != last and not core.all_pools.get(pool).lands_with(core.all_pools.get(last)):
            assert kept(core, pool, strict.key) == []


@pytest.mark.parametrize("way", ["stored", "c", "stored-c-default"])
def test_what_waits_goes_along_as_it_is(served: Core, receiver: Receiver, way: str) -> None:
    """Retries, delayed messages and dead letters keep their ids, times and counts."""
    core = served
    if "c" in way:
        use_own_store(core)
    receiver.answer = lambda request: (413 if request.json["body"] == "dead" else 500, {})
    subscription = subscribe(core, receiver.url)
    post(core, "again")
    post(core, "dead")
    post(core, "late", delay=900)
    wait_until(lambda: len(kept(core, "default", subscription.key)) == 2, 10, "a retry and a delayed message")
    wait_until(lambda: kept(core, "default", subscription.dead_key), 10, "a dead letter")
    before = [kept(core, "default", key) for key in (subscription.key, subscription.dead_key)]
    for target in way.split("-"):
        move(core, target)
    after = [kept(core, target, key) for key in (subscription.key, subscription.dead_key)]
    assert after == before
    (retry,) = (message for message in after[0] if message.claims)
    assert retry.claims == 1 and core.now() + 500_000 < retry.hidden_until and retry.claim
    assert Death.of(after[1][0]).reason == "unacceptable"
    found = now_of(core, subscription)
    assert [m.id for m in core.subscription_waiting.dead("p", "q", found.id, None, 10)] == [after[1][0].id]
    receiver.answer = lambda request: OK
    assert core.subscription_waiting.replay("p", "q", found.id, Wanted(), "dead") == 1
    wait_until(lambda: receiver.requests[-1].headers.get("marconi-replay"), 10, "the replay")


def test_attempt_under_way_ends_before_anything_moves(served: Core, receiver: Receiver) -> None:
    core = served
    go_on = threading.Event()

    def slow(request: Request) -> Answer:
        go_on.wait(10)
        return OK

    receiver.answer = slow
    subscription = subscribe(core, receiver.url, _max_in_flight=1)
    post(core, 1, 2)
    wait_until(lambda: receiver.requests, 10, "an attempt")
    core.migrations.start("p", "q", "b")
    wait_until(lambda: now_of(core, subscription).moving, 10, "the subscription to follow")
    time.sleep(1.0)
    assert now_of(core, subscription).pool == "default"
    go_on.set()
    wait_until(lambda: core.migrations.get("p", "q").move is None, MOVED, "the end of the move")
    wait_until(lambda: len(receiver.requests) > 1, 10, "the second message")
    assert receiver.bodies == [1, 2]


@pytest.mark.parametrize("status", [500, 413])
def test_message_of_an_attempt_that_ends_too_late_goes_after_the_others(
    served: Core, receiver: Receiver, status: int
) -> None:
    """Its process was taken for dead. What it wanted to keep it can't keep, so the broker has to have it back."""
    core = served
    go_on = threading.Event()

    def late(request: Request) -> Answer:
        go_on.wait(10)
        return status, {}

    receiver.answer = late
    subscription = subscribe(core, receiver.url)
    (id_,) = post(core, 1)
    wait_until(lambda: receiver.requests, 10, "an attempt")
    keys, landed = (subscription.key, subscription.dead_key), core.pool.store.landed
    for key in keys:
        landed.remove_queue(key)  # as whoever moves what has landed
    go_on.set()
    wait_until(lambda: len(receiver.requests) > 1, 10, "the message to come back")
    for key in keys:
        landed.open_queue(key)
    wait_until(lambda: [m.id for key in keys for m in kept(core, "default", key)] == [id_], 10, "it to be kept")


def test_what_is_left_comes_before_what_the_new_broker_has(
    core: Core, brokers: dict[str, Broker]  # noqa: F811
) -> None:
    """Nobody delivers: the mover alone finds out, and a subscription that is paused keeps all it has, in order."""
    subscription = subscribe(core, "http://127.0.0.1:1/")
    core.subscription_records.change("p", "q", subscription.id, lambda found: replace(found, state=PAUSED))
    first = post(core, 1, 2)
    move(core, "b")
    last = post(core, 3)
    found = now_of(core, subscription)
    assert (found.pool, found.moving, found.state) == ("b", "", PAUSED)
    assert [m.id for m in kept(core, "b", found.key)] == first
    assert [envelope.message_id for envelope in brokers["b"]._queues[found.copy]] == last
    assert found.copy not in brokers["a"]._queues


def test_new_broker_is_not_asked_while_something_is_left(served: Core, receiver: Receiver) -> None:
    core = served
    subscription = subscribe(core, receiver.url)
    post(core, 0)
    wait_until(lambda: receiver.bodies == [0], 10, "a message")
    core.subscription_records.change("p", "q", subscription.id, lambda found: replace(found, moving=LANDING))
    time.sleep(1.5)
    post(core, 1)
    time.sleep(0.5)
    assert receiver.bodies == [0]
    core.subscription_records.change("p", "q", subscription.id, lambda found: replace(found, moving=""))
    wait_until(lambda: receiver.bodies == [0, 1], 10, "the message")


def test_mover_that_dies_is_taken_over(
    gateway: Callable[[], Core], core: Core, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    monkeypatch.setattr(mover, "TAKEN_OVER_AFTER", 2.0)
    subscription = subscribe(core, "http://127.0.0.1:1/")
    ids = post(core, *range(30))
    core.migrations.start("p", "q", "stored")
    wait_until(lambda: now_of(core, subscription).moving, MOVED, "the subscription to follow")
    core.stop()
    other = gateway()
    wait_until(lambda: other.migrations.get("p", "q").move is None, MOVED, "the end of the move")
    assert [m.id for m in kept(other, "stored", subscription.key)] == ids


def test_move_that_is_cancelled_leaves_all_as_it_was(
    served: Core, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = served
    subscription = subscribe(core, receiver.url, _max_in_flight=1)
    receiver.answer = lambda request: (500, {})
    post(core, 0)
    wait_until(lambda: receiver.requests, 10, "an attempt")
    post(core, *range(1, 400))  # more than are left for the switch, as the first one holds them up
    monkeypatch.setattr("gateway.core.migration.phases.OTHERS", 1.0)
    core.migrations.start("p", "q", "own")
    wait_until(lambda: now_of(core, subscription).moving == LANDING, MOVED, "the subscription to follow")
    assert phase(core) == DRAINING
    core.migrations.cancel("p", "q")
    found = now_of(core, subscription)
    assert (found.pool, found.moving, core.migrations.get("p", "q").pool) == ("default", "", "default")
    receiver.answer = lambda request: OK
    core.pool.store.landed.release_claim(found.key, str(kept(core, "default", found.key)[0].claim))
    post(core, 400)
    wait_until(lambda: receiver.requests[-1].json["body"] == 400, 30, "all of them to come")
    assert [int(body) for body in dict.fromkeys(receiver.bodies)] == list(range(401))


def test_subscriptions_may_change_while_their_queue_moves(
    served: Core, receiver: Receiver, brokers: dict[str, Broker]  # noqa: F811
) -> None:
    core = served
    paused, deleted = (subscribe(core, f"{receiver.url}?{name}") for name in ("paused", "deleted"))
    release = core.pool.store.catalogue.lock("/move/p/q", "test", 30)  # nobody works on the move
    assert release is not None
    core.migrations.start("p", "q", "b")
    core.subscription_states.set("p", "q", paused.id, PAUSED)
    core.subscription_removal.delete("p", "q", deleted.id)
    with pytest.raises(Busy, match="on its way to another pool"):
        core.subscription_states.confirm("p", "q", paused.id, True)
    with pytest.raises(Busy, match="on its way to another pool"):
        core.subscriptions.create("p", "q", "https://example.org/", None, None)
    with pytest.raises(Busy, match="with its subscriptions"):
        core.queues.delete("p", "q")
    post(core, 1)
    core.pool.store.catalogue.unlock("/move/p/q", "test")
    wait_until(lambda: core.migrations.get("p", "q").move is None, MOVED, "the end of the move")
    assert now_of(core, paused).pool == "b" and receiver.requests == []
    core.subscription_removal._looked_at = float("-inf")
    core.subscription_removal.tend()
    assert [found.id for found in core.subscription_records.all()] == [paused.id]
    assert [name for bridge in brokers.values() for name in bridge._queues if "~" in name] == [paused.copy]
    core.subscription_states.set("p", "q", paused.id, ACTIVE)
    wait_until(lambda: receiver.bodies == [1], 10, "what waited")
    core.queues.delete("p", "q")


def test_queue_on_a_broker_that_has_lost_it_is_made_again_with_its_copies(
    core: Core, brokers: dict[str, Broker]  # noqa: F811
) -> None:
    """While it moves, in the way of a post."""
    subscription = subscribe(core, "http://127.0.0.1:1/")
    core.migrations.start("p", "q", "b")
    wait_until(lambda: phase(core) == SWITCHING, MOVED, "the switch")
    name = core.directory.ensure("p", "q").broker
    for bridge in brokers.values():
        bridge.delete(name)
        bridge.delete(subscription.copy)
    ids = post(core, 1)
    wait_until(lambda: core.migrations.get("p", "q").move is None, MOVED, "the end of the move")
    ids += post(core, 2)
    waiting = [m.id for m in kept(core, "b", subscription.key)]
    waiting += [str(envelope.message_id) for envelope in brokers["b"]._queues[subscription.copy]]
    assert waiting == ids


def lead(core: Core) -> str:
    return core.subscriptions.create("p", "q", "marconi:fed", 3600, {}).id


class TestFanOut:
    def test_move_apart_is_refused_and_changes_nothing(self, core: Core) -> None:
        id_ = lead(core)
        for name in "q", "fed":
            with pytest.raises(Conflict, match=rf"Queue q feeds queue fed \(subscription {id_}\)"):
                core.migrations.start("p", name, "b")
            assert core.migrations.get("p", name).move is None

    def test_evacuation_leaves_both_and_takes_those_with_subscriptions(self, core: Core) -> None:
        lead(core)
        core.queues.create("p", "free", None)
        info = core.directory.ensure("p", "free")
        now = core.now()
        new = Subscription("p", "free", core.ids.make(now)[0], "http://127.0.0.1:1/", 60, {}, now, now + 60_000)
        assert core.subscription_records.put(core.copies.bind(info, new))
        core.migrations.evacuate("default", "b")
        wait_until(lambda: core.migrations.get("p", "free").pool == "b", MOVED, "the queue to leave")
        evacuation = core.migrations.evacuation("default")
        assert evacuation is not None
        assert (evacuation.queues, evacuation.moving, evacuation.bridged) == (2, 0, 2)

    def test_target_that_is_gone_is_made_where_its_source_has_gone(self, core: Core) -> None:
        lead(core)
        core.queues.delete("p", "fed")
        move(core, "b")
        assert core.directory.ensure("p", "fed").pool.name == "b"
        post(core, 1)
        found = core.directory.on("p", "fed", lambda info: core.messages.pop(info, 5))
        assert found is not None and [m.body for m in found] == [b"1"]

    def test_source_that_is_gone_is_made_where_its_target_has_gone(self, core: Core) -> None:
        lead(core)
        core.queues.delete("p", "q")
        core.migrations.start("p", "fed", "stored")
        with pytest.raises(Busy, match="queue fed, and one of the two is on its way"):
            post(core, 0)
        wait_until(lambda: core.migrations.get("p", "fed").move is None, MOVED, "the end of the move")
        post(core, 1)
        assert core.directory.ensure("p", "q").pool.name == "stored"
        found = core.directory.on("p", "fed", lambda info: core.messages.pop(info, 5))
        assert found is not None and [m.body for m in found] == [b"1"]


