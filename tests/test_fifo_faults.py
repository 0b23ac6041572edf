"""FIFO queues while gateways are stopped, and brokers and side-stores are down."""

import threading
from functools import partial
from typing import Any

import pytest

from bridges.errors import BridgeUnavailable
from functional.wait import wait_until
from gateway.core.core import Core
from gateway.core.errors import Busy
from storage.errors import LeaseLost, QueueGone, StoreUnavailable
from storage.sqlite import SQLiteStore
from storage.suite import together
from tests.fifo import claim, delete, elsewhere, end_lease, fifo, landed, names, publish, raised, release, taken
from tests.threads import DEADLINE, in_background


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

    @pytest.mark.parametrize(
        "call",
        [
            lambda core, info, id_: core.messages.get(info, [id_]),
            lambda core, info, id_: core.claims.create(info, 60, 60, 1),
            lambda core, info, id_: core.messages.pop(info, 1),
        ],
        ids=["get", "claim", "pop"],
    )
    def test_what_another_gateway_has_in_its_hands_is_not_taken_for_gone(self, core: Core, call: Any) -> None:
        info = fifo(core)
        (posted,) = publish(info, "a-1")
        batch = info.bridge.fetch(info.broker, 10, in_order=True)  # nothing waits any more
        with pytest.raises(Busy, match="try again"):
            call(core, info, posted.id)
        info.bridge.requeue(batch)
        call(core, info, posted.id)

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

        for call in ("depth", "fetch"):
            monkeypatch.setattr(core.pool.bridge, call, down)
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
                with pytest.raises(Busy, match="in its hands"):
                    taken(elsewhere(info), "nothing")
            return land(*args, **how)

        monkeypatch.setattr("gateway.core.fifo.taking.PATIENCE", 0.0)
        monkeypatch.setattr(core.pool.store.landed, "land", late)
        assert names(core.messages.list(info, None, 10, None, False, False)) == ["a-1", "a-2"]
        assert landings == [[each.id for each in messages]] * 2

    def test_thread_that_breaks_off_leaves_nobody_waiting(
        self, core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = fifo(core)
        landed(core, info, "a-1", "b-1")
        find, called, go_on = core.pool.store.landed.find_in_groups, threading.Event(), threading.Event()

        def end(*_: Any) -> Any:
            called.set()
            assert go_on.wait(DEADLINE)
            raise SystemExit

        monkeypatch.setattr(core.pool.store.landed, "find_in_groups", end)
        first = in_background(lambda: claim(core, info, 1))
        assert called.wait(DEADLINE)
        second = in_background(lambda: claim(core, info, 1))
        line = core.pool.taking._fifo._lines._lines[info.key]
        wait_until(lambda: len(line) == 1, DEADLINE, "the other one to wait")
        monkeypatch.setattr(core.pool.store.landed, "find_in_groups", find)
        go_on.set()
        with pytest.raises(SystemExit):
            first.result(DEADLINE)
        assert names(second.result(DEADLINE)) == ["a-1"]

    @pytest.mark.parametrize("error", [StoreUnavailable("down"), Busy("moving")], ids=["down", "moving"])
    def test_lease_that_cannot_be_given_back_takes_nothing_away(
        self, core: Core, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        info = fifo(core)
        publish(info, "a-1")

        def fail(*_: Any) -> None:
            raise error

        monkeypatch.setattr(core.pool.store.landed, "release_lease", fail)
        assert names(claim(core, info)) == ["a-1"]
        assert core.pool.taking._fifo._lines._lines == {}
