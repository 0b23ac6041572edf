"""The landing lease."""

import pytest

from storage.base import SideStore
from storage.errors import LeaseLost
from storage.suite.support import CROWD, HOUR, MINUTE, Clock, SuiteFixtures, add, ids_of, listed, new, together


class LeaseTests(SuiteFixtures):
    """The landing lease."""

    def test_first_lease_of_a_queue_starts_at_zero(self, store: SideStore, q: str) -> None:
        assert store.landed.acquire_lease(q, "us", 60) == 0

    def test_held_lease_is_refused_to_others(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        assert store.landed.acquire_lease(q, "them", 60) is None

    def test_one_of_many_gets_the_lease(self, store: SideStore, q: str) -> None:
        got = together(*[lambda n=n: store.landed.acquire_lease(q, f"owner-{n}", 60) for n in range(CROWD)])
        assert [last for last in got if last is not None] == [0]

    def test_released_lease_can_be_taken(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        store.landed.release_lease(q, "us", 7)
        assert store.landed.acquire_lease(q, "them", 60) == 7

    def test_last_position_of_a_lease_is_known_where_nothing_lands_without_it(
        self, store: SideStore, q: str, clock: Clock
    ) -> None:
        last = store.landed.acquire_lease(q, "us", 60, alone=True)
        message = new(store, "a", seq=1000)
        store.landed.land(q, [message], owner="us")
        store.landed.release_lease(q, "us", 1001, quick=True)
        assert (last, store.landed.acquire_lease(q, "them", 60, alone=True)) == (0, 1001)
        store.landed.land(q, [new(store, "b", seq=1002)], owner="them")
        clock.advance(MINUTE)  # it has died, and nothing tells how far it has come but its message
        assert store.landed.acquire_lease(q, "us", 60, alone=True) == 1002

    def test_lease_is_not_released_by_others(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        store.landed.release_lease(q, "them", 7)
        assert store.landed.acquire_lease(q, "them", 60) is None

    def test_renewed_lease_lasts_from_then(self, store: SideStore, q: str, clock: Clock) -> None:
        store.landed.acquire_lease(q, "us", 60)
        clock.advance(MINUTE - 1)
        assert store.landed.renew_lease(q, "us", 60) is True
        clock.advance(MINUTE - 1)
        assert store.landed.acquire_lease(q, "them", 60) is None
        clock.advance(1)
        assert store.landed.acquire_lease(q, "them", 60) is not None

    def test_lease_is_renewed_only_for_its_holder(self, store: SideStore, q: str, clock: Clock) -> None:
        assert store.landed.renew_lease(q, "us", 60) is False
        store.landed.acquire_lease(q, "us", 60)
        assert store.landed.renew_lease(q, "them", 60) is False
        clock.advance(MINUTE)
        assert store.landed.renew_lease(q, "us", 60) is False
        store.landed.acquire_lease(q, "them", 60)
        store.landed.release_lease(q, "them", 1)
        assert store.landed.renew_lease(q, "them", 60) is False

    def test_leases_of_two_queues_are_independent(self, store: SideStore, q: str, q2: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        assert store.landed.acquire_lease(q2, "them", 60) == 0

    def test_lease_ends_at_its_time(self, store: SideStore, q: str, clock: Clock) -> None:
        store.landed.acquire_lease(q, "us", 60)
        clock.advance(MINUTE - 1)
        assert store.landed.acquire_lease(q, "them", 60) is None
        clock.advance(1)
        assert store.landed.acquire_lease(q, "them", 60) is not None

    def test_late_release_does_not_end_the_next_holders_lease(self, store: SideStore, q: str, clock: Clock) -> None:
        store.landed.acquire_lease(q, "us", 60)
        clock.advance(MINUTE)
        store.landed.acquire_lease(q, "them", 60)
        store.landed.release_lease(q, "us", 9)
        assert store.landed.acquire_lease(q, "third", 60) is None

    def test_nothing_lands_under_a_lease_that_is_over(self, store: SideStore, q: str, clock: Clock) -> None:
        with pytest.raises(LeaseLost):
            store.landed.land(q, [new(store, "never-held", seq=1)], "us")
        store.landed.acquire_lease(q, "us", 60)
        clock.advance(MINUTE)
        with pytest.raises(LeaseLost):
            store.landed.land(q, [new(store, "late", seq=1)], "us")
        store.landed.acquire_lease(q, "them", 60)
        with pytest.raises(LeaseLost):
            store.landed.land(q, [new(store, "late", seq=1)], "us")
        assert listed(store, q) == []
        assert store.landed.land(q, [new(store, "theirs", seq=1)], "them") == set()
        assert listed(store, q) == ["theirs"]

    def test_what_has_landed_before_does_not_land_again_under_a_lease(self, store: SideStore, q: str) -> None:
        add(store, q, "before")
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        last = store.landed.acquire_lease(q, "us", 60)
        assert last is not None
        messages = [new(store, id_, seq=last + n) for n, id_ in enumerate(("before", "a", "dead", "b"), 1)]
        assert store.landed.land(q, messages, "us") == {"before", "dead"}
        store.landed.release_lease(q, "us", last + 4)
        assert listed(store, q) == ["before", "a", "b"]
        assert store.landed.acquire_lease(q, "them", 60) == last + 4

    def test_last_position_never_goes_back(self, store: SideStore, q: str) -> None:
        for last in (9, 5):
            store.landed.acquire_lease(q, "us", 60)
            store.landed.release_lease(q, "us", last)
        assert store.landed.acquire_lease(q, "us", 60) == 9

    def test_lease_starts_behind_what_landed_without_it(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        store.landed.release_lease(q, "us", 5)
        store.landed.land(q, [new(store, "by-a-claimer", seq=12)])
        assert store.landed.acquire_lease(q, "us", 60) == 12

    def test_free_tells_of_the_lease(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "m")
        assert store.landed.find_free(q, 10)[1] is False
        store.landed.acquire_lease(q, "us", 60)
        messages, leased = store.landed.find_free(q, 10)
        assert (ids_of(messages), leased) == (["m"], True)
        clock.advance(MINUTE)
        assert store.landed.find_free(q, 10)[1] is False
        store.landed.acquire_lease(q, "us", 60)
        store.landed.release_lease(q, "us", 1)
        assert store.landed.find_free(q, 10)[1] is False

    def test_free_tells_of_the_lease_of_a_queue_without_messages(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        assert store.landed.find_free(q, 10) == ([], True)
