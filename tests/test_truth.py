"""Rule 8: what a gateway remembers of a queue never decides what is true. Two gateways on one broker and side-store."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from bridges.base import Batch
from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.errors import InvalidInput, NotFound
from gateway.core.ids import IdMaker
from gateway.core.messages.post import Post
from gateway.core.messages.seeking import CLOCK_SKEW, SOUGHT_AT_MOST
from gateway.core.queues import admin
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.lock import LOCKED_FOR
from gateway.core.queues.remembering import KNOWN_FOR, Remembered
from gateway.core.seal import KEY_SIZE, Seal
from storage.errors import LeaseLost
from storage.landed import SEEN_FOR
from storage.model import Message
from storage.sqlite import SQLiteStore
from tests.threads import replace_sleep

P, Q = "project", "queue"


@pytest.fixture(params=["backlog", "loopback"])
def bridge(request: pytest.FixtureRequest) -> Any:
    return MemoryBridge() if request.param == "backlog" else LoopbackBridge("loopback://", None)


@pytest.fixture
def here(core: Core) -> Core:
    return core


@pytest.fixture
def there(bridge: Any, store: SQLiteStore) -> Iterator[Core]:
    """Another gateway."""
    core = Core(bridge, store, Limits(), Seal(bytes(KEY_SIZE)))
    yield core
    core.stop()


def post(core: Core, *texts: str, delay: int | None = None) -> list[str]:
    return core.messages.post(P, Q, "client", [Post(b'"%s"' % text.encode(), delay=delay) for text in texts], 10)


def on(core: Core, work: Callable[[QueueInfo], Any], **how: Any) -> Any:
    return core.directory.on(P, Q, work, **how)


def listed(core: Core, **how: Any) -> list[str]:
    page = on(core, lambda info: core.messages.list(
        info, None, 20, None, how.get("claimed", True), how.get("delayed", True)
    ))
    return [message.body.decode().strip('"') for message in page or ()]


def claim(core: Core, limit: int = 5) -> Sequence[Message]:
    return on(core, lambda info: core.claims.create(info, 60, 60, limit), sure=True) or ()


def pop(core: Core) -> list[str]:
    popped = on(core, lambda info: core.messages.pop(info, 5), sure=True) or ()
    return [message.body.decode().strip('"') for message in popped]


class TestQueueThatOthersHaveMade:
    """This gateway has looked for the queue when it was not there."""

    @pytest.fixture(autouse=True)
    def looked(self, here: Core) -> None:
        assert here.directory.find(P, Q) is None

    def test_claims_are_renewed_released_and_deleted(self, here: Core, there: Core) -> None:
        post(there, "1", "2")
        first, second = claim(there)
        assert on(here, lambda info: here.claims.renew(info, str(first.claim), 60, 60)) is True
        assert on(here, lambda info: here.messages.delete(info, first.id, first.claim)) is True
        assert on(here, lambda info: here.claims.release(info, str(second.claim))) is True
        assert [message.id for message in claim(there)] == [second.id]

    def test_messages_are_read_popped_and_deleted(self, here: Core, there: Core) -> None:
        first, *_ = post(there, "1", "2")
        assert [m.id for m in on(here, lambda info: here.messages.get(info, [first]))] == [first]
        assert listed(here) == ["1", "2"]
        assert on(here, lambda info: here.messages.delete_many(info, [first], None)[1]) is True
        assert pop(here) == ["2"]

    def test_encryption_of_a_new_queue_is_heeded(self, here: Core, there: Core, store: SQLiteStore) -> None:
        there.queues.create(P, Q, {"_enable_encrypt_messages": True})
        post(here, "secret", delay=60)
        info = here.directory.refresh(P, Q)
        assert info is not None
        (message,) = store.landed.list_messages(info.key, 0, 10, delayed=True)
        assert message.encrypted and b"secret" not in message.body


class TestQueueThatOthersHaveDeleted:
    """This gateway still remembers the queue."""

    @pytest.fixture(autouse=True)
    def remembered(self, here: Core, there: Core) -> None:
        post(here, "old")
        assert here.directory.find(P, Q) is not None
        there.queues.delete(P, Q)

    @pytest.mark.parametrize("delay", [None, 60])
    def test_post_makes_the_queue_again(self, here: Core, there: Core, delay: int | None) -> None:
        post(here, "new", delay=delay)
        assert there.queues.exists(P, Q)
        assert listed(there) == listed(here) == ["new"]

    def test_nothing_of_it_is_left(self, here: Core) -> None:
        assert listed(here) == pop(here) == list(claim(here)) == []
        assert not here.queues.exists(P, Q)

    def test_next_queue_of_that_name_is_found(self, here: Core, there: Core) -> None:
        (id_,) = post(there, "new")
        assert listed(here) == ["new"]
        (message,) = claim(here)
        assert message.id == id_
        assert on(there, lambda info: there.messages.delete(info, id_, message.claim)) is True
        assert listed(here) == []

    def test_messages_of_the_next_queue_are_deleted_by_their_ids(self, here: Core, there: Core) -> None:
        (id_,) = post(there, "new")
        on(here, lambda info: here.messages.delete(info, id_, None))
        assert listed(there) == listed(here) == []

    def test_new_queue_that_encrypts_is_made_when_nobody_remembers_the_old_one(self, here: Core, there: Core) -> None:
        there.queues.create(P, Q, {"_enable_encrypt_messages": True})
        found = here.directory.find(P, Q)
        assert found is not None and found.settings.encrypt


def test_change_that_must_hold_everywhere_is_answered_when_it_does(here: Core, there: Core) -> None:
    post(here, "plain")
    there.queues.patch(P, Q, [{"op": "add", "path": "/metadata/_enable_encrypt_messages", "value": True}])
    found = here.directory.find(P, Q)
    assert found is not None and found.settings.encrypt


def test_change_of_other_metadata_is_answered_at_once(
    here: Core, there: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_sleep(monkeypatch, admin, lambda seconds: pytest.fail(f"it waited for {seconds} s"))
    post(here, "plain")
    there.queues.patch(P, Q, [{"op": "add", "path": "/metadata/_default_message_ttl", "value": 60}])
    there.queues.create(P, Q, {"mine": 1})


class Thing:
    """Something that was read."""

    def __init__(self, read_at: float):
        self.read_at = read_at


class TestRemembered:
    """What gateway/core/queues/remembering.py promises."""

    def test_what_was_read_before_a_change_is_not_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.core.queues.remembering.time.monotonic", lambda: 100.0)
        remembered = Remembered[Thing]()
        changes = remembered.changes()
        remembered.forget("q")
        remembered.put("q", Thing(100.0), changes)
        assert remembered.get("q") is None

    def test_age_counts_from_the_beginning_of_the_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 100.0
        monkeypatch.setattr("gateway.core.queues.remembering.time.monotonic", lambda: now)
        remembered = Remembered[Thing]()
        remembered.put("q", Thing(100.0 - KNOWN_FOR / 2), remembered.changes())
        assert remembered.get("q") is not None
        now += KNOWN_FOR / 2
        assert remembered.get("q") is None


@pytest.mark.parametrize("bridge", ["backlog"], indirect=True)
class TestBacklog:
    """Messages that wait in the broker, or that another gateway has just fetched."""

    def test_what_was_fetched_for_a_deleted_queue_does_not_land_in_the_next(
        self, here: Core, there: Core, bridge: MemoryBridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        post(here, "old")
        real, timed = bridge.fetch, here.pool.bridge

        def fetch(queue: str, limit: int) -> Batch:
            batch = real(queue, limit)
            monkeypatch.setattr(timed, "fetch", real)
            there.queues.delete(P, Q)
            post(there, "new")
            return batch

        monkeypatch.setattr(timed, "fetch", fetch)
        claim(here)
        assert listed(there) == ["new"]

    def test_queue_that_a_claimer_may_have_seen_is_not_made_anew_before_that_counts_no_more(
        self, here: Core, there: Core
    ) -> None:
        post(here, "old")
        here.queues.delete(P, Q)
        deleted = time.monotonic()
        post(there, "new")
        assert time.monotonic() - deleted > SEEN_FOR

    def test_claimer_has_seen_the_queue_before_it_fetches(
        self, here: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        post(here, "1")
        store, bridge = here.pool.store, here.pool.bridge
        find_free, fetch, land = store.landed.find_free, bridge.fetch, store.landed.land
        looked: list[float] = []
        fetched: list[float] = []
        seen: list[float | None] = []

        def noting_seen(*call: Any, **how: Any) -> Any:
            seen.append(how["seen"])
            return land(*call, **how)

        monkeypatch.setattr(
            store.landed, "find_free", lambda *call: (looked.append(time.monotonic()), find_free(*call))[1]
        )
        monkeypatch.setattr(bridge, "fetch", lambda *call: (fetched.append(time.monotonic()), fetch(*call))[1])
        monkeypatch.setattr(store.landed, "land", noting_seen)
        assert len(claim(here)) == 1
        assert seen[0] is not None and seen[0] <= looked[0] <= fetched[0]

    def test_message_that_another_gateway_is_landing_is_deleted(
        self, here: Core, there: Core, info: QueueInfo, bridge: MemoryBridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (id_,) = post(here, "1")
        batch = bridge.fetch(info.broker, 1)  # another gateway's
        assert here.messages.delete(info, id_, None) is False
        hands, fetch = iter([batch]), there.pool.bridge.fetch
        monkeypatch.setattr(there.pool.bridge, "fetch", lambda *call: next(hands, None) or fetch(*call))
        assert list(claim(there)) == [] and listed(there) == []

    def test_wrong_claim_of_a_waiting_message_is_refused(self, here: Core, info: QueueInfo) -> None:
        (id_,) = post(here, "1")
        with pytest.raises(InvalidInput):
            here.messages.delete(info, id_, "invalid")
        assert listed(here) == ["1"]

    def test_ids_dated_ahead_are_found_and_deleted(self, here: Core, info: QueueInfo) -> None:
        ahead = here.pool.store.now() + 20 * CLOCK_SKEW
        here.ids.make(ahead)
        first, second = post(here, "1", "2")
        assert [message.id for message in here.messages.get(info, [second])] == [second]
        here.messages.delete(info, first, None)
        assert listed(here) == ["2"]

    def test_looking_for_one_id_moves_so_many_messages_and_no_more(
        self, here: Core, info: QueueInfo, bridge: MemoryBridge
    ) -> None:
        for _ in range(SOUGHT_AT_MOST // 20 + 10):
            post(here, *"x" * 20)
        before = bridge.depth(info.broker)
        ahead = IdMaker().make(here.pool.store.now() + 4000)[0]
        with pytest.raises(Exception, match="still being landed"):
            here.messages.get(info, [ahead])
        assert before - bridge.depth(info.broker) <= SOUGHT_AT_MOST

    def test_lister_that_was_stopped_lands_behind_what_others_have_landed(
        self, here: Core, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its lease is over when it writes: positions that it took before must not appear."""
        post(here, "1", "2")
        real = here.pool.store.landed.land
        stopped = []

        def land(q: str, messages: Sequence[Message], owner: str) -> set[str]:
            if not stopped:
                stopped.append(owner)
                here.pool.store.landed.release_lease(q, owner, 0)
                late = here.pool.store.landed.acquire_lease(q, "another gateway", 60)
                here.pool.store.landed.append(q, [Message("theirs", 0, here.pool.store.now() + 60_000, b'"theirs"')])
                here.pool.store.landed.release_lease(q, "another gateway", late)
            return set(real(q, messages, owner))

        monkeypatch.setattr(here.pool.store.landed, "land", land)
        page = here.messages.list(info, None, 10, None, False, False)
        assert [message.body for message in page] == [b'"theirs"', b'"1"', b'"2"']
        assert [message.seq for message in page] == sorted(message.seq for message in page)

    def test_claimer_is_not_helped_by_a_lease(self, here: Core, info: QueueInfo) -> None:
        with pytest.raises(LeaseLost):
            message = Message("m", 0, here.pool.store.now() + 60_000, b"1", seq=1)
            here.pool.store.landed.land(info.key, [message], "nobody")


def test_pop_answers_nothing_that_others_hold(
    here: Core, there: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway is stopped between its claim and its delete for longer than the claim."""
    post(here, "1", "2")
    assert listed(here) == ["1", "2"]
    real, now = store.landed.delete_claimed, store.now()

    def late(*call: Any) -> int:
        monkeypatch.setattr(store, "now", lambda: now + 120_000)
        assert len(claim(there, 1)) == 1
        return real(*call)

    monkeypatch.setattr(here.pool.store.landed, "delete_claimed", late)
    assert pop(here) == []
    assert listed(there) == ["1", "2"]


def test_pop_answers_what_it_has_deleted_though_the_answer_to_that_was_lost(
    here: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(here, "1", "2")
    assert listed(here) == ["1", "2"]
    real = store.landed.delete_claimed
    monkeypatch.setattr(here.pool.store.landed, "delete_claimed", lambda *call: real(*call) * 0)
    assert pop(here) == ["1", "2"]


def test_first_post_after_a_stale_read_is_no_conflict(
    here: Core, there: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.catalogue.get_queue

    def slow(q: str) -> Any:
        found = real(q)
        monkeypatch.setattr(here.pool.store.catalogue, "get_queue", real)
        post(here, "1")  # by another thread, while this one reads
        return found

    monkeypatch.setattr(here.pool.store.catalogue, "get_queue", slow)
    assert here.directory.find(P, Q) is None
    post(here, "2")
    assert sorted(listed(here)) == ["1", "2"]


def test_missing_claim_is_still_missing(here: Core, there: Core) -> None:
    post(there, "1")
    with pytest.raises(NotFound):
        on(here, lambda info: here.claims.get(info, "none"))
    assert on(here, lambda info: here.claims.release(info, "none")) is False


def test_delete_that_was_stopped_for_too_long_leaves_the_next_queue_alone(
    here: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(here, "1")
    real, now = here.pool.store.catalogue.get_queue, __import__("time").monotonic()

    def stopped(q: str) -> Any:
        monkeypatch.setattr("gateway.core.queues.lock.time.monotonic", lambda: now + LOCKED_FOR)
        return real(q)

    monkeypatch.setattr(here.pool.store.catalogue, "get_queue", stopped)
    with pytest.raises(Exception, match="took too long"):
        here.queues.delete(P, Q)
    monkeypatch.undo()
    assert listed(here) == ["1"]
