"""Pools that queues are in, and what is recorded of their moves."""

import pytest

from storage.base import SideStore
from storage.errors import QueueGone
from storage.model import DEFAULT_POOL, Queue
from storage.suite.support import CROWD, SuiteFixtures, add, created, listed, together

#: Comes after the names of all queues that a test does not see.
LAST = "\uffff"


def found(store: SideStore, name: str) -> Queue:
    """A queue that exists."""
    queue = store.catalogue.get_queue(name)
    assert queue is not None
    return queue


def place(store: SideStore, name: str) -> tuple[str, bytes | None]:
    """The pool and the move of a queue."""
    queue = found(store, name)
    return queue.pool, queue.move


class PoolTests(SuiteFixtures):
    """Pools that queues are in, and what is recorded of their moves."""

    @pytest.fixture
    def before(self, project: str) -> str:
        """A place in the list of all queues right before those of the project."""
        return project[:-1] + chr(ord(project[-1]) - 1) + LAST

    def test_queue_is_in_the_default_pool_and_does_not_move(self, store: SideStore, name: str) -> None:
        created(store, name)
        assert place(store, name) == (DEFAULT_POOL, None)

    def test_pool_counts_for_a_new_queue_alone(self, store: SideStore, project: str) -> None:
        name, other = f"{project}/a", f"{project}/b"
        assert store.catalogue.create_queue(name, None, "pool-1") is True
        assert store.catalogue.create_queue(name, b'{"a":1}', "pool-2") is False
        created(store, other)
        assert store.catalogue.create_queue(other, b"{}", "pool-2") is False
        assert place(store, name) == ("pool-1", None)
        assert place(store, other) == (DEFAULT_POOL, None)
        assert [queue.pool for queue in store.catalogue.list_queues(project, "", 10)] == ["pool-1", DEFAULT_POOL]

    def test_messages_land_in_a_new_queue_of_any_pool(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, None, "pool-1")
        key = found(store, name).key
        add(store, key, "m")
        assert listed(store, key) == ["m"]

    def test_move_is_replaced_if_it_is_as_it_was(self, store: SideStore, name: str) -> None:
        created(store, name)
        change = store.catalogue.change_move
        assert change(name, b"other", b"first") is False
        assert place(store, name) == (DEFAULT_POOL, None)
        assert change(name, None, b"first") is True
        assert change(name, None, b"second") is False
        assert change(name, b"other", b"second", "pool-1") is False
        assert place(store, name) == (DEFAULT_POOL, b"first")
        assert change(name, b"first", b"second", "pool-1") is True
        assert place(store, name) == ("pool-1", b"second")
        assert change(name, b"second", None) is True
        assert place(store, name) == ("pool-1", None)
        assert change(name, None, b"back") is True
        assert change(name, b"back", None, DEFAULT_POOL) is True
        assert place(store, name) == (DEFAULT_POOL, None)

    def test_change_of_a_move_may_be_repeated(self, store: SideStore, name: str) -> None:
        created(store, name)
        steps = ((None, b"first", None), (b"first", b"second", "pool-1"), (b"second", None, "pool-2"))
        for before, move, pool in steps:
            for _ in range(2):
                assert store.catalogue.change_move(name, before, move, pool) is True
        assert place(store, name) == ("pool-2", None)
        assert store.catalogue.change_move(name, b"second", None, "pool-3") is False

    def test_missing_queue_has_no_move(self, store: SideStore, name: str) -> None:
        assert store.catalogue.change_move(name, None, b"move") is False
        assert store.catalogue.change_move(name, b"move", None) is False
        assert store.catalogue.get_queue(name) is None

    def test_one_of_many_moves_begins(self, store: SideStore, name: str) -> None:
        created(store, name)
        done = together(*[lambda n=n: store.catalogue.change_move(name, None, b"%d" % n) for n in range(CROWD)])
        assert done.count(True) == 1
        assert place(store, name) == (DEFAULT_POOL, b"%d" % done.index(True))

    def test_metadata_and_move_are_changed_apart(self, store: SideStore, name: str, project: str) -> None:
        created(store, name)
        version = found(store, name).version
        store.catalogue.change_move(name, None, b"move", "pool-1")
        assert store.catalogue.replace_metadata(name, b'{"a":1}', version) is True
        assert store.catalogue.create_queue(name, b'{"b":2}') is False
        (queue,) = store.catalogue.list_queues(project, "", 10)
        assert (queue.pool, queue.move, queue.metadata) == ("pool-1", b"move", b'{"b":2}')
        assert queue == found(store, name)

    def test_queue_that_is_created_again_has_no_pool_and_no_move(
        self, store: SideStore, name: str, before: str
    ) -> None:
        store.catalogue.create_queue(name, None, "pool-1")
        store.catalogue.change_move(name, None, b"move")
        store.catalogue.delete_queue(name)
        assert store.catalogue.list_moving(before, 1) != [name]
        created(store, name)
        assert place(store, name) == (DEFAULT_POOL, None)
        assert store.catalogue.list_in_pool(DEFAULT_POOL, before, 1) == [name]

    def test_moving_queues_are_listed_in_order(self, store: SideStore, project: str, before: str) -> None:
        names = [f"{project}/{name}" for name in ("b", "a", "C", "a.b")]
        for name in [*names, f"{project}/stays"]:
            created(store, name)
        for name in names:
            store.catalogue.change_move(name, None, b"move")
        assert store.catalogue.list_moving(before, 4) == sorted(names)
        assert store.catalogue.list_moving(sorted(names)[1], 1) == [sorted(names)[2]]
        for name in names:
            store.catalogue.change_move(name, b"move", None, "pool-1")
        assert not set(names) & set(store.catalogue.list_moving(before, 4))

    def test_queues_are_listed_by_pool(self, store: SideStore, project: str) -> None:
        pool = f"pool-of-{project}"
        inside = sorted(f"{project}{end}/{name}" for end in ("", "2") for name in ("b", "A"))
        outside = f"{project}/aa"
        for name in inside:
            store.catalogue.create_queue(name, None, pool)
        created(store, outside)
        assert store.catalogue.list_in_pool(pool, "", 10) == inside
        assert store.catalogue.list_in_pool(pool, inside[0], 2) == inside[1:3]
        assert store.catalogue.list_in_pool(f"{pool}2", "", 10) == []
        assert not set(inside) & set(store.catalogue.list_in_pool(DEFAULT_POOL, "", 1_000_000))
        store.catalogue.change_move(outside, None, b"move")
        assert store.catalogue.list_in_pool(DEFAULT_POOL, f"{project}/a", 1) == [outside]
        store.catalogue.change_move(outside, b"move", None, pool)
        store.catalogue.change_move(inside[0], None, None, DEFAULT_POOL)
        assert store.catalogue.list_in_pool(pool, "", 10) == sorted({outside, *inside} - {inside[0]})
        assert inside[0] in store.catalogue.list_in_pool(DEFAULT_POOL, "", 1_000_000)

    @pytest.mark.parametrize("move", [b"move", None])
    def test_creating_again_does_not_open_a_key_that_a_move_has_closed(
        self, store: SideStore, name: str, move: bytes | None
    ) -> None:
        q = created(store, name)
        store.catalogue.change_move(name, None, move, None if move else "pool-1")
        store.landed.close_queue(q)
        assert store.catalogue.create_queue(name, b"{}") is False
        with pytest.raises(QueueGone):
            add(store, q, "m")
