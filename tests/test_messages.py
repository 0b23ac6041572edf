"""Posting, listing, getting, deleting and popping messages; with a backlog in the broker."""

from dataclasses import replace
from typing import Any

import pytest

from bridges.base import Batch, Envelope
from bridges.errors import BridgeUnavailable, OutcomeUnknown
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.envelopes import CIPHER_HEADER, CLIENT_HEADER
from gateway.core.errors import Forbidden, InvalidInput
from gateway.core.messages.post import Post
from gateway.core.queues.info import QueueInfo
from storage.errors import StoreUnavailable
from storage.model import Message
from storage.sqlite import SQLiteStore

UNKNOWN = "0192b0a0-0000-7000-8000-000000000000"


def post(core: Core, info: QueueInfo, *bodies: str, **fields: Any) -> list[str]:
    """Post messages; their ids."""
    posts = [Post(body.encode(), **fields) for body in bodies]
    return core.messages.post(info.project, info.name, "client", posts, 100)


def listing(core: Core, info: QueueInfo, marker: str | None = None, limit: int = 20) -> list[Message]:
    return core.messages.list(info, marker, limit, None, False, False)


def claim(core: Core, info: QueueInfo, limit: int = 20) -> list[Message]:
    return core.claims.create(info, None, None, limit)


def bodies(messages: list[Message]) -> list[str]:
    return [message.body.decode() for message in messages]


class TestPost:
    """Into the broker, or with a delay into the side-store."""

    def test_message_goes_to_the_broker_with_what_it_needs(
        self, core: Core, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        (id_,) = post(core, info, '{"a":1}', ttl=60)
        (envelope,) = bridge.fetch(info.broker, 10).envelopes
        assert (envelope.body, envelope.message_id, envelope.ttl) == (b'{"a":1}', id_, 60_000)
        assert envelope.headers == {CLIENT_HEADER: "client"}
        assert store.landed.newest(info.key) is None  # no side-store write on the way

    def test_delayed_message_waits_in_the_side_store(
        self, core: Core, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        (id_,) = post(core, info, "1", delay=60)
        assert bridge.depth(info.broker) == 0
        (message,) = store.landed.list_messages(info.key, 0, 10, delayed=True)
        assert (message.id, message.hidden_until - message.posted) == (id_, 60_000)
        assert claim(core, info) == []

    def test_queue_that_the_broker_has_lost_is_made_again(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        bridge.delete(info.broker)
        post(core, info, "1")
        assert bridge.depth(info.broker) == 1

    @pytest.mark.parametrize("error", [BridgeUnavailable("down"), OutcomeUnknown("late")])
    def test_delayed_part_of_a_failed_post_is_taken_back(
        self, core: Core, store: SQLiteStore, info: QueueInfo, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail(*_: Any) -> None:
            raise error

        monkeypatch.setattr(core.pool.bridge, "publish", fail)
        with pytest.raises(type(error)):
            core.messages.post(info.project, info.name, "client", [Post(b"1", delay=60), Post(b"2")], 100)
        assert store.landed.list_messages(info.key, 0, 10, delayed=True) == []

    @pytest.mark.parametrize(
        "fields", [{"ttl": 59}, {"ttl": 1209601}, {"delay": -1}, {"delay": 901}, {"ttl": 2**64 - 1}]
    )
    def test_value_out_of_range_posts_nothing(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, fields: dict[str, int]
    ) -> None:
        with pytest.raises(InvalidInput, match=next(iter(fields))):
            core.messages.post(info.project, info.name, "client", [Post(b"1"), Post(b"2", **fields)], 100)
        assert bridge.depth(info.broker) == 0

    def test_queues_own_size_limit_counts(self, core: Core, info: QueueInfo) -> None:
        core.queues.create(info.project, info.name, {"_max_messages_post_size": 10})
        core.messages.post(info.project, info.name, "client", [Post(b"1")], 10)
        with pytest.raises(InvalidInput, match="11 bytes"):
            core.messages.post(info.project, info.name, "client", [Post(b"1")], 11)

    def test_encrypted_queue_shows_the_broker_nothing(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo
    ) -> None:
        core.queues.create(info.project, info.name, {"_enable_encrypt_messages": True})
        info = core.directory.ensure(info.project, info.name)
        post(core, info, '"secret"')
        batch = bridge.fetch(info.broker, 1)
        assert b"secret" not in batch.envelopes[0].body
        assert CIPHER_HEADER in batch.envelopes[0].headers
        bridge.requeue(batch)
        assert bodies(claim(core, info)) == ['"secret"']


class TestRead:
    """What is asked for lands."""

    def test_walk_by_markers_sees_everything_once(self, core: Core, info: QueueInfo) -> None:
        posted = [str(number) for number in range(25)]
        for body in posted:
            post(core, info, body)
        seen: list[str] = []
        marker = None
        while page := listing(core, info, marker, 4):
            seen += bodies(page)
            marker = str(page[-1].seq)
        assert seen == posted

    def test_id_is_a_marker_too(self, core: Core, info: QueueInfo) -> None:
        ids = post(core, info, "1", "2", "3")
        listing(core, info)
        assert bodies(listing(core, info, ids[0])) == ["2", "3"]
        assert listing(core, info, UNKNOWN) == []

    @pytest.mark.parametrize("marker", ["", "a b", "1,2", "x" * 65])
    def test_marker_that_is_none_is_refused(self, core: Core, info: QueueInfo, marker: str) -> None:
        with pytest.raises(InvalidInput):
            listing(core, info, marker)

    def test_marker_beyond_everything_lands_nothing(self, core: Core, bridge: MemoryBridge, info: QueueInfo) -> None:
        post(core, info, "1")
        assert listing(core, info, "99999999999999999999") == []
        assert bridge.depth(info.broker) == 1

    def test_own_messages_are_passed_over(self, core: Core, info: QueueInfo) -> None:
        post(core, info, "1", "2")
        core.messages.post(info.project, info.name, "other", [Post(b"3")], 100)
        page = core.messages.list(info, None, 1, "client", False, False)
        assert bodies(page) == ["3"]

    def test_waiting_messages_are_found_by_id(self, core: Core, info: QueueInfo) -> None:
        ids = post(core, info, *"12345")
        found = core.messages.get(info, [ids[3], UNKNOWN, ids[1], ids[3]])
        assert bodies(found) == ["4", "2"]

    def test_looking_for_one_id_does_not_land_the_whole_backlog(
        self, core: Core, bridge: MemoryBridge, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (first,) = post(core, info, "first")
        now = core.pool.store.now()
        for number in range(200):
            now += 10_000  # more than the clocks of two gateways may differ
            monkeypatch.setattr(core.pool.store, "now", lambda now=now: now)
            post(core, info, str(number))
        core.messages.get(info, [first])
        claimed = claim(core, info, 1)
        core.messages.delete(info, claimed[0].id, claimed[0].claim)
        assert core.messages.get(info, [first]) == []
        assert bridge.depth(info.broker) >= 150

    def test_stats_count_both_places(self, core: Core, info: QueueInfo) -> None:
        ids = post(core, info, *"12345")
        claim(core, info, 2)
        landed, waiting = core.messages.stats(info)
        assert (landed.claimed, landed.free, waiting) == (2, 0, 3)
        assert landed.oldest is not None and landed.oldest.id == ids[0]
        assert landed.newest is not None and landed.newest.id == ids[4]


class TestDelete:
    """Landed or not, claimed or not."""

    def test_waiting_message_is_deleted(self, core: Core, info: QueueInfo) -> None:
        ids = post(core, info, "1", "2")
        core.messages.delete(info, ids[0], None)
        assert bodies(claim(core, info)) == ["2"]

    def test_message_far_back_gets_a_tombstone_and_never_comes(
        self, core: Core, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        ids = [id_ for number in range(100) for id_ in post(core, info, str(number))]
        core.messages.delete(info, ids[-1], None)
        assert bridge.depth(info.broker) > 0  # so it was not found, and nobody landed everything for it
        with store._database.read() as db:
            assert db.execute("SELECT id FROM tombstones").fetchall() == [(ids[-1],)]
        got: list[str] = []
        while batch := claim(core, info):
            got += bodies(batch)
        assert got == [str(number) for number in range(99)]

    def test_claimed_message_needs_its_claim(self, core: Core, info: QueueInfo) -> None:
        post(core, info, "1")
        (message,) = claim(core, info)
        with pytest.raises(Forbidden):
            core.messages.delete(info, message.id, None)
        with pytest.raises(Forbidden):
            core.messages.delete(info, message.id, "another")
        core.messages.delete(info, message.id, message.claim)
        assert core.messages.get(info, [message.id]) == []

    def test_claim_that_is_over_is_refused(self, core: Core, info: QueueInfo) -> None:
        post(core, info, "1")
        (message,) = claim(core, info)
        core.claims.release(info, str(message.claim))
        with pytest.raises(InvalidInput):
            core.messages.delete(info, message.id, message.claim)
        assert bodies(claim(core, info)) == ["1"]

    @pytest.mark.parametrize("claim_id", [None, "claim"])
    def test_deleting_what_is_not_there_does_nothing(self, core: Core, info: QueueInfo, claim_id: str | None) -> None:
        core.messages.delete(info, UNKNOWN, claim_id)
        core.messages.delete(info, "native-id", claim_id)

    def test_of_many_the_claimed_ones_stay(self, core: Core, info: QueueInfo) -> None:
        ids = post(core, info, *"1234")
        ours, theirs = claim(core, info, 1), claim(core, info, 1)
        assert core.messages.delete_many(info, ids, [str(ours[0].claim)]) == ({theirs[0].id}, True)
        assert bodies(core.messages.get(info, ids)) == ["2"]

    def test_pop_takes_the_oldest_for_good(self, core: Core, info: QueueInfo) -> None:
        post(core, info, *"123")
        assert bodies(core.messages.pop(info, 2)) == ["1", "2"]
        assert bodies(core.messages.pop(info, 2)) == ["3"]
        assert core.messages.pop(info, 2) == []

    def test_pop_of_the_backlog_lands_nothing(
        self, core: Core, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        post(core, info, *"12")
        popped = core.messages.pop(info, 5)
        assert [(m.body, m.claim, m.claims) for m in popped] == [(b"1", None, 0), (b"2", None, 0)]
        assert bridge.depth(info.broker) == 0
        assert store.landed.newest(info.key) is None

    def test_pop_takes_what_has_landed_before_the_backlog(self, core: Core, info: QueueInfo) -> None:
        post(core, info, *"123")
        assert bodies(listing(core, info, limit=1)) == ["1"]
        core.messages.post(info.project, info.name, "client", [Post(b"4")], 100)
        assert bodies(core.messages.pop(info, 3)) == ["1", "2", "3"]
        assert bodies(core.messages.pop(info, 3)) == ["4"]

    def test_pop_leaves_out_what_was_deleted_or_has_landed(
        self, core: Core, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        """A copy that the broker delivers again, and one that was deleted while it waited."""
        ids = post(core, info, *"123")
        waiting = bridge.fetch(info.broker, 3)
        copies = [replace(envelope) for envelope in waiting.envelopes]
        bridge.requeue(waiting)
        assert bodies(claim(core, info, 1)) == ["1"]
        bridge.publish(info.broker, copies[:1])
        store.landed.tombstone(info.key, {ids[1]: store.now() + 60_000})
        assert bodies(core.messages.pop(info, 5)) == ["3"]
        assert core.messages.pop(info, 5) == []
        assert bridge.depth(info.broker) == 0

    def test_pop_of_a_native_message_goes_by_the_rules_of_landing(
        self, core: Core, bridge: MemoryBridge, store: SQLiteStore, info: QueueInfo
    ) -> None:
        """An id that a native producer uses twice is no reason to lose a message."""
        bridge.publish(info.broker, [Envelope(b'"a"', message_id="same")])
        assert bodies(claim(core, info, 1)) == ['"a"']
        bridge.publish(info.broker, [Envelope(b'"b"', message_id="same")])
        assert bodies(core.messages.pop(info, 5)) == ['"b"']

    def test_pop_whose_acknowledgement_fails_is_answered(
        self, core: Core, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The broker may have got it: to answer 503 could lose the message, to answer can only repeat it."""
        def lost(batch: Batch) -> None:
            raise BridgeUnavailable("gone")

        post(core, info, "1")
        monkeypatch.setattr(info.bridge, "settle", lost)
        assert bodies(core.messages.pop(info, 1)) == ["1"]

    def test_pop_whose_look_at_the_side_store_fails_loses_nothing(
        self, core: Core, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def down(q: str, ids: list[str]) -> set[str]:
            raise StoreUnavailable("down")

        post(core, info, *"12")
        with monkeypatch.context() as patch:
            patch.setattr(core.pool.store.landed, "landed_or_deleted", down)
            with pytest.raises(StoreUnavailable):
                core.messages.pop(info, 5)
        assert bodies(core.messages.pop(info, 5)) == ["1", "2"]

    def test_pop_that_can_not_delete_what_has_landed_answers_the_rest(
        self, core: Core, info: QueueInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def down(*_: Any) -> int:
            raise StoreUnavailable("down")

        post(core, info, *"12")
        assert bodies(listing(core, info, limit=1)) == ["1"]
        post(core, info, "3")
        monkeypatch.setattr(core.pool.store.landed, "delete_claimed", down)
        assert bodies(core.messages.pop(info, 5)) == ["2", "3"]

    def test_purge_empties_both_places(self, core: Core, info: QueueInfo) -> None:
        post(core, info, *"1234")
        claim(core, info, 1)
        core.messages.purge(info.project, info.name)
        stats, waiting = core.messages.stats(info)
        assert (stats.free, stats.claimed, stats.newest, waiting) == (0, 0, None, 0)


class TestWithoutABacklog:
    """The loopback bridge: a post lands at once."""

    @pytest.fixture
    def core(self, store: SQLiteStore) -> Any:
        from bridges.loopback import LoopbackBridge

        core = Core(LoopbackBridge("loopback://", None), store, Limits())
        yield core
        core.close()

    def test_life_of_a_message(self, core: Core, info: QueueInfo) -> None:
        ids = post(core, info, "1", "2", "3")
        assert bodies(listing(core, info)) == ["1", "2", "3"]
        (first,) = claim(core, info, 1)
        core.messages.delete(info, first.id, first.claim)
        core.messages.delete(info, ids[1], None)
        assert bodies(core.messages.pop(info, 5)) == ["3"]
        assert core.messages.get(info, ids) == []

    def test_deleting_unknown_ids_leaves_no_tombstones(
        self, core: Core, store: SQLiteStore, info: QueueInfo
    ) -> None:
        (id_,) = core.ids.make(core.pool.store.now())
        core.messages.delete(info, id_, None)
        with store._database.read() as db:
            assert db.execute("SELECT count(*) FROM tombstones").fetchone() == (0,)
