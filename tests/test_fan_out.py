"""Queues that subscribe to other queues."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import orjson
import pytest

from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from gateway.access.signing import sign
from gateway.app import make_app
from gateway.config.limits import Limits
from gateway.config.notifications import Notifications
from gateway.core.core import Core
from gateway.core.errors import Busy, Conflict, InvalidInput
from gateway.core.foreign.access import AccessRules
from gateway.core.messages.post import Post
from gateway.core.migration.move import Move
from gateway.core.queues.names import broker_name
from gateway.core.seal import KEY_SIZE, Seal
from gateway.core.subscriptions import removal
from gateway.core.subscriptions.fan_out import TARGET
from gateway.core.subscriptions.record import ACTIVE, PAUSED, UNCONFIRMED, UNSUBSCRIBED, Subscription
from gateway.core.subscriptions.waiting import Wanted
from gateway.notify.serving import SCHEMES
from storage.sqlite import SQLiteStore
from tests.test_subscriptions_pools import EXCHANGE, Broker

OPTIONS = Notifications(subscriber_types=("http", "https", "marconi"))
HOOK = "http://example.org/hook"
CLIENT = "3381af92-2b9e-11e3-b191-71861300734c"
KEY = "signing key"
HEADERS = {"Client-ID": str(uuid4()), "X-Project-ID": "project", "X-Roles": "admin"}


@pytest.fixture(autouse=True)
def hurried_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("states.HEEDED_AFTER", "removal.HEEDED_AFTER", "sources.KNOWN_FOR", "sources.MARGIN"):
        monkeypatch.setattr(f"gateway.core.subscriptions.{name}", 0.02)
    for name in ("KNOWN_FOR", "FORGOTTEN_MARGIN"):
        monkeypatch.setattr(f"gateway.core.queues.admin.{name}", 0.02)


@pytest.fixture
def make_core(store: SQLiteStore, tmp_path: Path) -> Iterator[Callable[..., Core]]:
    """Make a core with the test's side-store, and with a second pool, ``far``, of flavor ``fast``."""
    cores: list[Core] = []

    def open_drivers(uri: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
        far = MemoryBridge()
        far.describe = lambda: "amqp://far"  # type: ignore[method-assign]
        return far, SQLiteStore(f"sqlite:///{tmp_path}/far.db", SimpleNamespace(timeout=5.0))

    def make(bridge: Any = None, options: Notifications = OPTIONS) -> Core:
        signer = (lambda *args: sign(KEY, *args)) if options.require_confirmation else None
        core = Core(
            bridge or MemoryBridge(), store, Limits(), Seal(bytes(KEY_SIZE)), AccessRules(["* * * *"], False),
            open_drivers=open_drivers, notifications=options, sign=signer,
        )
        if not cores:
            core.pools.put("far", 10, "amqp://far", "", {})
            core.flavors.put("fast", ["far"], [])
        cores.append(core)
        return core

    yield make
    for core in cores:
        core.stop()


@pytest.fixture(params=[MemoryBridge, lambda: LoopbackBridge("loopback://", None)], ids=["broker", "no broker"])
def core(request: pytest.FixtureRequest, make_core: Callable[..., Core]) -> Core:
    return make_core(request.param())


def lead(core: Core, source: str = "a", target: str = "b", scheme: str = "marconi") -> Subscription:
    id_ = core.subscriptions.create("project", source, f"{scheme}:{target}", None, None).id
    return core.subscriptions.get("project", source, id_)


def post(core: Core, *bodies: Any, queue: str = "a", **options: Any) -> list[str]:
    posts = [Post(orjson.dumps(body), **options) for body in bodies]
    return core.messages.post("project", queue, CLIENT, posts, 10)


def ids(core: Core, queue: str) -> list[str]:
    found = core.directory.find("project", queue)
    return [] if found is None else [each.id for each in core.messages.list(found, None, 100, None, True, True)]


# -- what arrives ---------------------------------------------------------------------------------------------------


def test_target_gets_what_is_posted_and_keeps_it_for_itself(core: Core) -> None:
    before = post(core, 0)
    found = lead(core)
    assert (found.state, found.confirmed, found.bound, found.target) == (ACTIVE, True, True, "b")
    posted = post(core, 1, 2, ttl=500)
    delayed = post(core, 3, delay=100)
    assert sorted(ids(core, "a")) == sorted([*before, *posted, *delayed])
    assert sorted(ids(core, "b")) == sorted([*posted, *delayed])

    source, target = (core.directory.ensure("project", name) for name in "ab")
    (first,), (same,) = (core.messages.get(queue, posted[:1]) for queue in (source, target))
    assert (first.body, first.posted, first.expires) == (same.body, same.posted, same.expires)
    assert same.client == CLIENT and same.expires - same.posted == 500_000
    assert core.subscription_waiting.count(found).pending == 0, "the target has the messages, the subscription none"

    core.messages.delete(target, posted[0], None)
    assert posted[0] in ids(core, "a") and posted[0] not in ids(core, "b")
    core.messages.delete(source, posted[1], None)
    assert posted[1] in ids(core, "b") and posted[1] not in ids(core, "a")


def test_deleted_before_it_has_landed_it_is_still_in_the_other_queue(core: Core) -> None:
    """A tombstone stands for one queue's message, although another one has the same id."""
    lead(core)
    (id_,) = post(core, 1)
    core.messages.delete(core.directory.ensure("project", "b"), id_, None)
    assert ids(core, "b") == [] and ids(core, "a") == [id_]


def test_copies_go_no_further(core: Core) -> None:
    lead(core, "a", "b")
    lead(core, "b", "c")
    lead(core, "b", "a")
    posted = post(core, 1) + post(core, 2, delay=100)
    own = post(core, 3, queue="b")
    assert sorted(ids(core, "a")) == sorted(posted + own)
    assert sorted(ids(core, "b")) == sorted(posted + own)
    assert ids(core, "c") == own


def test_target_of_several_sources_gets_all(core: Core) -> None:
    for source in "xyz":
        lead(core, source, "b")
    posted = [id_ for source in "xyz" for id_ in post(core, 1, queue=source)]
    posted += post(core, 2, queue="b")
    assert sorted(ids(core, "b")) == sorted(posted)


def test_encrypted_stays_encrypted_and_can_be_read(core: Core) -> None:
    core.queues.create("project", "a", {"_enable_encrypt_messages": True})
    lead(core)
    post(core, {"secret": 1})
    target = core.directory.ensure("project", "b")
    (shown,) = core.messages.list(target, None, 10, None, True, True)
    assert orjson.loads(shown.body) == {"secret": 1}
    (kept,) = target.pool.store.landed.list_messages(target.key, 0, 10, claimed=True)
    assert kept.encrypted and b"secret" not in kept.body


def test_workers_leave_it_alone() -> None:
    assert "marconi" not in SCHEMES


# -- the end --------------------------------------------------------------------------------------------------------


def test_target_keeps_what_it_has_when_the_subscription_ends(core: Core) -> None:
    found = lead(core)
    before = post(core, 1)
    core.subscription_removal.delete("project", "a", found.id)
    post(core, 2)
    post(core, 3, delay=100)
    assert ids(core, "b") == before
    own = post(core, 4, queue="b")
    assert ids(core, "b") == before + own
    assert core.pool.store.catalogue.list_records(TARGET, "", 10) == []


def test_subscription_that_has_expired_leads_nowhere(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "LOOK", 0.0)
    found = lead(core)
    core.subscription_records.change(
        "project", "a", found.id, lambda current: Subscription.read(
            SimpleNamespace(  # type: ignore[arg-type]
                name=current.name, version=current.version,
                data=orjson.dumps({**orjson.loads(current.record(Seal())), "expires": 1}),
            ), Seal(),
        ),
    )
    core.subscription_removal.tend()
    post(core, 1)
    assert ids(core, "b") == [] and core.subscription_records.get("project", "a", found.id) is None


def test_unsubscribed_and_subscribed_again(core: Core) -> None:
    found = lead(core)
    core.subscription_states.confirm("project", "a", found.id, False)
    assert core.subscriptions.get("project", "a", found.id).state == UNSUBSCRIBED
    post(core, 1)
    assert ids(core, "b") == []
    core.queues.delete("project", "b")
    post(core, 2, queue="b")
    post(core, 3)
    assert len(ids(core, "b")) == 1, "a target that is created again is not led into against the client's will"

    assert lead(core).id == found.id
    posted = post(core, 4)
    assert posted[0] in ids(core, "b")


def test_confirmed_again_while_both_queues_are_gone(core: Core) -> None:
    found = lead(core)
    core.subscription_states.confirm("project", "a", found.id, False)
    for name in "ab":
        core.queues.delete("project", name)
    core.subscription_states.confirm("project", "a", found.id, True)
    post(core, 1)
    assert ids(core, "b") == []
    core.queues.create("project", "b", None)
    posted = post(core, 2)
    assert ids(core, "b") == posted


def test_other_spelling_of_the_scheme_is_another_subscriber_and_the_same_queue(core: Core) -> None:
    first, second = lead(core), lead(core, scheme="MARCONI")
    assert first.id != second.id
    posted = post(core, 1)
    assert ids(core, "b") == posted, "once"
    core.subscription_removal.delete("project", "a", first.id)
    posted += post(core, 2)
    assert ids(core, "b") == posted
    core.subscription_removal.delete("project", "a", second.id)
    post(core, 3)
    assert ids(core, "b") == posted


def test_nobody_is_asked_to_confirm_and_nobody_told_of_the_end(make_core: Callable[..., Core]) -> None:
    asking = Notifications(
        require_confirmation=True, public_url="https://api.example.org", subscriber_types=("marconi",)
    )
    core = make_core(options=asking)
    found = lead(core)
    assert (found.state, found.confirmed) == (ACTIVE, True)
    assert core.subscriptions.create("project", "a", "marconi:b", None, None).is_taken
    core.subscription_states.confirm("project", "a", found.id, False)
    assert core.pool.store.landed.stats(found.key).free == 0


# -- queues that go and come ----------------------------------------------------------------------------------------


def test_target_that_is_created_again_is_led_into_again(core: Core) -> None:
    lead(core)
    post(core, 1)
    core.queues.delete("project", "b")
    post(core, 2)
    post(core, 3, delay=100)
    assert core.directory.find("project", "b") is None
    own = post(core, 4, queue="b")
    posted = post(core, 5) + post(core, 6, delay=100)
    assert sorted(ids(core, "b")) == sorted(own + posted)


def test_source_that_is_created_again_leads_there_from_its_first_message(core: Core) -> None:
    lead(core)
    before = post(core, 1)
    core.queues.delete("project", "a")
    posted = post(core, 2) + post(core, 3, delay=100)
    assert sorted(ids(core, "b")) == sorted(before + posted)
    assert sorted(ids(core, "a")) == sorted(posted)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_both_are_created_again(core: Core, order: str) -> None:
    lead(core)
    for name in "ab":
        core.queues.delete("project", name)
    for name in order:
        core.queues.create("project", name, None)
    posted = post(core, 1) + post(core, 2, delay=100)
    assert sorted(ids(core, "b")) == sorted(posted)


def test_deleted_targets_leave_no_bindings(core: Core) -> None:
    lead(core)
    for _ in range(3):
        core.queues.delete("project", "b")
        core.queues.create("project", "b", None)
    assert len(core.pool.store.landed.bound(core.directory.ensure("project", "a").key)) == 1


def test_target_that_the_broker_has_lost_is_led_into_again(make_core: Callable[..., Core]) -> None:
    bridge = MemoryBridge()
    core = make_core(bridge)
    lead(core)
    bridge.delete(broker_name("project", "b"))
    bridge.remove_copy(broker_name("project", "a"), broker_name("project", "b"))
    own = post(core, 1, queue="b")
    posted = post(core, 2)
    assert ids(core, "b") == own + posted


def test_source_that_the_broker_has_lost_leads_there_again(make_core: Callable[..., Core]) -> None:
    bridge = MemoryBridge()
    core = make_core(bridge)
    lead(core)
    bridge.delete(broker_name("project", "a"))
    posted = post(core, 1)
    assert ids(core, "b") == ids(core, "a") == posted


def test_two_queues_that_subscribe_each_other_at_once(make_core: Callable[..., Core]) -> None:
    bridge = MemoryBridge()
    cores = [make_core(bridge) for _ in range(2)]
    failed: list[BaseException] = []

    def subscribe(core: Core, source: str, target: str) -> None:
        try:
            lead(core, source, target)
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=subscribe, args=(core, *pair)) for core, pair in zip(cores, ("ab", "ba"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    posted = post(cores[0], 1) + post(cores[0], 2, queue="b")
    assert sorted(ids(cores[0], "a")) == sorted(ids(cores[0], "b")) == sorted(posted)


def test_crash_before_it_is_active_heals(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(core.copies.fan_outs, "begin", lambda *args: (_ for _ in ()).throw(Busy("down")))
        with pytest.raises(Busy):
            lead(core)
    (found,) = core.subscription_records.all()
    assert found.state == UNCONFIRMED
    assert lead(core).id == found.id
    posted = post(core, 1)
    assert ids(core, "b") == posted


# -- what can't be --------------------------------------------------------------------------------------------------


def refused(core: Core, sentence: str, source: str = "a", target: str = "b", options: Any = None) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        core.subscriptions.create("project", source, f"marconi:{target}", None, options)
    assert list(core.subscription_records.all()) == []


def test_queue_is_not_its_own_subscriber(core: Core) -> None:
    refused(core, "its own subscriber", "a", "a")
    assert core.directory.find("project", "a") is None


def test_filters_are_refused(core: Core) -> None:
    refused(core, "_filter", options={"_filter": {"a": [1]}})


@pytest.mark.parametrize(("bridged", "sentence"), [("a", "Queue a is bridged"), ("b", "Queue b is bridged")])
def test_bridged_queues_are_neither_source_nor_target(
    make_core: Callable[..., Core], bridged: str, sentence: str
) -> None:
    core = make_core(Broker())
    core.queues.create("project", bridged, EXCHANGE)
    refused(core, sentence)


def test_target_can_not_become_bridged(make_core: Callable[..., Core]) -> None:
    core = make_core(Broker())
    found = lead(core)
    target = {"_bridge": {"target": {"exchange": "events"}}}
    change: Sequence[Any] = [{"op": "add", "path": "/metadata/_bridge", "value": target["_bridge"]}]
    for attempt in (
        lambda: core.queues.patch("project", "b", change),
        lambda: core.queues.create("project", "b", target),
    ):
        with pytest.raises(Conflict, match="gets what is posted to queue a"):
            attempt()
    core.queues.delete("project", "b")
    with pytest.raises(Conflict, match="gets what is posted to queue a"):
        core.queues.create("project", "b", EXCHANGE)
    core.subscription_removal.delete("project", "a", found.id)
    assert core.queues.create("project", "b", EXCHANGE)


def test_queues_of_two_pools_are_refused(make_core: Callable[..., Core]) -> None:
    core = make_core()
    core.queues.create("project", "a", {})
    core.queues.create("project", "b", {"_flavor": "fast"})
    refused(core, "another pool")


@pytest.mark.parametrize("there", ["a", "b"])
def test_missing_queue_is_created_in_the_pool_of_the_other(make_core: Callable[..., Core], there: str) -> None:
    core = make_core()
    core.queues.create("project", there, {"_flavor": "fast"})
    lead(core)
    posted = post(core, 1)
    assert ids(core, "a") == ids(core, "b") == posted
    assert {core.directory.ensure("project", name).pool.name for name in "ab"} == {"far"}

    core.queues.delete("project", "b")
    own = post(core, 2, queue="b")
    assert core.directory.ensure("project", "b").pool.name == "far"
    posted = post(core, 3)
    assert ids(core, "b") == own + posted


@pytest.mark.parametrize("name", ["a", "b"])
def test_neither_queue_can_move(make_core: Callable[..., Core], name: str) -> None:
    core = make_core()
    found = lead(core)
    with pytest.raises(Conflict, match="Queue a feeds queue b"):
        core.migrations.start("project", name, "far")
    core.subscription_removal.delete("project", "a", found.id)
    core.migrations.start("project", name, "far")


def test_target_that_moves_is_refused_for_now(make_core: Callable[..., Core], monkeypatch: Any) -> None:
    core = make_core()
    monkeypatch.setattr(core.migrations._workers, "wake", lambda: None)
    core.queues.create("project", "b", None)
    move = Move.begin("default", "far", core.now()).record()
    assert core.pool.store.catalogue.change_move("project/b", None, move)
    with pytest.raises(Busy, match="another pool"):
        lead(core)
    assert list(core.subscription_records.all()) == []


def test_it_is_not_paused_repeated_or_given_to_another_subscriber(core: Core) -> None:
    found = lead(core)
    with pytest.raises(Conflict, match="can't be paused"):
        core.subscription_states.set("project", "a", found.id, PAUSED)
    with pytest.raises(InvalidInput, match="got the messages itself"):
        core.subscription_waiting.replay("project", "a", found.id, Wanted(), "delivered")
    for subscriber in (HOOK, "marconi:c"):
        with pytest.raises(InvalidInput, match="another subscriber"):
            core.subscriptions.update("project", "a", found.id, {"subscriber": subscriber})
    hook = core.subscriptions.create("project", "a", HOOK, None, None).id
    with pytest.raises(InvalidInput, match="another subscriber"):
        core.subscriptions.update("project", "a", hook, {"subscriber": "marconi:c"})
    core.subscriptions.update("project", "a", found.id, {"ttl": 100, "subscriber": "marconi:b"})
    assert core.subscriptions.get("project", "a", found.id).ttl == 100
    assert core.subscription_waiting.dead("project", "a", found.id, None, 10) == []
    assert core.subscription_progress.of("project", "a", found.id).state == ACTIVE


# -- over HTTP ------------------------------------------------------------------------------------------------------


def test_queue_subscribes_by_default_and_is_confirmed(configured: Callable[..., Any], store: SQLiteStore) -> None:
    conf = configured()
    with closing(Core(MemoryBridge(), store, Limits(), notifications=Notifications.from_options(conf))) as core:
        client = make_app(conf, core).test_client()
        path = "/v2/queues/a/subscriptions"
        created = client.post(path, json={"subscriber": "marconi:b"}, headers=HEADERS)
        assert (created.status_code, created.headers["Location"]) == (201, path)
        shown = client.get(f"{path}/{orjson.loads(created.data)['subscription_id']}", headers=HEADERS).json
        assert shown is not None and (shown["subscriber"], shown["confirmed"]) == ("marconi:b", True)
        assert client.post(path, json={"subscriber": "marconi:b"}, headers=HEADERS).status_code == 409
        assert client.head("/v2/queues/b", headers=HEADERS).status_code == 204
        for name in ("a", "", "b/c", "b?x"):
            assert client.post(path, json={"subscriber": f"marconi:{name}"}, headers=HEADERS).status_code == 400


def test_caller_must_be_allowed_to_post_to_the_target(
    configured: Callable[..., Any], store: SQLiteStore, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('"messages:create": "role:poster"\n')
    conf = configured(oslo_policy={"policy_file": file}, signed_url={"secret_key": KEY})
    with closing(Core(MemoryBridge(), store, Limits(), notifications=OPTIONS)) as core:
        client = make_app(conf, core).test_client()
        path = "/v2/queues/a/subscriptions"

        def status(subscriber: str, **headers: str) -> int:
            answer = client.post(path, json={"subscriber": subscriber}, headers={**HEADERS, **headers})
            return answer.status_code

        assert status("marconi:b", **{"X-Roles": "member"}) == 403
        assert status("MARCONI:b", **{"X-Roles": "member"}) == 403
        assert not core.queues.exists("project", "b")
        expires = "2199-01-01T00:00:00"
        signed = {
            "URL-Signature": sign(KEY, [path], ["POST"], "project", expires), "URL-Paths": path, "URL-Methods": "POST",
            "URL-Expires": expires,
        }
        assert status("marconi:b", **signed) == 403, "a signature for one queue opens no other one"
        assert status(HOOK, **signed) == 201
        assert status(HOOK, **{"X-Roles": "member"}) == 201
        assert status("marconi:b", **{"X-Roles": "member,poster"}) == 201
