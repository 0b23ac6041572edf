"""Free messages, and how they are claimed."""

from storage.base import SideStore
from storage.suite.support import (
    CROWD,
    HOUR,
    MINUTE,
    Clock,
    SuiteFixtures,
    add,
    free_ids,
    ids_of,
    new_claim,
    take,
    together,
)


class ClaimingTests(SuiteFixtures):
    """Free messages, and how they are claimed."""

    def test_free_messages_come_oldest_first_up_to_the_limit(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "c", "a", "b")
        assert ids_of(store.landed.find_free(q, 2)[0]) == ["c", "a"]
        assert ids_of(store.landed.find_free(q, 9)[0]) == ["c", "a", "b"]
        assert free_ids(store, q2) == []

    def test_hidden_messages_are_not_free(self, store: SideStore, q: str) -> None:
        add(store, q, "claimed", "free")
        add(store, q, "delayed", hidden_until=store.now() + MINUTE)
        take(store, q, new_claim(store), "claimed")
        assert free_ids(store, q) == ["free"]

    def test_message_whose_claim_is_over_is_free_in_its_old_place(
        self, store: SideStore, q: str, clock: Clock
    ) -> None:
        add(store, q, "first", "second", "third")
        take(store, q, new_claim(store, lasts=MINUTE), "first", "third")
        clock.advance(MINUTE - 1)
        assert free_ids(store, q) == ["second"]
        clock.advance(1)
        messages, _ = store.landed.find_free(q, 10)
        assert ids_of(messages) == ["first", "second", "third"]
        assert [(m.hidden_until, m.claim, m.claims) for m in messages] == [(0, None, 1), (0, None, 0), (0, None, 1)]

    def test_old_messages_come_first_also_when_the_limit_is_small(
        self, store: SideStore, q: str, clock: Clock
    ) -> None:
        add(store, q, "first", "second", "third")
        take(store, q, new_claim(store, lasts=MINUTE), "first", "third")
        clock.advance(MINUTE)
        assert ids_of(store.landed.find_free(q, 1)[0]) == ["first"]
        assert ids_of(store.landed.find_free(q, 2)[0]) == ["first", "second"]

    def test_message_is_free_when_its_delay_is_over(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "delayed", hidden_until=clock.time + MINUTE)
        clock.advance(MINUTE - 1)
        assert free_ids(store, q) == []
        clock.advance(1)
        assert free_ids(store, q) == ["delayed"]

    def test_expired_message_is_not_free(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "short", expires=clock.time + MINUTE)
        add(store, q, "long")
        clock.advance(MINUTE - 1)
        assert free_ids(store, q) == ["short", "long"]
        clock.advance(1)
        assert free_ids(store, q) == ["long"]

    def test_expired_hold_on_an_expired_message_is_no_obstacle(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "dead", expires=clock.time + MINUTE, hidden_until=clock.time + MINUTE)
        add(store, q, "living")
        clock.advance(MINUTE)
        assert free_ids(store, q) == ["living"]

    def test_claimed_messages_are_returned_as_they_are_now(self, store: SideStore, q: str) -> None:
        add(store, q, "a", "b")
        claim = new_claim(store)
        got = take(store, q, claim)
        assert ids_of(got) == ["a", "b"]
        assert {(m.hidden_until, m.claim, m.claim_ttl, m.claims) for m in got} == {(claim.expires, "claim", 60, 1)}
        assert store.landed.get_claim(q, "claim") == got

    def test_claim_makes_messages_live_long_enough(self, store: SideStore, q: str) -> None:
        add(store, q, "short", expires=store.now() + MINUTE)
        claim = new_claim(store, lasts=MINUTE, grace=MINUTE)
        (got,) = take(store, q, claim)
        assert got.expires == claim.keep_until
        assert store.landed.get_messages(q, ["short"])[0].expires == claim.keep_until

    def test_claim_does_not_shorten_a_life(self, store: SideStore, q: str) -> None:
        (message,) = add(store, q, "long", expires=store.now() + HOUR)
        (got,) = take(store, q, new_claim(store))
        assert got.expires == message.expires

    def test_every_claim_is_counted(self, store: SideStore, q: str) -> None:
        add(store, q, "m")
        for number in (1, 2, 3):
            (got,) = take(store, q, new_claim(store, f"claim-{number}"))
            assert got.claims == number
            store.landed.release_claim(q, f"claim-{number}")

    def test_what_is_gone_or_taken_is_not_claimed(self, store: SideStore, q: str) -> None:
        add(store, q, "taken", "gone", "left")
        found, _ = store.landed.find_free(q, 10)
        take(store, q, new_claim(store, "theirs"), "taken")
        store.landed.delete_unclaimed(q, ["gone"])
        got = store.landed.claim(q, found, new_claim(store, "ours"))
        assert ids_of(got) == ["left"]
        assert ids_of(store.landed.get_claim(q, "ours")) == ["left"]
        assert ids_of(store.landed.get_claim(q, "theirs")) == ["taken"]

    def test_of_many_claimers_each_message_goes_to_one(self, store: SideStore, q: str) -> None:
        posted = [f"m{number:02}" for number in range(40)]
        add(store, q, *posted)

        def work(worker: int) -> list[str]:
            got: list[str] = []
            rounds = 0
            while found := store.landed.find_free(q, 5)[0]:
                rounds += 1
                got += ids_of(store.landed.claim(q, found, new_claim(store, f"claim-{worker}-{rounds}")))
            return got

        got = together(*[lambda n=n: work(n) for n in range(CROWD)])
        assert sorted(id_ for ids in got for id_ in ids) == posted
