"""Keys that a landed store opens, closes and empties by itself."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from storage.base import SideStore
from storage.errors import QueueGone
from storage.landed import SEEN_FOR
from storage.model import Message
from storage.suite.support import (
    CROWD,
    HOUR,
    MINUTE,
    Clock,
    SuiteFixtures,
    add,
    ids_of,
    listed,
    new,
    new_claim,
    take,
    together,
)

#: A position that is later than the clock would give.
LATE = 2**62


class KeyTests(SuiteFixtures):
    """Keys that a landed store opens, closes and empties by itself."""

    @pytest.fixture
    def foreign(self, store: SideStore) -> str:
        """An open key of a queue whose catalogue is in another side-store."""
        key = f"elsewhere/{uuid4().hex}/1"
        store.landed.open_queue(key)
        return key

    def test_messages_land_under_an_opened_key(self, store: SideStore, foreign: str) -> None:
        add(store, foreign, "appended")
        assert store.landed.acquire_lease(foreign, "us", 60) is not None
        assert store.landed.land(foreign, [new(store, "landed", seq=LATE)], "us") == set()
        assert listed(store, foreign) == ["appended", "landed"]

    def test_opened_key_gives_positions_after_the_last(self, store: SideStore, foreign: str) -> None:
        for last in (LATE, 1, 0):
            store.landed.open_queue(foreign, last)
        assert store.landed.acquire_lease(foreign, "us", 60) == LATE
        store.landed.release_lease(foreign, "us", LATE)
        (message,) = add(store, foreign, "m")
        assert message.seq > LATE

    def test_new_key_begins_after_the_last(self, store: SideStore, foreign: str) -> None:
        store.landed.open_queue(f"{foreign}2", LATE)
        assert store.landed.acquire_lease(f"{foreign}2", "us", 60) == LATE

    def test_opening_again_leaves_lease_and_messages(self, store: SideStore, foreign: str, clock: Clock) -> None:
        add(store, foreign, "m")
        store.landed.acquire_lease(foreign, "us", 60)
        store.landed.open_queue(foreign, LATE)
        assert store.landed.acquire_lease(foreign, "them", 60) is None
        assert store.landed.renew_lease(foreign, "us", 60) is True
        assert listed(store, foreign) == ["m"]

    def test_many_may_open_a_key(self, store: SideStore, foreign: str) -> None:
        together(*[lambda n=n: store.landed.open_queue(f"{foreign}2", n) for n in range(CROWD)])
        assert store.landed.acquire_lease(f"{foreign}2", "us", 60) == CROWD - 1

    def test_nothing_lands_under_a_closed_key(self, store: SideStore, foreign: str) -> None:
        last = store.landed.acquire_lease(foreign, "us", 60) or 0
        for _ in range(2):
            store.landed.close_queue(foreign)
        late = [new(store, "late", seq=last + 1)]
        calls: tuple[Callable[[], Any], ...] = (
            lambda: store.landed.land(foreign, late), lambda: store.landed.land(foreign, late, "us"),
            lambda: store.landed.append(foreign, late), lambda: store.landed.acquire_lease(foreign, "them", 60),
            lambda: store.landed.find_free(foreign, 10), lambda: store.landed.landed_or_deleted(foreign, ["late"]),
            lambda: store.landed.land(foreign, late, seen=time.monotonic() - SEEN_FOR),
        )
        for call in calls:
            with pytest.raises(QueueGone):
                call()
        assert store.landed.renew_lease(foreign, "us", 60) is False
        assert listed(store, foreign) == []

    def test_late_landing_leaves_what_is_under_a_closed_key(self, store: SideStore, foreign: str) -> None:
        add(store, foreign, "free", "claimed")
        take(store, foreign, new_claim(store), "claimed")
        store.landed.close_queue(foreign)
        with pytest.raises(QueueGone):
            store.landed.land(foreign, [new(store, id_, seq=LATE + n) for n, id_ in enumerate(("free", "late"))])
        assert listed(store, foreign, claimed=True) == ["free", "claimed"]

    def test_what_has_landed_can_be_used_after_the_end_of_its_key(
        self, store: SideStore, foreign: str, clock: Clock
    ) -> None:
        add(store, foreign, "a", "b", "c", "d", "e")
        take(store, foreign, new_claim(store, "ours"), "a", "b")
        store.landed.close_queue(foreign)
        assert listed(store, foreign) == ["c", "d", "e"]
        assert ids_of(store.landed.get_messages(foreign, ["a", "c"])) in (["a", "c"], ["c", "a"])
        free, _ = store.landed.find_free(foreign, 3)
        assert ids_of(store.landed.claim(foreign, free[:1], new_claim(store, "theirs"))) == ["c"]
        assert store.landed.renew_claim(foreign, new_claim(store, "ours", lasts=2 * MINUTE)) is True
        assert store.landed.delete_claimed(foreign, ["a"], ["ours"]) == 1
        assert store.landed.release_claim(foreign, "ours") == 1
        assert store.landed.delete_unclaimed(foreign, ["d"]) == 1
        assert listed(store, foreign, claimed=True) == ["b", "c", "e"]
        clock.advance(MINUTE)
        assert ids_of(store.landed.find_free(foreign, 3)[0]) == ["b", "c", "e"]

    def test_closed_key_can_be_opened_again(self, store: SideStore, foreign: str) -> None:
        add(store, foreign, "before")
        store.landed.close_queue(foreign)
        store.landed.open_queue(foreign, LATE)
        add(store, foreign, "after")
        assert listed(store, foreign) == ["before", "after"]

    def test_closing_one_key_leaves_the_others(self, store: SideStore, foreign: str, q: str) -> None:
        store.landed.close_queue(foreign)
        store.landed.remove_queue(foreign)
        add(store, q, "m")
        assert listed(store, q) == ["m"]

    def test_removed_key_has_nothing(self, store: SideStore, foreign: str) -> None:
        add(store, foreign, "free", "claimed")
        add(store, foreign, "delayed", hidden_until=store.now() + MINUTE)
        take(store, foreign, new_claim(store), "claimed")
        store.landed.tombstone(foreign, {"dead": store.now() + HOUR})
        store.landed.acquire_lease(foreign, "us", 60)
        for _ in range(2):
            store.landed.remove_queue(foreign)
        assert listed(store, foreign, claimed=True, delayed=True) == []
        assert store.landed.get_claim(foreign, "claim") == []
        assert store.landed.list_tombstones(foreign, "", 10) == []
        with pytest.raises(QueueGone):
            store.landed.land(foreign, [new(store, "late", seq=LATE)])
        store.landed.open_queue(foreign)
        assert store.landed.acquire_lease(foreign, "them", 60) == 0

    def test_what_lands_late_under_a_removed_key_does_not_stay(self, store: SideStore, foreign: str) -> None:
        seen = time.monotonic()
        store.landed.remove_queue(foreign)
        with suppress(QueueGone):
            store.landed.land(foreign, [new(store, "late", seq=LATE)], seen=seen)
        time.sleep(SEEN_FOR)
        store.maintain()
        assert listed(store, foreign) == []

    def test_queue_that_comes_back_keeps_its_messages(self, store: SideStore, foreign: str) -> None:
        store.landed.remove_queue(foreign)
        store.landed.open_queue(foreign)
        message = Message("m", store.now(), store.now() + HOUR, b"1", seq=7)
        store.landed.land(foreign, [message])
        time.sleep(SEEN_FOR)
        store.maintain()
        assert listed(store, foreign) == ["m"]
