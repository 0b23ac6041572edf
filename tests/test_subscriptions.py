"""Subscriptions in the core: their records, states and delivery queues. Nothing is delivered here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from bridges.errors import BridgeUnavailable
from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from gateway.access.signing import covers, sign
from gateway.config.limits import Limits
from gateway.config.notifications import Notifications
from gateway.core.core import Core
from gateway.core.errors import Conflict, InvalidInput, NotFound, QuotaExceeded
from gateway.core.messages.post import Post
from gateway.core.queues.names import broker_name
from gateway.core.seal import KEY_SIZE, Seal
from gateway.core.subscriptions import quotas, removal, sources
from gateway.core.subscriptions.letters import Death, typed
from gateway.core.subscriptions.record import (
    ACTIVE,
    CONFIRMATION,
    DISABLED,
    PAUSED,
    UNCONFIRMED,
    UNSUBSCRIBED,
    UNSUBSCRIPTION,
    Secret,
    Subscription,
)
from gateway.core.subscriptions.waiting import Wanted
from storage.model import Message, Record
from storage.sqlite import SQLiteStore
from tests.threads import replace_sleep

URI = "http://example.org/hook"
ASKING = Notifications(require_confirmation=True, public_url="https://api.example.org/m")
KEY = "signing key"
CLIENT = "3381af92-2b9e-11e3-b191-71861300734c"

#: Seconds that stand for those after which all gateways heed a change.
HEEDED = 0.05


@pytest.fixture(autouse=True)
def hurried_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are heeded in a moment: there is one gateway here, or one that has remembered nothing."""
    for name in ("states.HEEDED_AFTER", "removal.HEEDED_AFTER", "sources.KNOWN_FOR", "sources.MARGIN"):
        monkeypatch.setattr(f"gateway.core.subscriptions.{name}", HEEDED)
    for name in ("KNOWN_FOR", "FORGOTTEN_MARGIN"):
        monkeypatch.setattr(f"gateway.core.queues.admin.{name}", HEEDED)


@pytest.fixture
def make_core(store: SQLiteStore) -> Iterator[Callable[..., Core]]:
    """Make a core with the test's side-store: `make_core(Notifications(…), bridge=…)`."""
    cores: list[Core] = []

    def make(options: Notifications = Notifications(), bridge: Any = None, **others: Any) -> Core:  # noqa: B008
        signer = (lambda *args: sign(KEY, *args)) if options.require_confirmation else None
        core = Core(
            bridge or MemoryBridge(), store, Limits(), others.pop("seal", Seal(bytes(KEY_SIZE))), notifications=options,
            sign=signer, **others,
        )
        cores.append(core)
        return core

    yield make
    for core in cores:
        core.stop()


def loopback() -> LoopbackBridge:
    return LoopbackBridge("loopback://", None)


def subscribe(core: Core, uri: str = URI, queue: str = "queue", **options: Any) -> str:
    return core.subscriptions.create("project", queue, uri, options.pop("ttl", None), options or None).id


def get(core: Core, id_: str, queue: str = "queue") -> Subscription:
    return core.subscriptions.get("project", queue, id_)


def post(core: Core, *bodies: Any, queue: str = "queue", **options: Any) -> list[str]:
    posts = [Post(orjson.dumps(body), **options) for body in bodies]
    return core.messages.post("project", queue, CLIENT, posts, 10)


def waiting(core: Core, subscription: Subscription) -> list[str]:
    """Ids of what waits for a subscription: in its queue on the broker, then under its key."""
    ids: list[str] = []
    if core.pool.bridge.has_backlog:
        batch = core.pool.bridge.fetch(subscription.copy, 100)
        ids = [envelope.message_id for envelope in batch.envelopes]
        if batch.envelopes:
            core.pool.bridge.requeue(batch)
    return ids + [message.id for message in kept(core, subscription)]


def kept(core: Core, subscription: Subscription) -> list[Message]:
    return list(core.pool.store.landed.list_messages(subscription.key, 0, 100, claimed=True, delayed=True))


def requests(core: Core, subscription: Subscription) -> list[dict[str, Any]]:
    return [orjson.loads(message.body) for message in kept(core, subscription)]


# -- records --------------------------------------------------------------------------------------------------------


def test_secret_is_sealed_and_opens_with_its_key_alone() -> None:
    seal = Seal(bytes(KEY_SIZE))
    made = Subscription("a/b", "q", "id", URI, 60, {}, 1, 2, secrets=(Secret("whsec_text", 5),))
    record = Record(made.name, made.record(seal), 7)
    assert b"whsec_text" not in record.data and "whsec_text" not in repr(made)
    assert Subscription.read(record, seal) == replace(made, version=7)

    without = Subscription.read(record, Seal())
    assert without.secrets == () and without.locked
    kept_as_it_was = Record(made.name, without.record(Seal()), 8)
    assert Subscription.read(kept_as_it_was, seal).secrets == made.secrets


def test_each_change_has_a_new_version(make_core: Callable[..., Core]) -> None:
    core = make_core()
    assert core.subscription_records.version() == 0
    id_ = subscribe(core)
    seen = {core.subscription_records.version()}
    core.subscriptions.update("project", "queue", id_, {"ttl": 100})
    seen.add(core.subscription_records.version())
    core.subscription_states.set("project", "queue", id_, PAUSED)
    seen.add(core.subscription_records.version())
    core.subscription_removal.delete("project", "queue", id_)
    seen.add(core.subscription_records.version())
    assert len(seen) == 4


# -- creating -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bridge", [MemoryBridge, loopback])
def test_what_is_posted_waits_for_each_subscription(make_core: Callable[..., Core], bridge: Any) -> None:
    core = make_core(bridge=bridge())
    before = post(core, 0)
    ids = [subscribe(core, f"{URI}/{number}") for number in range(3)]
    posted = post(core, 1, 2)
    delayed = post(core, 3, delay=100)
    for id_ in ids:
        found = get(core, id_)
        assert found.state == ACTIVE and found.bound and not found.confirmed
        assert waiting(core, found) == posted + delayed
        assert core.subscription_waiting.count(found).pending == 3
    queue = core.directory.ensure("project", "queue")
    listed = core.messages.list(queue, None, 10, None, True, True)
    assert {message.id for message in listed} == {*before, *posted, *delayed}


def test_answer_waits_until_no_gateway_posts_as_before(
    make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is active has been heard of everywhere: the record says so only after that."""
    core = make_core()
    post(core, 1)
    records = core.subscription_records
    seen: list[str] = []
    replace_sleep(
        monkeypatch, sources,
        lambda seconds: seen.extend(found.state for found in records.of_source("project", "queue")),
    )
    subscribe(core)
    assert seen == [UNCONFIRMED]
    subscribe(core, f"{URI}/2")
    assert seen == [UNCONFIRMED], "only the first subscription of a queue takes so long"


def test_same_subscriber_again_is_the_same_subscription(make_core: Callable[..., Core]) -> None:
    core = make_core()
    first = core.subscriptions.create("project", "queue", URI, 100, {"a": 1})
    again = core.subscriptions.create("project", "queue", URI, 200, {"a": 2})
    assert again == first and not again.is_taken
    assert (get(core, first.id).ttl, get(core, first.id).options) == (100, {"a": 1})
    assert subscribe(core, URI + "/") != first.id, "the exact text counts"
    assert subscribe(core, queue="other") != first.id

    core.subscription_states.confirm("project", "queue", first.id, True)
    assert core.subscriptions.create("project", "queue", URI, None, None).is_taken


def test_two_gateways_create_one_subscription(store: SQLiteStore, make_core: Callable[..., Core]) -> None:
    bridge = MemoryBridge()
    cores = [make_core(bridge=bridge) for _ in range(2)]
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda core=core: ids.append(subscribe(core))) for core in cores for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6 and len(set(ids)) == 1
    assert [found.id for found in cores[0].subscription_records.all()] == ids[:1]


def test_crash_between_the_two_records_heals(make_core: Callable[..., Core]) -> None:
    core = make_core()
    assert core.subscription_records.hold("project", "queue", URI, "gone", core.now())
    id_ = subscribe(core)
    assert core.subscription_records.find("project", "queue", URI).id == id_


def test_crash_before_the_delivery_queue_heals(
    make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    core = make_core()
    with monkeypatch.context() as patch:
        patch.setattr(core.copies, "bind", lambda *args: (_ for _ in ()).throw(BridgeUnavailable("down")))
        with pytest.raises(BridgeUnavailable):
            subscribe(core)
    (found,) = core.subscription_records.all()
    assert found.state == UNCONFIRMED and not found.bound
    assert subscribe(core) == found.id
    assert get(core, found.id).state == ACTIVE
    posted = post(core, 1)
    assert waiting(core, get(core, found.id)) == posted


def test_page_has_a_queue_s_living_subscriptions_by_id(make_core: Callable[..., Core]) -> None:
    core = make_core()
    ids = [subscribe(core, f"{URI}/{number}") for number in range(5)]
    subscribe(core, queue="queue2")
    core.subscription_removal.delete("project", "queue", ids[1])
    page = core.subscriptions.page("project", "queue", None, 2)
    assert [found.id for found in page] == [ids[0], ids[2]]
    assert [found.id for found in core.subscriptions.page("project", "queue", ids[2], 10)] == ids[3:]
    assert core.subscriptions.page("project", "queue", "unknown", 10) == []
    assert core.subscriptions.page("project", "nothing", None, 10) == []


def test_projects_with_slashes_are_told_apart(make_core: Callable[..., Core]) -> None:
    core = make_core()
    core.subscriptions.create("a", "b", URI, None, None)
    inner = core.subscriptions.create("a/b", "c", URI, None, None)
    assert [found.project for found in core.subscription_records.of_project("a")] == ["a"]
    assert [found.id for found in core.subscription_records.of_source("a/b", "c")] == [inner.id]
    assert len(core.subscriptions.page("a", "b", None, 10)) == 1


def test_subscription_of_another_queue_is_not_found(make_core: Callable[..., Core]) -> None:
    core = make_core()
    id_ = subscribe(core)
    subscribe(core, queue="other")
    for call in (
        lambda: get(core, id_, queue="other"),
        lambda: core.subscriptions.update("project", "other", id_, {"ttl": 100}),
        lambda: core.subscription_states.confirm("project", "other", id_, True),
        lambda: core.subscription_states.set("project", "other", id_, PAUSED),
        lambda: core.subscription_secrets.get("project", "other", id_),
    ):
        with pytest.raises(NotFound):
            call()
    core.subscription_removal.delete("project", "other", id_)
    assert get(core, id_).state == ACTIVE


# -- quotas ---------------------------------------------------------------------------------------------------------


def test_queue_has_so_many_subscriptions(make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "PER_SOURCE", 2)
    core = make_core()
    first = subscribe(core, f"{URI}/1")
    subscribe(core, f"{URI}/2")
    with pytest.raises(QuotaExceeded, match="2 subscriptions"):
        subscribe(core, f"{URI}/3")
    subscribe(core, queue="other")
    assert subscribe(core, f"{URI}/1") == first
    core.subscription_removal.delete("project", "queue", first)
    subscribe(core, f"{URI}/3")


def test_project_has_so_many_subscriptions(make_core: Callable[..., Core]) -> None:
    core = make_core(Notifications(per_project=2))
    subscribe(core, queue="a")
    subscribe(core, queue="b")
    with pytest.raises(QuotaExceeded, match="2 subscriptions"):
        subscribe(core, queue="c")
    core.subscriptions.create("project2", "c", URI, None, None)


def test_host_that_never_asked_gets_few_requests(make_core: Callable[..., Core], monkeypatch: Any) -> None:
    monkeypatch.setattr(quotas, "PER_HOST", 2)
    core = make_core(ASKING)
    ids = [subscribe(core, f"http://example.org/{number}") for number in range(2)]
    with pytest.raises(QuotaExceeded, match="wait for their confirmation"):
        subscribe(core, "https://EXAMPLE.org:8443/", queue="other")
    subscribe(core, "http://example.net/")
    core.subscription_states.confirm("project", "queue", ids[0], True)
    subscribe(core, "http://example.org/3")


# -- queues that go and come ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bridge", [MemoryBridge, loopback])
def test_subscription_outlives_its_queue(make_core: Callable[..., Core], bridge: Any) -> None:
    core = make_core(bridge=bridge())
    id_ = subscribe(core)
    before = post(core, 1)
    core.queues.delete("project", "queue")
    found = get(core, id_)
    assert waiting(core, found) == before, "what was posted before is still delivered"
    assert [each.id for each in core.subscriptions.page("project", "queue", None, 10)] == [id_]

    after = post(core, 2)
    assert waiting(core, found) == before + after
    assert core.directory.find("project", "queue").notifies


def test_queue_that_the_broker_has_lost_is_bound_again(make_core: Callable[..., Core]) -> None:
    bridge = MemoryBridge()
    core = make_core(bridge=bridge)
    found = get(core, subscribe(core))
    bridge.delete(broker_name("project", "queue"))
    posted = post(core, 1)
    assert waiting(core, found) == posted


def test_queue_goes_on_when_its_last_subscription_has_ended(make_core: Callable[..., Core]) -> None:
    bridge = MemoryBridge()
    core = make_core(bridge=bridge)
    ids = [subscribe(core, f"https://example.org/{number}") for number in range(2)]
    core.subscription_removal.delete("project", "queue", ids[0])
    assert core.directory.find("project", "queue").notifies
    core.subscription_removal.delete("project", "queue", ids[1])
    assert not core.directory.find("project", "queue").notifies, "posts cost what they did before"
    post(core, 1)
    bridge.delete(broker_name("project", "queue"))
    post(core, 2)
    again = get(core, subscribe(core))
    posted = post(core, 1)
    assert waiting(core, again) == posted


def test_unconfirmed_subscription_gets_nothing_from_a_queue_that_is_created_again(
    make_core: Callable[..., Core]
) -> None:
    core = make_core(ASKING)
    found = get(core, subscribe(core))
    core.queues.delete("project", "queue")
    post(core, 1)
    assert [request["Message_Type"] for request in requests(core, found)] == [CONFIRMATION]


def test_confirmed_without_a_queue_serves_the_next_one(make_core: Callable[..., Core]) -> None:
    core = make_core(ASKING)
    id_ = subscribe(core)
    core.queues.delete("project", "queue")
    core.subscription_states.confirm("project", "queue", id_, True)
    assert not core.queues.exists("project", "queue")
    posted = post(core, 1)
    assert set(posted) <= set(waiting(core, get(core, id_)))


# -- confirming -----------------------------------------------------------------------------------------------------


def test_subscriber_is_asked_and_gets_nothing_before(make_core: Callable[..., Core]) -> None:
    core = make_core(ASKING)
    id_ = subscribe(core, ttl=300)
    found = get(core, id_)
    assert (found.state, found.confirmed, found.bound) == (UNCONFIRMED, False, False)
    post(core, 1)
    (message,) = kept(core, found)
    assert message.properties == typed(CONFIRMATION)
    assert message.id.startswith(f"confirm-{id_}-") and message.expires - message.posted == 300_000

    request = orjson.loads(message.body)
    path = f"/v2/queues/queue/subscriptions/{id_}/confirm"
    assert set(request) == {
        "Message_Type", "Message", "URL-Signature", "URL-Methods", "URL-Paths", "X-Project-ID", "URL-Expires",
        "SubscribeBody", "UnsubscribeBody", "queue_name", "WSGISubscribeURL",
    }
    assert request["WSGISubscribeURL"] == f"https://api.example.org/m{path}"
    assert (request["SubscribeBody"], request["UnsubscribeBody"]) == ({"confirmed": True}, {"confirmed": False})
    assert covers(
        KEY, request["URL-Signature"], [request["URL-Paths"]], [request["URL-Methods"]], request["X-Project-ID"],
        request["URL-Expires"], "PUT", path,
    )

    core.subscription_states.confirm("project", "queue", id_, True)
    confirmed = get(core, id_)
    assert (confirmed.state, confirmed.confirmed, confirmed.bound) == (ACTIVE, True, True)
    assert set(post(core, 2)) <= set(waiting(core, confirmed))


def test_without_a_public_address_the_request_has_the_path_alone(make_core: Callable[..., Core]) -> None:
    core = make_core(Notifications(require_confirmation=True))
    assert "WSGISubscribeURL" not in requests(core, get(core, subscribe(core)))[0]


def test_request_is_tried_for_an_hour_at_most(make_core: Callable[..., Core]) -> None:
    core = make_core(ASKING)
    (message,) = kept(core, get(core, subscribe(core, ttl=220367260800)))
    assert message.expires - message.posted == 3600_000
    assert orjson.loads(message.body)["URL-Expires"].startswith("9")


def test_repeated_request_asks_again_after_a_while(make_core: Callable[..., Core]) -> None:
    core = make_core(ASKING)
    id_ = subscribe(core, ttl=600)
    for _ in range(3):
        assert subscribe(core, ttl=900) == id_
    first, second = kept(core, get(core, id_))
    assert second.hidden_until - first.posted == 60_000 == get(core, id_).asked - first.posted
    assert get(core, id_).ttl == 600


def test_end_by_the_subscriber_drops_what_waits(make_core: Callable[..., Core]) -> None:
    core = make_core(ASKING)
    id_ = subscribe(core)
    core.subscription_states.confirm("project", "queue", id_, True)
    post(core, 1)
    for _ in range(2):
        core.subscription_states.confirm("project", "queue", id_, False)
    found = get(core, id_)
    assert (found.state, found.confirmed, found.bound) == (UNSUBSCRIBED, False, False)
    post(core, 2)
    assert [request["Message_Type"] for request in requests(core, found)] == [UNSUBSCRIPTION]
    assert waiting(core, found) == [kept(core, found)[0].id]

    core.subscription_states.confirm("project", "queue", id_, True)
    assert get(core, id_).state == ACTIVE
    assert set(post(core, 3)) <= set(waiting(core, found))


@pytest.mark.parametrize("by_housekeeping", [False, True])
def test_end_that_failed_is_finished_later(
    make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch, by_housekeeping: bool
) -> None:
    core = make_core()
    id_ = subscribe(core)
    post(core, 1)
    with monkeypatch.context() as patch:
        patch.setattr(core.copies, "unbind", lambda *args: (_ for _ in ()).throw(BridgeUnavailable("down")))
        with pytest.raises(BridgeUnavailable):
            core.subscription_states.confirm("project", "queue", id_, False)
    assert get(core, id_).state == UNSUBSCRIBED
    if by_housekeeping:
        monkeypatch.setattr(removal, "LOOK", 0.0)
        core.subscription_removal.tend()
    else:
        core.subscription_states.confirm("project", "queue", id_, False)
    assert not get(core, id_).bound
    post(core, 2)
    assert waiting(core, get(core, id_)) == []


@pytest.mark.parametrize(("options", "state"), [(Notifications(), ACTIVE), (ASKING, UNCONFIRMED)])
def test_subscribing_again_ends_an_end(make_core: Callable[..., Core], options: Notifications, state: str) -> None:
    core = make_core(options)
    id_ = subscribe(core)
    core.subscription_states.confirm("project", "queue", id_, False)
    assert subscribe(core) == id_
    assert get(core, id_).state == state


def test_unconfirmed_end_without_confirmations_says_nothing(make_core: Callable[..., Core]) -> None:
    core = make_core()
    id_ = subscribe(core)
    core.subscription_states.confirm("project", "queue", id_, False)
    post(core, 1)
    assert waiting(core, get(core, id_)) == []


# -- changing -------------------------------------------------------------------------------------------------------


def test_ttl_begins_again_and_the_age_goes_on(make_core: Callable[..., Core]) -> None:
    core = make_core()
    id_ = subscribe(core, ttl=100, a=1)
    before = get(core, id_)
    time.sleep(0.01)
    core.subscriptions.update("project", "queue", id_, {"ttl": 200})
    after = get(core, id_)
    assert after.expires > before.expires + 100_000 and after.created == before.created
    assert (after.ttl, after.options) == (200, {"a": 1})
    core.subscriptions.update("project", "queue", id_, {"options": {"b": 2}})
    assert get(core, id_).options == {"b": 2}
    assert get(core, id_).secrets == before.secrets


def test_other_subscriber_must_be_free(make_core: Callable[..., Core]) -> None:
    core = make_core()
    first, second = subscribe(core, f"{URI}/1"), subscribe(core, f"{URI}/2")
    with pytest.raises(Conflict):
        core.subscriptions.update("project", "queue", first, {"subscriber": f"{URI}/2"})
    core.subscriptions.update("project", "queue", first, {"subscriber": f"{URI}/3"})
    assert get(core, first).subscriber == f"{URI}/3"
    assert subscribe(core, f"{URI}/3") == first
    core.subscriptions.update("project", "queue", second, {"subscriber": f"{URI}/1"})


def test_other_subscriber_has_to_confirm(make_core: Callable[..., Core]) -> None:
    core = make_core(ASKING)
    id_ = subscribe(core)
    core.subscription_states.confirm("project", "queue", id_, True)
    core.subscriptions.update("project", "queue", id_, {"subscriber": f"{URI}/2"})
    found = get(core, id_)
    assert (found.state, found.confirmed, found.bound) == (UNCONFIRMED, False, True)
    posted = post(core, 1)
    assert set(posted) <= set(waiting(core, found)), "it is kept for the new one"
    assert [request["Message_Type"] for request in requests(core, found)] == [CONFIRMATION] * 2
    core.subscription_states.confirm("project", "queue", id_, True)
    assert get(core, id_).state == ACTIVE


@pytest.mark.parametrize("changes", [
    {"subscriber": "ftp://x"}, {"ttl": 59}, {"options": []}, {"options": {"post_data": 1}}, {"ttl": 10**12},
])
def test_bad_change_changes_nothing(make_core: Callable[..., Core], changes: dict[str, Any]) -> None:
    core = make_core()
    id_ = subscribe(core)
    before = get(core, id_)
    with pytest.raises(InvalidInput):
        core.subscriptions.update("project", "queue", id_, changes)
    assert get(core, id_) == before


# -- states ---------------------------------------------------------------------------------------------------------


def test_paused_subscription_keeps_what_is_posted(make_core: Callable[..., Core]) -> None:
    core = make_core()
    id_ = subscribe(core)
    core.subscription_states.set("project", "queue", id_, PAUSED)
    assert not get(core, id_).delivers
    posted = post(core, 1)
    assert waiting(core, get(core, id_)) == posted
    assert subscribe(core) == id_ and get(core, id_).state == PAUSED
    core.subscription_states.confirm("project", "queue", id_, True)
    assert get(core, id_).state == PAUSED and get(core, id_).confirmed
    core.subscription_states.set("project", "queue", id_, ACTIVE)
    assert get(core, id_).delivers


def test_activating_ends_disabled(make_core: Callable[..., Core]) -> None:
    core = make_core()
    id_ = subscribe(core)
    core.subscription_records.change(
        "project", "queue", id_, lambda found: replace(found, state=DISABLED, reason="gone", since=1)
    )
    core.subscription_states.set("project", "queue", id_, ACTIVE)
    found = get(core, id_)
    assert (found.state, found.reason) == (ACTIVE, "") and found.since > 1


@pytest.mark.parametrize("state", [ACTIVE, PAUSED])
def test_state_of_the_unconfirmed_can_not_be_set(make_core: Callable[..., Core], state: str) -> None:
    core = make_core(ASKING)
    id_ = subscribe(core)
    with pytest.raises(Conflict, match="unconfirmed"):
        core.subscription_states.set("project", "queue", id_, state)


# -- the end --------------------------------------------------------------------------------------------------------


def test_deleted_subscription_leaves_nothing(make_core: Callable[..., Core], store: SQLiteStore) -> None:
    bridge = MemoryBridge()
    core = make_core(bridge=bridge)
    found = get(core, subscribe(core))
    post(core, 1)
    post(core, 2, delay=100)
    core.subscription_removal.delete("project", "queue", found.id)
    core.subscription_removal.delete("project", "queue", found.id)
    with pytest.raises(NotFound):
        get(core, found.id)
    assert bridge.depth(found.copy) == 0 and kept(core, found) == []
    for kind in ("subscription", "subscriber", "delivery"):
        assert store.catalogue.list_records(kind, "", 10) == []
    assert store.landed.bound(core.directory.ensure("project", "queue").key) == []
    assert subscribe(core) != found.id


def test_all_of_a_queue_can_be_deleted(make_core: Callable[..., Core]) -> None:
    core = make_core()
    for number in range(12):
        subscribe(core, f"{URI}/{number}")
    other = subscribe(core, queue="other")
    core.subscription_removal.delete_all("project", "queue")
    assert [found.id for found in core.subscription_records.all()] == [other]


def test_expiry_is_exact_and_housekeeping_removes_the_rest(
    make_core: Callable[..., Core], store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = MemoryBridge()
    core = make_core(bridge=bridge)
    id_ = subscribe(core)
    found = get(core, id_)
    post(core, 1)
    core.subscription_records.change(
        "project", "queue", id_, lambda current: replace(current, expires=core.now())
    )
    with pytest.raises(NotFound):
        get(core, id_)
    assert core.subscriptions.page("project", "queue", None, 10) == []
    assert subscribe(core) != id_, "the subscriber is free"
    monkeypatch.setattr(removal, "LOOK", 0.0)
    core.subscription_removal.tend()
    assert core.subscription_records.get("project", "queue", id_) is None
    assert bridge.depth(found.copy) == 0 and kept(core, found) == []
    (left,) = core.subscription_records.all()
    assert core.subscription_records.find("project", "queue", URI).id == left.id


def test_broker_that_is_down_delays_no_deletion(
    make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    core = make_core()
    id_ = subscribe(core)
    with monkeypatch.context() as patch:
        patch.setattr(core.copies, "remove", lambda *args: (_ for _ in ()).throw(BridgeUnavailable("down")))
        core.subscription_removal.delete("project", "queue", id_)
    with pytest.raises(NotFound):
        get(core, id_)
    monkeypatch.setattr(removal, "LOOK", 0.0)
    core.subscription_removal.tend()
    assert list(core.subscription_records.all()) == []


# -- secrets --------------------------------------------------------------------------------------------------------


def test_rotated_secret_signs_on_for_a_while(make_core: Callable[..., Core]) -> None:
    core = make_core()
    id_ = subscribe(core)
    secrets = core.subscription_secrets
    old = secrets.get("project", "queue", id_)
    new = secrets.rotate("project", "queue", id_, 100)
    assert secrets.get("project", "queue", id_) == new != old
    found, now = get(core, id_), core.now()
    assert [secret.text for secret in found.valid_secrets(now)] == [new, old]
    assert [secret.text for secret in found.valid_secrets(now + 101_000)] == [new]
    for _ in range(10):
        secrets.rotate("project", "queue", id_, None)
    assert len(get(core, id_).secrets) == 5
    secrets.put("project", "queue", id_, old)
    assert [secret.text for secret in get(core, id_).secrets] == [old]
    with pytest.raises(InvalidInput) as caught:
        secrets.put("project", "queue", id_, "whsec_c2VjcmV0")
    assert "c2VjcmV0" not in str(caught.value)


# -- dead letters and replay ----------------------------------------------------------------------------------------


def bury(core: Core, found: Subscription, *bodies: int) -> list[str]:
    """Put messages among the dead."""
    now = core.now()
    ids = core.ids.make(now, len(bodies))
    death = Death("exhausted", 503, 4, now, now, 300)
    core.pool.store.landed.append(found.dead_key, [
        Message(id_, now, now + 10**6, orjson.dumps(body), properties=death.data())
        for id_, body in zip(ids, bodies, strict=True)
    ])
    return ids


def test_dead_letters_are_listed_deleted_and_repeated(make_core: Callable[..., Core]) -> None:
    core = make_core()
    found = get(core, subscribe(core))
    ids = bury(core, found, 1, 2, 3, 4)
    place = "project", "queue", found.id
    letters = core.subscription_waiting.dead(*place, None, 10)
    assert [(letter.id, Death.of(letter).reason) for letter in letters] == [(id_, "exhausted") for id_ in ids]
    assert core.subscription_waiting.count(found).dead == 4

    core.subscription_waiting.delete_dead(*place, ids[:1])
    assert core.subscription_waiting.replay(*place, Wanted(ids=ids[:2]), "dead") == 1
    (again,) = kept(core, found)
    assert (again.id, again.body, again.properties) == (ids[1], b"2", typed("Replay"))
    assert again.expires - again.posted == 300_000
    assert core.subscription_waiting.replay(*place, Wanted(since=core.now() + 1000), "dead") == 0
    assert core.subscription_waiting.replay(*place, Wanted(), "dead") == 2
    assert core.subscription_waiting.count(found).dead == 0
    bury(core, found, 5)
    core.subscription_waiting.delete_dead(*place, None)
    assert core.subscription_waiting.count(found).dead == 0


@pytest.mark.parametrize("encrypt", [False, True])
def test_what_the_queue_still_has_is_delivered_again(make_core: Callable[..., Core], encrypt: bool) -> None:
    core = make_core()
    core.queues.create("project", "queue", {"_enable_encrypt_messages": encrypt})
    before = post(core, 1, 2)
    found = get(core, subscribe(core))
    place = "project", "queue", found.id
    assert core.subscription_waiting.replay(*place, Wanted(), "delivered") == 2
    again = kept(core, found)
    assert [message.id for message in again] == before
    assert [message.encrypted for message in again] == [encrypt] * 2
    assert (again[0].body == b"1") is not encrypt
    assert core.subscription_waiting.replay(*place, Wanted(ids=["none", before[0]]), "delivered") == 1
