"""Publishing once: posts with an Idempotency-Key, and messages with a dedup_id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from bridges.errors import (
    BridgeError,
    BridgeUnavailable,
    BrokerBlocked,
    MessageTooLarge,
    OutcomeUnknown,
    QueueFull,
    QueueMissing,
    Unroutable,
)
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.errors import Busy, CoreError, InvalidInput, KeyReused, QuotaExceeded, StillRunning
from gateway.core.ids import is_remembered, made_at
from gateway.core.messages.post import Post
from gateway.core.once import keys
from gateway.core.once.dedup import WINDOW
from gateway.core.once.key import Key
from gateway.core.once.outcome import may_be_enqueued
from gateway.core.once.records import DedupRecord, KeyedRecord
from gateway.core.queues.info import QueueInfo
from gateway.observe.metrics import SUPPRESSED
from storage.errors import StoreUnavailable
from storage.model import Message
from storage.sqlite import SQLiteStore
from storage.suite import together

DAY = 86_400_000


def key(text: str, body: str = "") -> Key:
    return Key(text, hashlib.sha256(body.encode()).digest())


def post(core: Core, info: QueueInfo, *bodies: str, key: Key | None = None, **fields: Any) -> list[str]:
    posts = [Post(body.encode(), **fields) for body in bodies]
    return core.messages.post(info.project, info.name, "client", posts, 100, key)


def claim(core: Core, info: QueueInfo, limit: int = 20) -> list[Message]:
    return core.claims.create(info, None, None, limit)


def bodies(messages: Sequence[Message]) -> list[str]:
    return [message.body.decode() for message in messages]


def delete(core: Core, info: QueueInfo, messages: Sequence[Message]) -> None:
    for message in messages:
        assert core.messages.delete(info, message.id, message.claim)


def suppressed(by: str) -> float:
    value: float = SUPPRESSED.labels(by)._value.get()
    return value


@pytest.fixture
def clock(store: SQLiteStore, core: Core, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the side-store's clock go on by some milliseconds."""
    real, ahead = store.now, 0

    def advance(by: int) -> None:
        nonlocal ahead
        ahead += by

    for owner in (store, core.pool.store):
        monkeypatch.setattr(owner, "now", lambda: real() + ahead)
    return advance


@pytest.fixture
def fails(core: Core, bridge: MemoryBridge, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Let the next publish fail: `fails(error, enqueued=True)` does it after the messages are in the broker."""

    def fail(error: BaseException, enqueued: bool = False) -> None:
        real = core.pool.bridge.publish

        def publish(*args: Any, **kwargs: Any) -> None:
            monkeypatch.setattr(core.pool.bridge, "publish", real)
            if enqueued:
                real(*args, **kwargs)
            raise error

        monkeypatch.setattr(core.pool.bridge, "publish", publish)

    return fail


@pytest.fixture
def fifo(core: Core) -> QueueInfo:
    core.queues.create("project", "fifo", {"_fifo": True})
    return core.directory.ensure("project", "fifo")


class TestKey:
    """Requests that are sent again under the same key."""

    def test_request_that_is_sent_again_gets_the_same_ids_and_enqueues_nothing(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        before = suppressed("key")
        ids = post(core, info, "1", "2", key=key("k"))
        assert ids == sorted(set(ids)) and all(map(is_remembered, ids))
        assert post(core, info, "1", "2", key=key("k")) == ids
        assert bridge.depth(info.broker) == 2
        assert suppressed("key") - before == 2
        claimed = claim(core, info)
        assert ([message.id for message in claimed], bodies(claimed)) == (ids, ["1", "2"])
        delete(core, info, claimed)
        assert post(core, info, "1", "2", key=key("k")) == ids
        assert claim(core, info) == []

    def test_other_keys_queues_projects_and_requests_without_one_are_other_posts(
        self, core: Core, info: QueueInfo
    ) -> None:
        other_queue = core.directory.ensure("project", "other")
        other_project = core.directory.ensure("another", "queue")
        made = [
            post(core, info, "1", key=key("k"))[0], post(core, info, "1", key=key("K"))[0],
            post(core, other_queue, "1", key=key("k"))[0], post(core, other_project, "1", key=key("k"))[0],
            post(core, info, "1")[0], post(core, info, "1")[0],
        ]
        assert len(set(made)) == 6
        assert not is_remembered(made[-1])

    def test_other_request_under_the_same_key_is_refused(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        post(core, info, "1", key=key("k", "1"))
        with pytest.raises(KeyReused):
            post(core, info, "2", key=key("k", "2"))
        assert bridge.depth(info.broker) == 1

    def test_key_is_forgotten_after_a_day(
        self, core: Core, info: QueueInfo, clock: Callable[[int], None]
    ) -> None:
        first = post(core, info, "1", key=key("k"))
        clock(DAY - 5_000)
        assert post(core, info, "1", key=key("k")) == first
        clock(10_000)
        assert post(core, info, "1", key=key("k")) != first

    def test_queue_that_is_created_again_knows_no_keys(self, core: Core, info: QueueInfo) -> None:
        first = post(core, info, "1", key=key("k", "1"))
        core.queues.delete(info.project, info.name)
        second = post(core, info, "2", key=key("k", "2"))
        assert first != second
        assert bodies(claim(core, core.directory.ensure(info.project, info.name))) == ["2"]

    def test_first_post_creates_the_queue(self, core: Core) -> None:
        ids = core.messages.post("project", "new", "client", [Post(b"1")], 100, key("k"))
        assert core.messages.post("project", "new", "client", [Post(b"1")], 100, key("k")) == ids

    def test_wrong_request_records_nothing_and_creates_nothing(self, core: Core, store: SQLiteStore) -> None:
        with pytest.raises(InvalidInput):
            core.messages.post("project", "new", "client", [Post(b"1", ttl=1)], 100, key("k"))
        assert store.catalogue.count_reserved("project", 10) == 0
        assert not core.queues.exists("project", "new")

    @pytest.mark.parametrize("enqueued", [True, False])
    def test_post_of_unknown_outcome_is_repeated_under_the_same_ids(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, fails: Callable[..., Any], enqueued: bool
    ) -> None:
        fails(OutcomeUnknown("late"), enqueued)
        with pytest.raises(OutcomeUnknown):
            post(core, info, "1", "2", key=key("k"))
        early = [message.id for message in claim(core, info)]
        ids = post(core, info, "1", "2", key=key("k"))
        assert bridge.depth(info.broker) == 2  # once more
        assert early == (ids if enqueued else [])
        late = [message.id for message in claim(core, info)]
        assert early + late == ids
        assert post(core, info, "1", "2", key=key("k")) == ids
        assert bridge.depth(info.broker) == 0

    @pytest.mark.parametrize("how", ["delete", "delete many", "pop", "pop from the broker"])
    def test_message_that_is_gone_does_not_come_back_with_the_second_copy(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, fails: Callable[..., Any], how: str
    ) -> None:
        fails(OutcomeUnknown("late"), enqueued=True)
        with pytest.raises(OutcomeUnknown):
            post(core, info, "1", key=key("k"))
        if how == "pop from the broker":
            assert bodies(core.messages.pop(info, 10)) == ["1"]
        elif how == "pop":
            core.messages.list(info, None, 10, None, False, False)
            assert bodies(core.messages.pop(info, 10)) == ["1"]
        elif how == "delete":
            delete(core, info, claim(core, info))
        else:
            claimed = claim(core, info)
            core.messages.delete_many(info, [m.id for m in claimed], [str(m.claim) for m in claimed])
        (id_,) = post(core, info, "1", key=key("k"))
        assert bridge.depth(info.broker) == 1
        assert claim(core, info) == []
        assert core.messages.pop(info, 10) == []
        assert core.messages.get(info, [id_]) == []

    @pytest.mark.parametrize("error", [BridgeUnavailable("down"), BrokerBlocked("full"), MessageTooLarge("too large")])
    def test_post_that_enqueued_nothing_leaves_the_key_free(
        self, core: Core, store: SQLiteStore, info: QueueInfo, fails: Callable[..., Any], error: Exception
    ) -> None:
        fails(error)
        with pytest.raises((BridgeError, InvalidInput)):
            post(core, info, "1", key=key("k", "1"))
        assert store.catalogue.count_reserved("project", 10) == 0
        post(core, info, "2", key=key("k", "2"))
        assert bodies(claim(core, info)) == ["2"]

    def test_refusal_of_a_second_try_does_not_free_the_key(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, fails: Callable[..., Any]
    ) -> None:
        """What the first try has sent may still come."""
        fails(OutcomeUnknown("late"), enqueued=True)
        with pytest.raises(OutcomeUnknown):
            post(core, info, "1", key=key("k"))
        fails(BridgeUnavailable("down"))
        with pytest.raises(BridgeUnavailable):
            post(core, info, "1", key=key("k"))
        with pytest.raises(KeyReused):
            post(core, info, "2", key=key("k", "2"))
        post(core, info, "1", key=key("k"))
        assert bodies(claim(core, info)) == ["1"]

    def test_request_while_the_first_one_is_running_is_asked_to_come_again(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, seen = core.pool.bridge.publish, []

        def publish(*args: Any, **kwargs: Any) -> None:
            monkeypatch.setattr(core.pool.bridge, "publish", real)
            with pytest.raises(StillRunning) as caught:
                post(core, info, "1", key=key("k"))
            with pytest.raises(KeyReused):
                post(core, info, "2", key=key("k", "2"))
            seen.append(caught.value.retry_after)
            real(*args, **kwargs)

        monkeypatch.setattr(core.pool.bridge, "publish", publish)
        ids = post(core, info, "1", key=key("k"))
        assert seen == [1]
        assert post(core, info, "1", key=key("k")) == ids
        assert bridge.depth(info.broker) == 1

    def test_request_that_died_is_taken_over_when_it_would_be_over(
        self, core: Core, store: SQLiteStore, info: QueueInfo, fails: Callable[..., Any], clock: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        fails(SystemExit(), enqueued=True)
        with monkeypatch.context() as dead:
            dead.setattr(store.catalogue, "change_reserved", lambda *_: None)
            dead.setattr(core.pool.store.catalogue, "change_reserved", lambda *_: None)
            with pytest.raises(SystemExit):
                post(core, info, "1", key=key("k"))
        with pytest.raises(StillRunning):
            post(core, info, "1", key=key("k"))
        clock(20_000)
        ids = post(core, info, "1", key=key("k"))
        assert [message.id for message in claim(core, info)] == ids
        assert claim(core, info) == []

    def test_of_several_requests_one_posts(self, core: Core, bridge: MemoryBridge, info: QueueInfo) -> None:
        def try_it() -> list[str] | None:
            try:
                return post(core, info, "1", "2", key=key("k"))
            except StillRunning:
                return None

        answers = together(*[try_it] * 8)
        assert len({tuple(ids) for ids in answers if ids}) == 1
        assert bridge.depth(info.broker) == 2

    def test_messages_that_could_not_be_seen_under_the_first_ids_get_others(
        self, core: Core, info: QueueInfo, fails: Callable[..., Any], clock: Callable[[int], None]
    ) -> None:
        """Under the first id a message would be over as soon as it lands, and its 201 would be worth nothing."""
        fails(OutcomeUnknown("late"))
        posts = [Post(b"1", ttl=60), Post(b"2", ttl=600)]
        with pytest.raises(OutcomeUnknown):
            core.messages.post(info.project, info.name, "client", posts, 100, key("k"))
        clock(120_000)
        ids = core.messages.post(info.project, info.name, "client", posts, 100, key("k"))
        claimed = claim(core, info)
        assert [message.id for message in claimed] == ids
        posted = [made_at(id_) or 0 for id_ in ids]
        assert posted[0] - posted[1] >= 120_000
        assert claimed[1].expires - posted[1] == 600_000  # as from the first try

    def test_delayed_messages_land_once(
        self, core: Core, store: SQLiteStore, info: QueueInfo, fails: Callable[..., Any], clock: Callable[[int], None]
    ) -> None:
        posts = [Post(b"1", delay=60), Post(b"2")]
        fails(OutcomeUnknown("late"), enqueued=True)
        with pytest.raises(OutcomeUnknown):
            core.messages.post(info.project, info.name, "client", posts, 100, key("k"))
        ids = core.messages.post(info.project, info.name, "client", posts, 100, key("k"))
        hidden = store.landed.list_messages(info.key, 0, 10, delayed=True)
        assert [(message.id, message.hidden_until - message.posted) for message in hidden] == [(ids[0], 60_000)]
        assert [message.id for message in claim(core, info)] == ids[1:]
        clock(61_000)
        claimed = claim(core, info)
        assert [message.id for message in claimed] == ids[:1]
        delete(core, info, claimed)

    def test_delayed_messages_that_landed_before_an_error_stay(
        self, core: Core, info: QueueInfo, clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another request may have been answered 201 for them by then."""
        real = core.pool.store.landed.append

        def lose_the_answer(*args: Any) -> None:
            real(*args)
            raise StoreUnavailable("the answer was lost")

        with monkeypatch.context() as patch:
            patch.setattr(core.pool.store.landed, "append", lose_the_answer)
            with pytest.raises(StoreUnavailable):
                post(core, info, "1", key=key("k"), delay=60)
        ids = post(core, info, "1", key=key("k"), delay=60)
        clock(61_000)
        claimed = claim(core, info)
        assert [message.id for message in claimed] == ids
        delete(core, info, claimed)
        core.pool.store.landed.append(info.key, [replace(claimed[0], claim=None, hidden_until=0)])
        assert claim(core, info) == []

    def test_side_store_that_is_down_means_that_nothing_is_published(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def down(*_: Any) -> Any:
            raise StoreUnavailable("down")

        post(core, info, "0")
        for name in ("reserve", "unreserve"):
            monkeypatch.setattr(core.pool.store.catalogue, name, down)
        with pytest.raises(StoreUnavailable):
            post(core, info, "1", key=key("k"))
        assert bridge.depth(info.broker) == 1
        post(core, info, "2")  # without a key it is not asked
        assert bridge.depth(info.broker) == 2

    def test_post_whose_reservation_got_no_answer_keeps_nobody_waiting(
        self, core: Core, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = core.pool.store.catalogue.reserve

        def lose_the_answer(*args: Any) -> Any:
            real(*args)
            raise StoreUnavailable("the answer was lost")

        with monkeypatch.context() as patch:
            patch.setattr(core.pool.store.catalogue, "reserve", lose_the_answer)
            with pytest.raises(StoreUnavailable):
                post(core, info, "1", key=key("k"))
        post(core, info, "1", key=key("k"))

    def test_confirmed_post_is_a_201_though_that_can_not_be_recorded(
        self, core: Core, info: QueueInfo, clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def down(*_: Any) -> Any:
            raise StoreUnavailable("down")

        with monkeypatch.context() as patch:
            patch.setattr(core.pool.store.catalogue, "change_reserved", down)
            ids = post(core, info, "1", key=key("k"))
        with pytest.raises(StillRunning):
            post(core, info, "1", key=key("k"))
        clock(20_000)
        assert post(core, info, "1", key=key("k")) == ids
        assert [message.id for message in claim(core, info)] == ids

    def test_queue_that_the_broker_has_lost_meanwhile_is_made_again(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        bridge.delete(info.broker)
        ids = post(core, info, "1", key=key("k"))
        assert post(core, info, "1", key=key("k")) == ids
        assert bridge.depth(info.broker) == 1

    def test_encrypted_messages_are_posted_once(
        self, core: Core, info: QueueInfo, fails: Callable[..., Any]
    ) -> None:
        core.queues.create(info.project, info.name, {"_enable_encrypt_messages": True})
        info = core.directory.ensure(info.project, info.name)
        fails(OutcomeUnknown("late"), enqueued=True)
        with pytest.raises(OutcomeUnknown):
            post(core, info, '"secret"', key=key("k"))
        post(core, info, '"secret"', key=key("k"))
        assert bodies(claim(core, info)) == ['"secret"']
        assert claim(core, info) == []


class TestQuota:
    """A project has so many keys remembered and no more."""

    @pytest.fixture
    def core(self, bridge: MemoryBridge, store: SQLiteStore) -> Any:
        core = Core(bridge, store, Limits(max_idempotency_keys=3))
        yield core
        core.close()

    def test_key_over_the_limit_is_refused_and_those_that_are_there_go_on(
        self, core: Core, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        ids = [post(core, info, "1", key=key(str(number))) for number in range(3)]
        for _ in range(2):
            with pytest.raises(QuotaExceeded, match="3 Idempotency-Keys"):
                post(core, info, "1", key=key("3"))
        assert bridge.depth(info.broker) == 3
        assert store.catalogue.count_reserved("project", 10) == 3
        assert [post(core, info, "1", key=key(str(number))) for number in range(3)] == ids
        post(core, info, "1")
        other = core.directory.ensure("another", "queue")
        post(core, other, "1", key=key("0"))

    def test_limit_is_not_asked_for_at_each_post(
        self, store: SQLiteStore, bridge: MemoryBridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        core = Core(bridge, store, Limits(max_idempotency_keys=1_000))
        info = core.directory.ensure("project", "queue")
        counts = 0
        real = core.pool.store.catalogue.count_reserved

        def count(*args: Any) -> int:
            nonlocal counts
            counts += 1
            return real(*args)

        monkeypatch.setattr(core.pool.store.catalogue, "count_reserved", count)
        for number in range(150):
            post(core, info, "1", key=key(str(number)))
        core.close()
        assert counts == 2


class TestDedupId:
    """Messages of FIFO queues that are posted again."""

    def test_same_dedup_id_gets_the_first_id_and_enqueues_nothing(
        self, core: Core, bridge: MemoryBridge, fifo: QueueInfo
    ) -> None:
        before = suppressed("dedup_id")
        first = post(core, fifo, "1", dedup_id="d")
        assert post(core, fifo, "2", dedup_id="d", group="another") == first
        assert bridge.depth(fifo.broker) == 1
        assert suppressed("dedup_id") - before == 1
        claimed = claim(core, fifo)
        assert (bodies(claimed), claimed[0].dedup_id) == (["1"], "d")
        delete(core, fifo, claimed)
        assert post(core, fifo, "3", dedup_id="d") == first
        assert claim(core, fifo) == []

    def test_window_is_five_minutes(self, core: Core, fifo: QueueInfo, clock: Callable[[int], None]) -> None:
        first = post(core, fifo, "1", dedup_id="d")
        clock(WINDOW - 5_000)
        assert post(core, fifo, "1", dedup_id="d") == first
        clock(10_000)
        assert post(core, fifo, "2", dedup_id="d") != first

    def test_other_messages_of_the_request_are_enqueued_in_order(
        self, core: Core, bridge: MemoryBridge, fifo: QueueInfo
    ) -> None:
        (b,) = post(core, fifo, "1", dedup_id="b")
        posts = [Post(b"2", dedup_id="a"), Post(b"0", dedup_id="b"), Post(b"3"), Post(b"0", dedup_id="a"), Post(b"4")]
        ids = core.messages.post(fifo.project, fifo.name, "client", posts, 100)
        assert ids[1] == b and ids[0] == ids[3] and len(set(ids)) == 4
        assert bodies(claim(core, fifo)) == ["1", "2", "3", "4"]

    def test_queues_have_dedup_ids_of_their_own(self, core: Core, fifo: QueueInfo) -> None:
        core.queues.create("project", "other", {"_fifo": True})
        other = core.directory.ensure("project", "other")
        assert post(core, fifo, "1", dedup_id="d") != post(core, other, "1", dedup_id="d")

    @pytest.mark.parametrize("enqueued", [True, False])
    def test_message_of_unknown_outcome_is_posted_again_under_its_id(
        self, core: Core, bridge: MemoryBridge, fifo: QueueInfo, fails: Callable[..., Any], enqueued: bool
    ) -> None:
        fails(OutcomeUnknown("late"), enqueued)
        with pytest.raises(OutcomeUnknown):
            post(core, fifo, "1", dedup_id="d")
        early = claim(core, fifo)
        delete(core, fifo, early)
        (id_,) = post(core, fifo, "1", dedup_id="d")
        late = claim(core, fifo)
        assert [message.id for message in [*early, *late]] == [id_]
        assert post(core, fifo, "1", dedup_id="d") == [id_]
        assert bridge.depth(fifo.broker) == 0

    def test_message_that_was_refused_may_be_posted_again(
        self, core: Core, fifo: QueueInfo, fails: Callable[..., Any]
    ) -> None:
        fails(MessageTooLarge("too large"))
        with pytest.raises(InvalidInput):
            post(core, fifo, "1", dedup_id="d")
        post(core, fifo, "2", dedup_id="d")
        assert bodies(claim(core, fifo)) == ["2"]

    def test_message_that_has_expired_since_gets_another_id(
        self, core: Core, fifo: QueueInfo, fails: Callable[..., Any], clock: Callable[[int], None]
    ) -> None:
        fails(OutcomeUnknown("late"))
        with pytest.raises(OutcomeUnknown):
            post(core, fifo, "1", dedup_id="d", ttl=60)
        clock(70_000)
        ids = post(core, fifo, "1", dedup_id="d", ttl=60)
        assert [message.id for message in claim(core, fifo)] == ids
        assert post(core, fifo, "1", dedup_id="d", ttl=60) == ids

    def test_confirmed_message_is_a_201_though_that_can_not_be_recorded(
        self, core: Core, fifo: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def down(*_: Any) -> Any:
            raise StoreUnavailable("down")

        with monkeypatch.context() as patch:
            patch.setattr(core.pool.store.catalogue, "change_all_reserved", down)
            ids = post(core, fifo, "1", dedup_id="d")
        assert post(core, fifo, "1", dedup_id="d") == ids
        assert [message.id for message in claim(core, fifo)] == ids

    def test_side_store_that_is_down_means_that_nothing_is_published(
        self, core: Core, bridge: MemoryBridge, fifo: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def down(*_: Any) -> Any:
            raise StoreUnavailable("down")

        monkeypatch.setattr(core.pool.store.catalogue, "reserve", down)
        with pytest.raises(StoreUnavailable):
            post(core, fifo, "1", dedup_id="d")
        assert bridge.depth(fifo.broker) == 0
        post(core, fifo, "2", group="g")
        assert bridge.depth(fifo.broker) == 1

    def test_of_several_requests_one_message_is_handed_out(self, core: Core, fifo: QueueInfo) -> None:
        answers = together(*[lambda: post(core, fifo, "1", dedup_id="d")] * 8)
        assert len({tuple(ids) for ids in answers}) == 1
        assert bodies(claim(core, fifo)) == ["1"]
        assert claim(core, fifo) == []

    def test_key_and_dedup_ids_go_together(
        self, core: Core, bridge: MemoryBridge, fifo: QueueInfo, fails: Callable[..., Any]
    ) -> None:
        first = post(core, fifo, "0", dedup_id="a")
        posts = [Post(b"1", dedup_id="a"), Post(b"2", dedup_id="b")]
        fails(OutcomeUnknown("late"), enqueued=True)
        with pytest.raises(OutcomeUnknown):
            core.messages.post(fifo.project, fifo.name, "client", posts, 100, key("k"))
        ids = core.messages.post(fifo.project, fifo.name, "client", posts, 100, key("k"))
        assert ids[:1] == first
        assert core.messages.post(fifo.project, fifo.name, "client", posts, 100, key("k")) == ids
        assert [message.id for message in claim(core, fifo)] == ids
        assert claim(core, fifo) == []

    def test_key_is_free_when_dedup_ids_can_not_be_looked_up(
        self, core: Core, store: SQLiteStore, fifo: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = core.pool.store.catalogue.reserve

        def reserve(scope: str, *args: Any) -> Any:
            if scope != "project":
                raise StoreUnavailable("down")
            return real(scope, *args)

        with monkeypatch.context() as patch:
            patch.setattr(core.pool.store.catalogue, "reserve", reserve)
            with pytest.raises(StoreUnavailable):
                post(core, fifo, "1", dedup_id="d", key=key("k"))
        assert store.catalogue.count_reserved("project", 10) == 0

    @pytest.mark.parametrize("fields", [{"group": "g"}, {"dedup_id": "d"}])
    def test_queue_without_groups_takes_neither(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, fields: dict[str, str]
    ) -> None:
        with pytest.raises(InvalidInput, match="_fifo"):
            core.messages.post(info.project, info.name, "client", [Post(b"1"), Post(b"2", **fields)], 100)
        assert bridge.depth(info.broker) == 0


@pytest.mark.parametrize(("error", "maybe"), [
    (OutcomeUnknown("late"), True), (BridgeUnavailable("down"), False), (QueueMissing("q"), False),
    (QueueFull("full", partly=False), False), (QueueFull("full"), True), (MessageTooLarge("large"), False),
    (MessageTooLarge("large", partly=True), True), (Unroutable("1 of 2"), True), (StoreUnavailable("down"), True),
    (InvalidInput("wrong"), False), (ValueError("a bug"), True), (SystemExit(), True),
])
def test_error_tells_whether_messages_may_be_enqueued(error: BaseException, maybe: bool) -> None:
    assert may_be_enqueued(error) is maybe


@pytest.mark.parametrize(("cause", "maybe"), [(Unroutable("1 of 2"), True), (QueueFull("full", partly=False), False)])
def test_cause_of_an_answer_tells_it_too(cause: BridgeError, maybe: bool) -> None:
    error: CoreError = Busy("try again")
    error.__cause__ = cause
    assert may_be_enqueued(error) is maybe


def test_records_are_read_as_they_were_written(core: Core) -> None:
    ids = core.ids.make(core.now(), 3)
    record = KeyedRecord(hashlib.sha256(b"").digest(), ids, 1, 2, done=True)
    assert KeyedRecord.unpack(record.pack()) == record
    assert len(record.pack()) == 49 + 3 * 16
    for confirmed in (True, False):
        assert DedupRecord.unpack(DedupRecord(ids[0], confirmed).pack()) == DedupRecord(ids[0], confirmed)


def test_request_may_run_longer_than_its_calls_take(core: Core, info: QueueInfo) -> None:
    assert keys._longest(info) == 1000 * (info.bridge.timeout + 2 * core.pool.store.timeout)
