"""Copies of what is appended to a queue whose landed messages go from one side-store to another."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.core.migration.landed import MovingLanded
from gateway.core.migration.views import turns
from storage.errors import QueueGone
from storage.sqlite import SQLiteStore
from storage.suite import ids_of, new

Q = "p/q/1"
COPY = "p/q/~1"


class Move:
    """Two side-stores, and both together for a queue that is on its way from ``old`` to ``new``."""

    def __init__(self, folder: Path):
        self.old, self.new = (
            SQLiteStore(f"sqlite:///{folder}/{name}.db", SimpleNamespace(timeout=5.0)) for name in ("old", "new")
        )
        self.lands_in_new = False
        self.both = MovingLanded(self.old, self.new, turns(self.old, Q), lambda: self.lands_in_new)
        for store in (self.old, self.new):
            store.landed.open_queue(Q)
            store.landed.open_queue(COPY)

    def append(self, id_: str) -> None:
        self.both.append(Q, [new(self.new, id_)])

    def places(self, key: str) -> tuple[list[str], list[str]]:
        """Ids of what is under a key in the old side-store, and in the new one."""
        old, new_ = (ids_of(store.landed.list_messages(key, 0, 100)) for store in (self.old, self.new))
        return old, new_


@pytest.fixture
def move(tmp_path: Path) -> Iterator[Move]:
    move = Move(tmp_path)
    yield move
    move.old.close()
    move.new.close()


def test_copies_are_where_their_messages_land(move: Move) -> None:
    move.both.bind(Q, COPY)
    move.append("a")
    move.lands_in_new = True
    move.append("b")
    assert move.places(Q) == move.places(COPY) == (["a"], ["b"])
    assert move.both.ready(["p/none", COPY, Q]) == [COPY, Q]
    edges = move.both.edges(["p/none", COPY, Q])
    assert set(edges) == {COPY, Q}
    assert edges[Q] == move.new.landed.edges([Q])[Q] > move.old.landed.edges([Q])[Q]
    move.both.unbind(Q, COPY)
    move.append("c")
    assert (move.places(Q), move.places(COPY)) == ((["a"], ["b", "c"]), (["a"], ["b"]))


def test_binding_of_before_the_move_holds(move: Move) -> None:
    move.old.landed.bind(Q, COPY)
    assert move.both.bound(Q) == [COPY]
    move.append("a")
    assert move.places(COPY) == (["a"], [])
    move.old.landed.purge(COPY)
    assert move.both.ready([COPY]) == []


def test_queue_is_bound_when_nothing_lands_in_the_old_side_store_any_more(move: Move) -> None:
    move.lands_in_new = True
    move.old.landed.close_queue(Q)
    move.both.bind(Q, COPY)
    assert move.both.bound(Q) == move.new.landed.bound(Q) == [COPY]
    move.append("a")
    assert move.places(COPY) == ([], ["a"])
    move.new.landed.close_queue(Q)
    with pytest.raises(QueueGone):
        move.both.bind(Q, COPY)
