"""Groups: how messages of a FIFO queue are claimed under the landing lease."""

from dataclasses import replace

import pytest

from storage.base import SideStore
from storage.errors import LeaseLost, QueueGone
from storage.suite.grouping import LEASED, add_groups, found, lease, take_in_groups
from storage.suite.support import HOUR, MINUTE, Clock, SuiteFixtures, ids_of, new_claim


class GroupClaimTests(SuiteFixtures):
    """How messages of a FIFO queue are claimed under the landing lease."""

    def test_claimed_messages_of_groups_are_returned_as_they_are_now(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1", "b1", "a2", expires=store.now() + MINUTE)
        add_groups(store, q, "c1", dedup_id="d")
        lease(store, q)
        a1, b1, a2, c1 = store.landed.find_in_groups(q, 10).messages
        one, two, three = new_claim(store, "one"), new_claim(store, "two", lasts=HOUR), new_claim(store, "three")
        got = store.landed.claim_in_groups(q, "us", [(one, [a1, a2]), (two, [b1, c1]), (three, [])])
        assert [ids_of(messages) for messages in got] == [["a1", "a2"], ["b1", "c1"], []]
        assert {(m.hidden_until, m.claim, m.claim_ttl, m.claims) for m in got[0]} == {(one.expires, "one", 60, 1)}
        assert {(m.hidden_until, m.claim, m.claim_ttl, m.claims) for m in got[1]} == {(two.expires, "two", 3600, 1)}
        assert [m.expires for m in (*got[0], *got[1])] == [one.keep_until] * 2 + [two.keep_until] * 2
        assert (got[1][1].group, got[1][1].dedup_id) == ("c", "d")
        assert [store.landed.get_claim(q, claim.id) for claim in (one, two, three)] == got

    def test_claim_in_groups_does_not_shorten_a_life_and_is_counted(self, store: SideStore, q: str) -> None:
        (message,) = add_groups(store, q, "a1", expires=store.now() + 9 * HOUR)
        lease(store, q)
        for number in (1, 2, 3):
            (got,) = take_in_groups(store, q, new_claim(store, f"claim-{number}"))
            assert (got.claims, got.expires) == (number, message.expires)
            store.landed.release_claim(q, f"claim-{number}")

    def test_what_is_gone_or_taken_is_not_claimed_in_groups(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1", "a2", "b1", "c1")
        lease(store, q)
        messages = store.landed.find_in_groups(q, 10).messages
        store.landed.delete_unclaimed(q, ["a1"])
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        store.landed.claim(q, [messages[2]], new_claim(store, "theirs"))
        dead = replace(messages[3], id="dead")
        claim = new_claim(store, "ours")
        assert [ids_of(m) for m in store.landed.claim_in_groups(q, "us", [(claim, [*messages, dead])])] == [
            ["a2", "c1"]
        ]
        assert ids_of(store.landed.get_claim(q, "ours")) == ["a2", "c1"]
        assert ids_of(store.landed.get_claim(q, "theirs")) == ["b1"]
        assert [id_ for id_, _ in store.landed.list_tombstones(q, "", 10)] == ["dead"]
        assert len(store.landed.export(q, 0, 10)) == 3

    def test_claim_in_groups_leaves_the_lease(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1")
        lease(store, q)
        take_in_groups(store, q, new_claim(store))
        assert store.landed.acquire_lease(q, "them", 60) is None
        assert store.landed.renew_lease(q, "us", 60) is True
        store.landed.release_lease(q, "us", 0)
        assert store.landed.acquire_lease(q, "them", 60) is not None

    def test_claim_in_groups_may_give_the_lease_back(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1")
        last = store.landed.acquire_lease(q, "us", LEASED) or 0
        messages = store.landed.find_in_groups(q, 10).messages
        (got,) = store.landed.claim_in_groups(q, "us", [(new_claim(store), messages)], last + 7)
        assert ids_of(got) == ["a1"]
        assert store.landed.acquire_lease(q, "them", LEASED) == last + 7
        assert store.landed.claim_in_groups(q, "them", [], 5) == []
        assert store.landed.acquire_lease(q, "us", LEASED) == last + 7, "it never goes back"
        with pytest.raises(LeaseLost):
            store.landed.claim_in_groups(q, "them", [(new_claim(store, "late"), messages)], last + 9)
        assert store.landed.renew_lease(q, "us", LEASED) is True

    def test_nothing_is_claimed_in_groups_without_the_lease(self, store: SideStore, q: str, clock: Clock) -> None:
        add_groups(store, q, "a1", expires=clock.time + 9 * HOUR)
        messages = store.landed.find_in_groups(q, 10).messages
        wants = [(new_claim(store, lasts=9 * HOUR), messages)]

        def refused() -> None:
            with pytest.raises(LeaseLost):
                store.landed.claim_in_groups(q, "us", wants)

        refused()
        lease(store, q, "them")
        refused()
        clock.advance(LEASED * 1000)
        lease(store, q)
        clock.advance(LEASED * 1000)
        refused()
        lease(store, q, "them")
        refused()
        assert found(store, q) == ["a1"]
        assert [ids_of(got) for got in store.landed.claim_in_groups(q, "them", wants)] == [["a1"]]

    def test_nothing_is_claimed_in_groups_under_a_closed_key(self, store: SideStore, q: str) -> None:
        add_groups(store, q, "a1")
        lease(store, q)
        messages = store.landed.find_in_groups(q, 10).messages
        store.landed.close_queue(q)
        with pytest.raises(QueueGone):
            store.landed.claim_in_groups(q, "us", [(new_claim(store), messages)])
        assert found(store, q) == ["a1"]

    def test_claiming_nothing_in_groups(self, store: SideStore, q: str) -> None:
        lease(store, q)
        assert store.landed.claim_in_groups(q, "us", []) == []
        assert store.landed.claim_in_groups(q, "us", [(new_claim(store), [])]) == [[]]
