"""Each protection of a move, with the accident that it is there for: without it one of these tests fails."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridges.base import Batch, Envelope
from bridges.memory import MemoryBridge
from functional.wait import wait_until
from gateway.core.core import Core
from gateway.core.errors import Busy
from gateway.core.ids import ONCE, IdMaker
from gateway.core.migration import phases
from gateway.core.migration.bridge import MovingBridge
from gateway.core.migration.landed import MovingLanded
from gateway.core.migration.landed_mover import LandedMover
from gateway.core.migration.move import SETTLING
from gateway.core.migration.publishing import CLOCKS_DIFFER, MovingPublishing
from gateway.core.migration.turns import PLACES, Turns
from gateway.core.migration.views import turns
from gateway.core.queues.remembering import KNOWN_FOR
from storage.errors import QueueGone
from storage.model import Message, number
from storage.sqlite import SQLiteStore
from tests.test_migration import MOVED, Broker, brokers, gateway, move, phase, popped, post  # noqa: F401

Q = "p/q"

pytestmark = pytest.mark.usefixtures("hurried")


def move_all(old: SQLiteStore, new: SQLiteStore) -> None:
    mover = LandedMover(old.landed, new.landed, lambda: None, lambda key: turns(old, key).alone())
    mover.close([Q])
    list(mover.move(Q))


def envelope(body: str) -> Envelope:
    return Envelope(body.encode(), body)


class TestBridges:
    """Of the two brokers of a queue."""

    @pytest.fixture
    def pair(self) -> tuple[MemoryBridge, MemoryBridge]:
        pair = MemoryBridge(), MemoryBridge()
        for bridge in pair:
            bridge.create(Q)
        return pair

    def test_message_that_came_to_the_old_one_meanwhile_is_first(self, pair: tuple[MemoryBridge, MemoryBridge]) -> None:
        """A producer posts the old way, and then the new one, between our looks at the two."""
        old, new = pair
        fetch = new.fetch

        def slow(queue: str, limit: int) -> Batch:
            if not new.depth(queue):
                old.publish(Q, [envelope("1")])
                new.publish(Q, [envelope("2")])
            return fetch(queue, limit)

        new.fetch = slow  # type: ignore[method-assign]
        moving = MovingBridge(old, new, lambda: True)
        bodies = []
        for _ in range(2):
            batch = moving.fetch(Q, 10)
            bodies += [e.body for e in batch.envelopes]
            moving.settle(batch)
        assert bodies == [b"1", b"2"]

    def test_message_that_comes_back_to_an_emptied_one_is_first(self, pair: tuple[MemoryBridge, MemoryBridge]) -> None:
        old, new = pair
        old.publish(Q, [envelope("1")])
        in_hand = old.fetch(Q, 1)
        new.publish(Q, [envelope("2"), envelope("3")])
        moving = MovingBridge(old, new, lambda: True, is_emptied=True)
        bodies = []
        for _ in range(3):
            batch = moving.fetch(Q, 1)
            bodies += [e.body for e in batch.envelopes]
            moving.settle(batch)
            if in_hand is not None:
                old.requeue(in_hand)
                in_hand = None
        assert bodies == [b"2", b"1", b"3"]
        assert new.in_hand(Q) == old.in_hand(Q) == 0

    def test_younger_ones_go_back_when_the_second_look_fails(self, pair: tuple[MemoryBridge, MemoryBridge]) -> None:
        old, new = pair
        new.publish(Q, [envelope("1")])
        fetch, looks = old.fetch, []

        def failing(queue: str, limit: int) -> Batch:
            looks.append(limit)
            if len(looks) > 1:
                raise RuntimeError
            return fetch(queue, limit)

        old.fetch = failing  # type: ignore[method-assign]
        with pytest.raises(RuntimeError):
            MovingBridge(old, new, lambda: True).fetch(Q, 10)
        assert (new.depth(Q), new.in_hand(Q)) == (1, 0)


class TestPosts:
    """Where posts go around the switch."""

    @pytest.fixture
    def ways(self) -> SimpleNamespace:
        ways = SimpleNamespace(taken=[], left=0.0, settled=True)
        for name in ("old", "new"):
            setattr(ways, name, SimpleNamespace(publish=lambda info, messages, name=name: ways.taken.append(name)))
        return ways

    def publishing(self, ways: SimpleNamespace, must_wait: bool = False) -> MovingPublishing:
        info_has_settled: Callable[[Any], bool] = lambda info: ways.settled  # noqa: E731
        return MovingPublishing(ways.old, ways.new, lambda: ways.left, must_wait, info_has_settled)

    @pytest.mark.parametrize(("left", "way"), [(1.0, "old"), (0.0, "new"), (CLOCKS_DIFFER / 2, "new")])
    def test_clock_that_is_a_little_late_is_no_reason_to_go_the_old_way(
        self, ways: SimpleNamespace, left: float, way: str
    ) -> None:
        """Another gateway's clock may have switched, and have taken an earlier post of the same producer."""
        ways.left, begun = left, time.monotonic()
        self.publishing(ways).publish(None, [])  # type: ignore[arg-type]
        assert ways.taken == [way]
        assert way == "old" or time.monotonic() - begun >= left

    def test_post_to_a_pool_without_a_broker_waits_until_the_backlog_has_landed(self, ways: SimpleNamespace) -> None:
        ways.settled = False
        thread = threading.Thread(target=lambda: self.publishing(ways, True).publish(None, []))  # type: ignore[arg-type]
        thread.start()
        time.sleep(0.2)
        assert ways.taken == []
        ways.settled = True
        thread.join(5)
        assert ways.taken == ["new"]

    def test_slow_post_to_the_new_place_is_not_sent_again_when_the_queue_arrives(
        self, gateway: Callable[[], Core], monkeypatch: pytest.MonkeyPatch  # noqa: F811
    ) -> None:
        """It was looked for while the queue moved, and confirmed when it had arrived where the message went."""
        core = gateway()
        core.queues.create("p", "q", None)
        in_hand = core.pool.bridge.in_hand
        monkeypatch.setattr(core.pool.bridge, "in_hand", lambda queue: 1)
        core.migrations.start("p", "q", "b")
        wait_until(lambda: phase(core) == SETTLING, MOVED, "the last phase")
        time.sleep(KNOWN_FOR)
        new = core.all_pools.get("b").bridge
        publish, sent = new.publish, []

        def slow(*args: Any) -> None:
            publish(*args)
            sent.append(args)
            monkeypatch.setattr(core.pool.bridge, "in_hand", in_hand)
            wait_until(lambda: core.migrations.get("p", "q").move is None, MOVED, "the end of the move")
            time.sleep(KNOWN_FOR + 0.5)

        monkeypatch.setattr(new, "publish", slow)
        post(core, "7")
        assert len(sent) == 1


class TestOldBroker:
    """Its queue is deleted when nothing can be in it any more."""

    def settling(self, core: Core) -> None:
        core.migrations.start("p", "q", "b")
        wait_until(lambda: phase(core) == SETTLING, MOVED, "the last phase")

    @pytest.mark.parametrize("tells", [True, False], ids=["tells", "does not tell"])
    def test_what_somebody_has_in_hand_is_waited_for(
        self, gateway: Callable[[], Core], brokers: dict[str, Broker], monkeypatch: pytest.MonkeyPatch,  # noqa: F811
        tells: bool,
    ) -> None:
        """A gateway that is slow, or dies, gives it back when all else has landed."""
        if not tells:
            monkeypatch.setattr(brokers["a"], "in_hand", lambda queue: None)
            monkeypatch.setattr(phases, "HELD_FOR", 1.0)
            monkeypatch.setattr(brokers["a"], "timeout", 0.5)
        core = gateway()
        monkeypatch.setattr(core.pool.store, "timeout", 1.0)
        post(core, "1", "2")
        info = core.directory.ensure("p", "q")
        batch = brokers["a"].fetch(info.broker, 1)
        self.settling(core)
        time.sleep(1.0)
        brokers["a"].requeue(batch)
        wait_until(lambda: core.migrations.get("p", "q").move is None, MOVED, "the end of the move")
        assert sorted(popped(core)) == ["1", "2"]

    def test_busy_queue_is_not_taken_for_an_empty_one(
        self, gateway: Callable[[], Core], brokers: dict[str, Broker], monkeypatch: pytest.MonkeyPatch  # noqa: F811
    ) -> None:
        """Somebody has the landing lease for long when a message comes back, for which time was given."""
        monkeypatch.setattr("gateway.core.landing.LANDING_BUDGET", 0.2)
        core = gateway()
        post(core, "1", "2")
        info = core.directory.ensure("p", "q")
        batch = brokers["a"].fetch(info.broker, 1)
        self.settling(core)
        landed = core.pool.store.landed
        wait_until(lambda: landed.acquire_lease(info.key, "slow", 60.0) is not None, MOVED, "the lease")
        brokers["a"].requeue(batch)
        time.sleep(2.0)
        assert phase(core) == SETTLING
        landed.release_lease(info.key, "slow", 0)
        wait_until(lambda: core.migrations.get("p", "q").move is None, MOVED, "the end of the move")
        assert sorted(popped(core)) == ["1", "2"]

    def test_post_that_is_confirmed_after_the_last_look_is_sent_again(
        self, gateway: Callable[[], Core], monkeypatch: pytest.MonkeyPatch  # noqa: F811
    ) -> None:
        """Its gateway was stopped meanwhile, and asks where the queue is just before that is written down."""
        core, late = gateway(), gateway()
        core.queues.create("p", "q", None)
        publish, ready, go_on = late.pool.bridge.publish, threading.Event(), threading.Event()
        confirmed = threading.Event()

        def stopped(*args: Any) -> None:
            ready.set()
            assert go_on.wait(MOVED)
            publish(*args)
            confirmed.set()

        late.pool.bridge.publish = stopped
        thread = threading.Thread(target=lambda: post(late, "7"))
        thread.start()
        assert ready.wait(5)
        delete = core.pool.bridge.delete

        def deleted(queue: str) -> None:
            go_on.set()
            confirmed.wait(1.0)
            time.sleep(0.2)  # it asks now
            delete(queue)

        monkeypatch.setattr(core.pool.bridge, "delete", deleted)
        move(core, "b")
        thread.join(10)
        assert popped(core) == ["7"]


class TestPlaces:
    """What is created for a move is not left behind."""

    @pytest.mark.parametrize("target", ["b", "stored"])
    @pytest.mark.parametrize("ends", ["deleted", "cancelled"])
    def test_move_that_ends_as_it_begins(
        self, gateway: Callable[[], Core], brokers: dict[str, Broker], monkeypatch: pytest.MonkeyPatch,  # noqa: F811
        target: str, ends: str,
    ) -> None:
        core = gateway()
        core.queues.create("p", "q", None)
        info = core.directory.ensure("p", "q")
        pool = core.all_pools.get(target)
        place: Any = pool.bridge if target == "b" else pool.store.landed
        name = "create" if target == "b" else "open_queue"
        create, threads = getattr(place, name), []
        end = core.queues.delete if ends == "deleted" else core.migrations.cancel

        def meanwhile(*args: Any) -> None:
            thread = threading.Thread(target=lambda: end("p", "q"))
            thread.start()
            thread.join(1.0)
            threads.append(thread)
            create(*args)

        monkeypatch.setattr(place, name, meanwhile)
        core.migrations.start("p", "q", target)
        wait_until(lambda: threads, MOVED, "the beginning")
        for thread in threads:
            thread.join(10)
        core.close()
        if target == "b":
            assert info.broker not in brokers["b"]._queues
        else:
            other = gateway().all_pools.get("stored").store.landed
            with pytest.raises(QueueGone):
                other.acquire_lease(info.key, "me", 1.0)


class TestTurns:
    """Of those who use landed messages that move."""

    @pytest.fixture
    def stores(self, tmp_path: Path) -> Any:
        stores = [
            SQLiteStore(f"sqlite:///{tmp_path}/{name}.db", SimpleNamespace(timeout=5.0)) for name in ("old", "new")
        ]
        for store in stores:
            store.landed.open_queue(Q)
        yield stores
        for store in stores:
            store.close()

    def messages(self, store: SQLiteStore, count: int = 1) -> list[Message]:
        now = store.now()
        made = [Message(id_, now, now + 600_000, b"{}", "client") for id_ in IdMaker().make(now, count)]
        number(made, 0, now)
        store.landed.land(Q, made)
        return made

    def test_message_deleted_while_it_moves_stays_deleted(
        self, stores: list[SQLiteStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The mover has read it, and has not written it yet."""
        old, new = stores
        (message,) = self.messages(old)
        moving = MovingLanded(old, new, turns(old, Q), lambda: True)
        export, threads = old.landed.export, []

        def meanwhile(*args: Any) -> list[Message]:
            found = export(*args)
            if not threads:
                threads.append(threading.Thread(target=lambda: moving.delete_unclaimed(Q, [message.id])))
                threads[0].start()
                threads[0].join(0.5)
            return found

        monkeypatch.setattr(old.landed, "export", meanwhile)
        move_all(old, new)
        threads[0].join(5)
        assert moving.get_messages(Q, [message.id]) == []

    def test_mover_that_was_stopped_does_not_bring_back_what_others_have_deleted(
        self, stores: list[SQLiteStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, new = stores
        (message,) = self.messages(old)
        monkeypatch.setattr("gateway.core.migration.landed_mover.LOST_AFTER", 0.2)
        export, stops = old.landed.export, []

        def stopped(*args: Any) -> list[Message]:
            found = export(*args)
            if not stops:
                stops.append(old.landed.delete_unclaimed(Q, [message.id]))  # by one who had his turn meanwhile
                time.sleep(0.3)
            return found

        monkeypatch.setattr(old.landed, "export", stopped)
        move_all(old, new)
        assert new.landed.get_messages(Q, [message.id]) == []

    @pytest.mark.parametrize("deleted", [True, False])
    def test_message_that_is_posted_again_meanwhile_is_not_there_a_second_time(
        self, stores: list[SQLiteStore], deleted: bool
    ) -> None:
        old, new = stores
        now = old.now()
        ids = IdMaker().make(now, 2, ONCE, 600)
        first, second = (Message(id_, now, now + 600_000, b"{}", "client") for id_ in ids)
        old.landed.append(Q, [first])
        moving = MovingLanded(old, new, turns(old, Q), lambda: True)
        if deleted:
            assert moving.delete_unclaimed(Q, [first.id], {first.id: now + 600_000}) == 1
        moving.append(Q, [replace(first), second])
        there = [] if deleted else [first.id]
        assert [m.id for m in moving.list_messages(Q, 0, 10)] == [*there, second.id]
        move_all(old, new)
        moving.append(Q, [replace(first), replace(second)])
        assert [m.id for m in new.landed.list_messages(Q, 0, 10)] == [*there, second.id]

    def test_page_shows_a_message_once_that_moves_while_it_is_read(
        self, stores: list[SQLiteStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By a mover who does not wait, as we were stopped for longer than our turn."""
        old, new = stores
        made = self.messages(old, 5)
        moving = MovingLanded(old, new, turns(old, Q), lambda: True)
        find = old.landed.list_messages

        def meanwhile(*args: Any, **kwargs: Any) -> Any:
            found = find(*args, **kwargs)
            new.landed.land(Q, made)
            old.landed.remove(Q, made)
            return found

        monkeypatch.setattr(old.landed, "list_messages", meanwhile)
        assert [m.id for m in moving.list_messages(Q, 0, 10)] == [m.id for m in made]

    def test_users_work_side_by_side_and_the_mover_alone(self, stores: list[SQLiteStore]) -> None:
        old, _ = stores
        counts, errors = SimpleNamespace(inside=0, most=0, alone=0), []
        lock, end = threading.Lock(), threading.Event()

        def use(mine: Turns) -> None:
            while not end.is_set():
                with suppress(Busy), mine.taken():
                    with lock:
                        counts.inside += 1
                        counts.most = max(counts.most, counts.inside)
                    time.sleep(0.01)
                    with lock:
                        counts.inside -= 1

        processes = [Turns(old, "t") for _ in range(3)]
        threads = [threading.Thread(target=use, args=(mine,)) for mine in processes for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            with Turns(old, "t").alone():
                errors += [counts.inside] if counts.inside else []
                time.sleep(0.02)
                errors += [counts.inside] if counts.inside else []
            time.sleep(0.05)
        end.set()
        for thread in threads:
            thread.join(10)
        assert errors == []
        assert counts.most > 3, "threads of a process, and processes, do not wait for each other"

    def test_more_processes_than_places_take_turns(self, stores: list[SQLiteStore]) -> None:
        old, _ = stores
        done = []

        def use() -> None:
            with Turns(old, "t").taken():
                time.sleep(0.02)
                done.append(1)

        threads = [threading.Thread(target=use) for _ in range(2 * PLACES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(done) == 2 * PLACES
