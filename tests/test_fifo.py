"""FIFO queues: within a group messages are handed out in the order of their posts, to one claim at a time."""

from typing import Any

import pytest

from bridges.errors import BridgeUnavailable
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.fifo import round as rounds
from gateway.core.queues.info import QueueInfo
from gateway.core.seal import KEY_SIZE, Seal
from gateway.core.sealing import Sealing
from storage.model import Message
from storage.sqlite import SQLiteStore
from storage.suite.support import Clock
from tests.fifo import HOUR, IDS, claim, delete, fifo, names, ordered, publish, release

__all__ = ["ordered"]


class TestOrder:
    """What claims, pops and lists get of groups."""

    def test_group_is_claimed_in_order_one_claim_at_a_time(self, ordered: Core) -> None:
        info = fifo(ordered)
        publish(info, "a-1", "a-2", "a-3", "b-1")
        first = claim(ordered, info, 1)
        assert names(first) == ["a-1"]
        other = claim(ordered, info)
        assert names(other) == ["b-1"]
        assert claim(ordered, info) == []
        delete(info, first)
        assert names(claim(ordered, info, 2)) == ["a-2", "a-3"]

    def test_without_groups_all_messages_are_one(self, ordered: Core) -> None:
        info = fifo(ordered)
        publish(info, "1", "2", "3")
        held = claim(ordered, info, 2)
        assert names(held) == ["1", "2"]
        assert claim(ordered, info) == []

    @pytest.mark.parametrize("how", ["release", "expiry"])
    def test_what_comes_back_comes_before_anything_after_it(
        self, ordered: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        info = fifo(ordered)
        publish(info, "a-1", "a-2")
        held = claim(ordered, info, 1)
        publish(info, "a-3", "b-1")
        if how == "release":
            release(ordered, info, held)
        else:
            clock = Clock(store.now())
            monkeypatch.setattr(store, "now", clock)
            clock.advance(61_000)
        assert names(claim(ordered, info, 3)) == ["a-1", "a-2", "a-3"]

    def test_pop_takes_no_group_that_is_claimed(self, ordered: Core) -> None:
        info = fifo(ordered)
        publish(info, "a-1", "a-2", "b-1", "b-2")
        held = claim(ordered, info, 1)
        assert names(ordered.messages.pop(info, 20)) == ["b-1", "b-2"]
        assert ordered.messages.pop(info, 20) == []
        release(ordered, info, held)
        assert names(ordered.messages.pop(info, 1)) == ["a-1"]
        assert names(ordered.messages.pop(info, 20)) == ["a-2"]
        assert ordered.messages.stats(info)[0].claimed == 0

    def test_deleted_message_holds_up_nothing(self, ordered: Core) -> None:
        info = fifo(ordered)
        first, *_ = publish(info, "a-1", "a-2")
        assert ordered.messages.delete(info, first.id, None)
        assert names(claim(ordered, info)) == ["a-2"]

    def test_list_shows_all_in_order(self, ordered: Core) -> None:
        info = fifo(ordered)
        publish(info, "a-1", "b-1", "a-2", "a-3")
        claim(ordered, info, 1)
        assert names(ordered.messages.list(info, None, 10, None, True, True)) == ["a-1", "b-1", "a-2", "a-3"]
        assert names(ordered.messages.list(info, None, 10, None, False, False)) == ["b-1", "a-2", "a-3"]
        assert names(claim(ordered, info, 1)) == ["b-1"]

    def test_message_found_by_its_id_has_its_group(self, ordered: Core) -> None:
        info = fifo(ordered)
        _, second = publish(info, "a-1", "b-1", dedup_id="once")
        (found,) = ordered.messages.get(info, [second.id])
        assert (found.group, found.dedup_id) == ("b", "once")

    def test_delayed_message_delays_its_group_and_no_other(
        self, ordered: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = fifo(ordered)
        publish(info, "a-1")
        publish(info, "a-2", "b-1", hidden_until=store.now() + 5000)
        publish(info, "a-3", "c-1", "b-2")
        assert names(claim(ordered, info)) == ["a-1", "c-1"]
        clock = Clock(store.now())
        monkeypatch.setattr(store, "now", clock)
        clock.advance(5001)
        assert names(claim(ordered, info)) == ["b-1", "b-2"]
        assert names(ordered.messages.list(info, None, 10, None, True, True)) == [
            "a-1", "a-2", "b-1", "a-3", "c-1", "b-2"
        ]

    def test_claim_takes_many_of_few_groups_and_leaves_others_to_others(self, ordered: Core) -> None:
        info = fifo(ordered)
        publish(info, *(f"{group}-{number}" for number in range(10) for group in "abcd"))
        claims = [claim(ordered, info, 10) for _ in range(4)]
        assert [{each.group for each in messages} for messages in claims] == [{group} for group in "abcd"]
        assert [len(messages) for messages in claims] == [10] * 4

    def test_blocked_group_in_front_hides_no_other(self, ordered: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        info = fifo(ordered)
        publish(info, *(f"a-{number}" for number in range(250)), "b-1")
        claim(ordered, info, 1)
        assert names(claim(ordered, info)) == ["b-1"]

    def test_what_lands_for_claims_has_a_bound(
        self, core: Core, bridge: MemoryBridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rounds, "MOST_LANDED", 100)
        info = fifo(core)
        publish(info, *(f"a-{number}" for number in range(250)), "b-1")
        held = claim(core, info, 1)
        assert claim(core, info) == []
        assert bridge.depth(info.broker) == 151
        delete(info, held)
        assert names(claim(core, info, 2)) == ["a-1", "a-2"]

    def test_gateway_that_cannot_open_a_message_leaves_its_group_alone(
        self, bridge: MemoryBridge, store: SQLiteStore
    ) -> None:
        knowing = Core(bridge, store, Limits(), Seal(bytes(KEY_SIZE)))
        lacking = Core(bridge, store, Limits(), Seal())
        try:
            info = fifo(knowing)
            publish(info, "a-1")
            now = store.now()
            sealed = Message(IDS.make(now)[0], now, now + HOUR, b'"a-2"', "client", group="a")
            Sealing(Seal(bytes(KEY_SIZE))).seal("project", sealed)
            info.pool.publishing.publish(info, [sealed])
            publish(info, "a-3", "b-1")
            there = lacking.directory.ensure("project", "fifo")
            got = claim(lacking, there)
            assert names(got) == ["a-1", "b-1"]
            delete(there, got)
            assert claim(lacking, there) == []
            assert names(claim(knowing, info)) == ["a-2", "a-3"]
        finally:
            knowing.close()
            lacking.close()

    def test_queues_of_others_kinds_keep_no_groups(self, core: Core, info: QueueInfo) -> None:
        publish(info, "a-1", "a-2")
        assert len(claim(core, info, 1)) == len(claim(core, info, 1)) == 1
        assert [message.group for message in core.messages.list(info, None, 10, None, True, True)] == ["", ""]


class TestDeadLetters:
    """What was claimed too often leaves its group, and those after it come next."""

    @pytest.mark.parametrize("in_order", [True, False])
    def test_group_goes_on_after_its_dead(self, ordered: Core, in_order: bool) -> None:
        info = fifo(ordered, _max_claim_count=1, _dead_letter_queue="dead")
        letters = fifo(ordered, "dead") if in_order else ordered.directory.ensure("project", "dead")
        publish(info, "a-1", "a-2", "b-1", dedup_id="once")
        publish(info, "a-3")
        release(ordered, info, claim(ordered, info, 2))
        assert names(claim(ordered, info)) == ["b-1"]  # the group of the dead is blocked while they move
        assert names(claim(ordered, info)) == ["a-3"]
        dead = claim(ordered, letters)
        assert names(dead) == ["a-1", "a-2"]
        assert {(each.group, each.dedup_id) for each in dead} == {("a", "once") if in_order else ("", "")}

    def test_claim_that_would_find_nothing_gets_what_comes_after_the_dead(self, ordered: Core) -> None:
        info = fifo(ordered, _max_claim_count=1, _dead_letter_queue="dead")
        publish(info, "a-1", "a-2")
        release(ordered, info, claim(ordered, info, 1))
        assert names(claim(ordered, info)) == ["a-2"]

    def test_dead_that_cannot_go_hold_up_their_group_alone(
        self, core: Core, bridge: MemoryBridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = fifo(core, _max_claim_count=1, _dead_letter_queue="dead")
        core.directory.ensure("project", "dead")
        publish(info, "a-1", "a-2", "b-1")
        release(core, info, claim(core, info, 1))
        working = bridge.publish

        def down(*_: Any, **__: Any) -> None:
            raise BridgeUnavailable("down")

        monkeypatch.setattr(core.pool.publishing._bridge, "publish", down)
        assert names(claim(core, info)) == ["b-1"]
        monkeypatch.setattr(core.pool.publishing._bridge, "publish", working)
        assert claim(core, info) == []  # a minute later they are tried again
        assert [each.claim is not None for each in core.messages.list(info, None, 9, None, True, True)] == [
            True, False, True
        ]

    def test_letters_without_a_queue_to_go_to_are_claimed_again(self, ordered: Core) -> None:
        info = fifo(ordered, _max_claim_count=1)
        publish(info, "a-1", "a-2")
        release(ordered, info, claim(ordered, info, 1))
        assert names(claim(ordered, info)) == ["a-1", "a-2"]
