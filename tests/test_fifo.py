"""FIFO queues: within a group messages are handed out in the order of their posts, to one claim at a time."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, pairwise
from typing import Any

import orjson
import pytest

from bridges.base import Envelope
from bridges.errors import BridgeUnavailable
from bridges.loopback import LoopbackBridge
from bridges.memory import MemoryBridge
from gateway.config.limits import Limits
from gateway.core.core import Core
from gateway.core.demand import Count
from gateway.core.envelopes import CLIENT_HEADER, DEDUP_HEADER, GROUP_HEADER, HIDDEN_HEADER, envelope_of, is_label
from gateway.core.errors import Busy, Conflict, InvalidInput
from gateway.core.fifo import round as rounds
from gateway.core.fifo.blocked import BLOCKED
from gateway.core.fifo.sharing import looked_at, not_after, share_out
from gateway.core.ids import IdMaker
from gateway.core.pools.pool import Pool
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.names import TOPICS
from gateway.core.seal import KEY_SIZE, Seal
from gateway.core.sealing import Sealing
from gateway.observe.metrics import BLOCKED_GROUPS, BLOCKED_SECONDS, STORE_CALLS, timed
from storage.errors import LeaseLost, QueueGone, StoreUnavailable
from storage.model import Claim, Message
from storage.sqlite import SQLiteStore
from storage.suite import together
from storage.suite.support import Clock
from tests.threads import DEADLINE, in_background

HOUR = 3_600_000
MINUTE = 60_000


@pytest.fixture(params=["memory", "loopback"])
def ordered(request: pytest.FixtureRequest, bridge: MemoryBridge, store: SQLiteStore) -> Iterator[Core]:
    """A gateway with a broker, and one without."""
    core = Core(bridge if request.param == "memory" else LoopbackBridge("loopback://", None), store, Limits())
    yield core
    core.close()


def fifo(core: Core, name: str = "fifo", **metadata: Any) -> QueueInfo:
    core.queues.create("project", name, {"_fifo": True, **metadata})
    return core.directory.ensure("project", name)


def publish(info: QueueInfo, *names: str, **fields: Any) -> list[Message]:
    """Post messages whose names are their bodies; the part before a dash, if there is one, is the group."""
    now = info.pool.store.now()
    messages = [
        Message(id_, now, now + HOUR, orjson.dumps(name), "client", group=name.partition("-")[0] if "-" in name else "",
                **fields)
        for id_, name in zip(IDS.make(now, len(names)), names, strict=True)
    ]
    info.pool.publishing.publish(info, messages)
    return messages


def landed(core: Core, info: QueueInfo, *names: str) -> None:
    """Post messages and have them land."""
    publish(info, *names)
    assert len(core.messages.list(info, None, 100, None, True, True)) == len(names)


IDS = IdMaker()


def claim(core: Core, info: QueueInfo, limit: int = 20) -> list[Message]:
    return core.claims.create(info, 60, 60, limit)


def names(messages: Sequence[Message]) -> list[str]:
    return [str(orjson.loads(message.body)) for message in messages]


def release(core: Core, info: QueueInfo, claimed: Sequence[Message]) -> None:
    assert claimed[0].claim
    assert core.claims.release(info, claimed[0].claim)


def delete(info: QueueInfo, claimed: Sequence[Message]) -> None:
    assert claimed[0].claim
    landed = info.pool.store.landed
    assert landed.delete_claimed(info.key, [each.id for each in claimed], [claimed[0].claim]) == len(claimed)


def elsewhere(info: QueueInfo) -> QueueInfo:
    """The queue as another gateway has it, on the same broker and side-store."""
    store = timed(info.pool.store, STORE_CALLS, "default", parts=("landed",))  # to be broken for this one alone
    pool = Pool(info.pool.name, info.bridge, store, IdMaker(), Sealing(Seal()))
    return replace(info, pool=pool)


def taken(info: QueueInfo, name: str, limit: int = 20) -> list[Message]:
    """Claim through the pool of ``info`` alone."""
    expires = info.pool.store.now() + MINUTE
    return info.pool.taking.claim(
        info, Claim(name, 60, expires, expires), limit, lambda info, free, burials=None: free
    )


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


class TestEnvelopes:
    """Groups, dedup ids and delays on their way through the broker."""

    def test_native_message_has_the_group_that_jms_clients_set(self, core: Core, bridge: MemoryBridge) -> None:
        info = fifo(core)
        bridge.publish(info.broker, [
            Envelope(b"1", headers={GROUP_HEADER: "a"}), Envelope(b"2", headers={GROUP_HEADER: "a" * 129}),
            Envelope(b"3", headers={GROUP_HEADER: "\n"}), Envelope(b"4", headers={GROUP_HEADER: 1}),
        ])
        assert [message.group for message in claim(core, info)] == ["a", "", "", ""]

    def test_native_message_is_not_hidden(self, core: Core, bridge: MemoryBridge) -> None:
        info = fifo(core)
        bridge.publish(info.broker, [Envelope(b"1", headers={HIDDEN_HEADER: core.now() + HOUR})])
        assert [message.body for message in claim(core, info)] == [b"1"]

    def test_headers_are_those_of_a_message(self) -> None:
        message = Message("id", 1, 2, b"1", "client", hidden_until=3, group="a", dedup_id="b")
        assert envelope_of(message).headers == {
            CLIENT_HEADER: "client", GROUP_HEADER: "a", DEDUP_HEADER: "b", HIDDEN_HEADER: 3
        }
        assert envelope_of(replace(message, hidden_until=0, group="", dedup_id="")).headers == {CLIENT_HEADER: "client"}

    @pytest.mark.parametrize(
        ("text", "fits"), [("a", True), ("ü" * 128, True), ("", False), ("a" * 129, False), ("\t", False), (1, False)]
    )
    def test_label(self, text: Any, fits: bool) -> None:
        assert is_label(text) is fits

    @pytest.mark.parametrize("take", ["claim", "pop"])
    def test_copy_of_a_delayed_message_is_hidden_in_an_ordinary_queue(
        self, core: Core, info: QueueInfo, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, take: str
    ) -> None:
        publish(info, "1", hidden_until=store.now() + 5000)
        publish(info, "2")

        def get() -> Sequence[Message]:
            return claim(core, info) if take == "claim" else core.messages.pop(info, 20)

        assert names(get()) == ["2"]
        clock = Clock(store.now())
        monkeypatch.setattr(store, "now", clock)
        clock.advance(5001)
        assert names(get()) == ["1"]


class TestMetadata:
    """``_fifo`` is set when a queue is created."""

    @pytest.mark.parametrize("before", [True, False])
    def test_it_cannot_be_changed(self, core: Core, before: bool) -> None:
        core.queues.create("project", "queue", {"_fifo": before, "a": 1})
        with pytest.raises(Conflict, match="_fifo"):
            core.queues.create("project", "queue", {"_fifo": not before})
        with pytest.raises(Conflict, match="_fifo"):
            core.queues.patch(
                "project", "queue", [{"op": "replace", "path": "/metadata/_fifo", "value": not before}]
            )
        assert core.queues.create("project", "queue", {"_fifo": before, "a": 2}) is False
        assert core.queues.patch("project", "queue", [{"op": "remove", "path": "/metadata/a"}])["_fifo"] is before

    def test_queue_of_that_kind_keeps_it_when_metadata_leaves_it_out(self, core: Core) -> None:
        core.queues.create("project", "queue", {"_fifo": True})
        with pytest.raises(Conflict, match="repeat it"):
            core.queues.create("project", "queue", {"a": 1})
        with pytest.raises(Conflict, match="repeat it"):
            core.queues.patch("project", "queue", [{"op": "remove", "path": "/metadata/_fifo"}])
        assert core.queues.create("project", "queue", None) is False
        assert core.queues.metadata("project", "queue")["_fifo"] is True

    def test_queue_that_was_created_by_a_post_has_none(self, core: Core, info: QueueInfo) -> None:
        assert core.queues.metadata(info.project, info.name)["_fifo"] is False
        with pytest.raises(Conflict, match="created without _fifo"):
            core.queues.create(info.project, info.name, {"_fifo": True})

    def test_topic_has_none(self, core: Core) -> None:
        with pytest.raises(InvalidInput, match="topic"):
            core.queues.create(f"{TOPICS}project", "topic", {"_fifo": True})

    def test_broker_is_told_as_the_queue_is_created(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        created: dict[str, bool] = {}

        def create(queue: str, in_order: bool = False) -> None:
            created[queue] = in_order

        monkeypatch.setattr(core.pool.bridge, "create", create)
        info, other = fifo(core), core.directory.ensure("project", "queue")
        assert created == {info.broker: True, other.broker: False}


class TestTogether:
    """Many claims at once, of one gateway and of several."""

    def test_claims_that_wait_are_served_together(self, ordered: Core) -> None:
        info = fifo(ordered)
        publish(info, *(f"{group}-{number}" for group in "abcdefgh" for number in range(3)))
        got = together(*[lambda: claim(ordered, info, 3)] * 8)
        assert sorted(map(names, got)) == [[f"{group}-{number}" for number in range(3)] for group in "abcdefgh"]

    def test_groups_stay_in_order_whoever_claims(self, ordered: Core) -> None:
        info = fifo(ordered)
        places = [info, elsewhere(info), elsewhere(info)]
        total, groups = 240, "abcd"
        numbers = {group: count() for group in groups}
        got: dict[str, list[int]] = defaultdict(list)
        held: dict[str, str] = {}
        mistakes: list[str] = []
        lock, ids = threading.Lock(), count()

        def produce() -> None:
            for index in range(total):
                group = groups[index % len(groups)]
                publish(info, f"{group}-{next(numbers[group])}")

        def consume(place: QueueInfo) -> None:
            deadline = time.monotonic() + DEADLINE
            while sum(map(len, got.values())) < total and time.monotonic() < deadline:
                name = f"claim-{next(ids)}"
                try:
                    messages = taken(place, name, 3)
                except Busy:
                    continue
                with lock:
                    for message in messages:
                        if held.get(message.group, name) != name:
                            mistakes.append(f"{message.group} is held twice")
                        held[message.group] = name
                        got[message.group].append(int(names([message])[0].partition("-")[2]))
                with lock:
                    for message in messages:
                        held.pop(message.group, None)
                if messages:
                    delete(place, messages)

        together(produce, *[lambda place=place: consume(place) for place in (*places, *places)])
        assert mistakes == []
        assert got == {group: list(range(total // len(groups))) for group in groups}

    def test_lists_and_claims_get_along(self, core: Core) -> None:
        info = fifo(core)
        there = elsewhere(info)
        publish(info, *(f"a-{number}" for number in range(200)))

        def walk() -> list[str]:
            seen: list[Message] = []
            while page := core.messages.list(info, str(seen[-1].seq) if seen else None, 7, None, True, True):
                seen += page
            return names(seen)

        def drain() -> list[str]:
            popped: list[Message] = []
            while len(popped) < 200:
                popped += (messages := taken(there, f"claim-{len(popped)}", 9))
                if messages:
                    delete(there, messages)
            return names(popped)

        seen, popped = together(walk, drain)
        assert popped == [f"a-{number}" for number in range(200)]
        assert all(int(a[2:]) < int(b[2:]) for a, b in pairwise(seen))


class TestFaults:
    """Gateways that are stopped, brokers and side-stores that are down."""

    def test_gateway_that_was_stopped_before_it_landed_gives_back_what_it_has(
        self, core: Core, store: SQLiteStore
    ) -> None:
        info, late = fifo(core), elsewhere(fifo(core))
        publish(info, "a-1", "a-2")
        land = late.pool.store.landed.land
        fetched, go_on = threading.Event(), threading.Event()

        def slow(*args: Any, **how: Any) -> Any:
            fetched.set()
            assert go_on.wait(DEADLINE)
            return land(*args, **how)

        late.pool.store.landed.land = slow
        waiting = in_background(lambda: taken(late, "late", 1))
        assert fetched.wait(DEADLINE)
        end_lease(store, info)
        publish(info, "a-3")
        with pytest.raises(Busy, match="in its hands"):  # the broker gives them to nobody else
            taken(info, "soon", 1)
        go_on.set()
        first = waiting.result(DEADLINE)
        assert names(first) == ["a-1"]
        delete(info, first)
        assert names(taken(info, "then")) == ["a-2", "a-3"]

    def test_gateway_that_was_stopped_before_it_claimed_claims_nothing(self, core: Core, store: SQLiteStore) -> None:
        info, late = fifo(core), elsewhere(fifo(core))
        landed(core, info, "a-1", "a-2", "a-3")
        write = late.pool.store.landed.claim_in_groups
        found, go_on = threading.Event(), threading.Event()

        def slow(*args: Any) -> Any:
            if not found.is_set():
                found.set()
                assert go_on.wait(DEADLINE)
            return write(*args)

        late.pool.store.landed.claim_in_groups = slow
        waiting = in_background(lambda: taken(late, "late", 1))
        assert found.wait(DEADLINE)
        end_lease(store, info)
        held = taken(info, "soon", 1)
        assert names(held) == ["a-1"]
        go_on.set()
        assert waiting.result(DEADLINE) == []
        delete(info, held)
        assert names(taken(info, "then")) == ["a-2", "a-3"]

    def test_gateway_that_was_stopped_while_it_landed_in_a_claim_has_no_claim(
        self, core: Core, store: SQLiteStore
    ) -> None:
        info, late = fifo(core), elsewhere(fifo(core))
        publish(info, "a-1", "a-2")
        land, tried = late.pool.store.landed.land, threading.Event()

        def slow(*args: Any, **how: Any) -> Any:
            if not tried.is_set():
                tried.set()
                end_lease(store, info)
            return land(*args, **how)

        late.pool.store.landed.land = slow
        got = taken(late, "late", 1)
        assert (names(got), got[0].claims) == (["a-1"], 1)
        assert taken(info, "soon") == []
        delete(info, got)
        assert names(taken(info, "then")) == ["a-2"]

    def test_what_has_landed_is_handed_out_while_the_broker_is_down(
        self, core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = fifo(core)
        publish(info, "a-1", "a-2", "b-1")
        release(core, info, claim(core, info))
        publish(info, "a-3")

        def down(*_: Any, **__: Any) -> Any:
            raise BridgeUnavailable("down")

        monkeypatch.setattr(core.pool.bridge, "depth", down)
        assert names(claim(core, info)) == ["a-1", "a-2", "b-1"]
        with pytest.raises(BridgeUnavailable):
            claim(core, info)

    @pytest.mark.parametrize("call", ["find_in_groups", "claim_in_groups", "acquire_lease", "land"])
    def test_failure_of_the_side_store_is_told_and_loses_nothing(
        self, core: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        info = fifo(core)
        (publish if call == "land" else partial(landed, core))(info, "a-1", "a-2")

        def down(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("down")

        with monkeypatch.context() as patched:
            patched.setattr(core.pool.store.landed, call, down)
            errors = together(*[lambda: raised(lambda: claim(core, info))] * 3)
        assert any(isinstance(error, StoreUnavailable) for error in errors)
        assert all(isinstance(error, StoreUnavailable | Busy) for error in errors)
        end_lease(store, info)  # a write that may still happen keeps it
        assert names(claim(core, info)) == ["a-1", "a-2"]

    def test_lease_of_a_gateway_that_reads_only_is_free_at_once_after_a_failure(
        self, core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = fifo(core)
        publish(info, "a-1")

        def down(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("down")

        with monkeypatch.context() as patched:
            patched.setattr(core.pool.store.landed, "find_in_groups", down)
            assert isinstance(raised(lambda: claim(core, info)), StoreUnavailable)
        assert names(taken(elsewhere(info), "next")) == ["a-1"]

    def test_queue_that_was_deleted_and_created_again_is_the_new_one(self, core: Core) -> None:
        info = fifo(core)
        publish(info, "a-1")
        core.queues.delete("project", "fifo")
        fifo(core)
        assert isinstance(raised(lambda: claim(core, info)), QueueGone)
        assert core.directory.on("project", "fifo", lambda info: claim(core, info)) == []

    def test_queue_whose_lease_is_lost_again_and_again_is_busy(
        self, core: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = fifo(core)
        landed(core, info, "a-1")
        monkeypatch.setattr("gateway.core.fifo.taking.LANDING_BUDGET", 0.3)
        monkeypatch.setattr("gateway.core.fifo.lines.AT_LEAST", 0.1)

        def lost(q: str, *_: Any) -> Any:
            end_lease(store, info)
            raise LeaseLost(q)

        monkeypatch.setattr(core.pool.store.landed, "claim_in_groups", lost)
        with pytest.raises(Busy, match="being landed"):
            claim(core, info)

    def test_lease_that_others_keep_is_waited_for(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        info = fifo(core)
        publish(info, "a-1")
        core.pool.store.landed.acquire_lease(info.key, "other", 0.2)
        assert names(claim(core, info)) == ["a-1"]
        core.pool.store.landed.acquire_lease(info.key, "other", 60.0)
        monkeypatch.setattr("gateway.core.fifo.taking.LANDING_BUDGET", 0.1)
        monkeypatch.setattr("gateway.core.fifo.lines.AT_LEAST", 0.1)
        with pytest.raises(Busy):
            claim(core, info)

    def test_what_lists_land_goes_back_when_their_lease_is_lost(
        self, core: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = fifo(core)
        messages = publish(info, "a-1", "a-2")
        land, landings = core.pool.store.landed.land, []

        def late(*args: Any, **how: Any) -> Any:
            landings.append([message.id for message in args[1]])
            if len(landings) == 1:
                end_lease(store, info)
                assert names(taken(elsewhere(info), "nothing")) == []
            return land(*args, **how)

        monkeypatch.setattr("gateway.core.fifo.taking.PATIENCE", 0.0)
        monkeypatch.setattr(core.pool.store.landed, "land", late)
        assert names(core.messages.list(info, None, 10, None, False, False)) == ["a-1", "a-2"]
        assert landings == [[each.id for each in messages]] * 2


class TestIdle:
    """Those who ask an empty queue again and again."""

    def test_empty_queue_costs_no_lease(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        info = fifo(core)
        assert claim(core, info) == []
        leases: list[str] = []
        take = core.pool.store.landed.acquire_lease
        monkeypatch.setattr(
            core.pool.store.landed, "acquire_lease", lambda q, *rest: leases.append(q) or take(q, *rest)
        )
        assert claim(core, info) == []
        assert leases == []
        publish(info, "a-1")
        assert names(claim(core, info)) == ["a-1"]
        assert leases == [info.key]

    def test_what_another_gateway_is_just_landing_is_waited_for(
        self, core: Core, bridge: MemoryBridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info, there = fifo(core), elsewhere(fifo(core))
        assert claim(core, info) == []
        publish(info, "a-1")
        land, fetched, go_on = there.pool.store.landed.land, threading.Event(), threading.Event()

        def slow(*args: Any, **how: Any) -> Any:
            fetched.set()
            assert go_on.wait(DEADLINE)
            return land(*args, **how)

        there.pool.store.landed.land = slow
        listing = in_background(lambda: there.pool.landing.land_free(there, rest_of(1)))
        assert fetched.wait(DEADLINE)
        claiming = in_background(lambda: claim(core, info))
        with pytest.raises(TimeoutError):
            claiming.result(0.1)
        go_on.set()
        assert names(claiming.result(DEADLINE)) == ["a-1"]
        listing.result(DEADLINE)


class TestMetrics:
    """Groups that wait for a claim to end."""

    def test_blocked_groups_are_counted(self, core: Core, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(BLOCKED, "_looks", {})
        info, other = fifo(core), fifo(core, "other")
        publish(info, "a-1", "b-1")
        publish(other, "c-1")
        held = claim(core, info), claim(core, other)
        clock = Clock(store.now())
        monkeypatch.setattr(store, "now", clock)
        monkeypatch.setattr(core.pool.store, "now", clock)
        clock.advance(30_000)
        assert claim(core, info) == claim(core, other) == []
        BLOCKED.show()
        assert BLOCKED_GROUPS._value.get() == 3
        assert 30 <= BLOCKED_SECONDS._value.get() < 40
        delete(info, held[0])
        assert claim(core, info) == []
        BLOCKED.show()
        assert BLOCKED_GROUPS._value.get() == 1
        monkeypatch.setattr("gateway.core.fifo.blocked.COUNTED_FOR", 0.0)
        BLOCKED.show()
        assert BLOCKED_GROUPS._value.get() == BLOCKED_SECONDS._value.get() == 0


class TestSharing:
    """Who gets what, when several claims are served together."""

    @staticmethod
    def messages(text: str) -> list[Message]:
        """One message for each letter, which is its group."""
        return [Message(f"{group}{seq}", 0, 0, b"", seq=seq, group=group) for seq, group in enumerate(text)]

    @pytest.mark.parametrize(
        ("found", "limits", "shares"),
        [
            ("aab", [3], ["a0 a1 b2"]),
            ("abab", [2], ["a0 a2"]),
            ("abab", [3], ["a0 b1 a2"]),
            ("aabb", [1, 1, 1], ["a0", "b2", ""]),
            ("abc", [9, 9], ["a0 c2", "b1"]),
            ("aaabbc", [2, 9], ["a0 a1", "b3 b4 c5"]),
            ("aaabc", [9, 9], ["a0 a1 a2", "b3 c4"]),
            ("", [1], [""]),
        ],
    )
    def test_shares(self, found: str, limits: list[int], shares: list[str]) -> None:
        got = share_out(self.messages(found), limits)
        assert [" ".join(message.id for message in share) for share in got] == shares

    def test_what_follows_a_message_that_stays_stays(self) -> None:
        messages = self.messages("abab")
        assert [message.id for message in not_after(messages, {"a0"})] == ["b1", "b3"]
        assert [message.id for message in not_after(messages, {"b3"})] == ["a0", "b1", "a2"]

    @pytest.mark.parametrize(("limits", "looked"), [([1], 2), ([1, 1], 3), ([2], 12), ([20, 20], 100), ([90, 90], 181)])
    def test_looks_further_for_claims_of_several(self, limits: list[int], looked: int) -> None:
        assert looked_at(limits) == looked


def raised(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def rest_of(wanted: int) -> Any:
    return Count(wanted)


def end_lease(store: SQLiteStore, info: QueueInfo) -> None:
    """The lease is over, as if much time had passed."""
    def change(db: Any) -> None:
        db.execute("UPDATE leases SET owner = NULL, until = 0 WHERE q = ?", (info.key,))

    store.landed._database.write(change)
