"""What becomes of a claim: shown, renewed, released."""

from storage.base import SideStore
from storage.suite.support import HOUR, MINUTE, Clock, SuiteFixtures, add, free_ids, ids_of, new_claim, take, together


class ClaimTests(SuiteFixtures):
    """What becomes of a claim: shown, renewed, released."""

    def test_claim_shows_its_messages_oldest_first(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "c", "a", "b", "not-in-it")
        take(store, q, new_claim(store), "a", "b", "c")
        store.landed.delete_claimed(q, ["a"], ["claim"])
        assert ids_of(store.landed.get_claim(q, "claim")) == ["c", "b"]
        assert store.landed.get_claim(q, "unknown") == []
        assert store.landed.get_claim(q2, "claim") == []

    def test_claim_is_gone_at_its_time(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, lasts=MINUTE))
        clock.advance(MINUTE - 1)
        assert ids_of(store.landed.get_claim(q, "claim")) == ["m"]
        clock.advance(1)
        assert store.landed.get_claim(q, "claim") == []

    def test_renewed_claim_runs_anew(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "m", expires=clock.time + MINUTE)
        take(store, q, new_claim(store, lasts=MINUTE, grace=0))
        clock.advance(MINUTE - 1)
        renewed = new_claim(store, lasts=2 * MINUTE, grace=MINUTE)
        assert store.landed.renew_claim(q, renewed) is True
        (message,) = store.landed.get_claim(q, "claim")
        assert (message.hidden_until, message.claim_ttl, message.expires, message.claims) == (
            renewed.expires, 120, renewed.keep_until, 1,
        )

    def test_renewing_may_end_a_claim_sooner_but_no_life(self, store: SideStore, q: str) -> None:
        (message,) = add(store, q, "m", expires=store.now() + 2 * HOUR)
        take(store, q, new_claim(store, lasts=HOUR))
        renewed = new_claim(store, lasts=MINUTE)
        assert store.landed.renew_claim(q, renewed) is True
        (found,) = store.landed.get_claim(q, "claim")
        assert (found.hidden_until, found.expires) == (renewed.expires, message.expires)

    def test_claim_that_is_over_is_not_renewed(self, store: SideStore, q: str, q2: str, clock: Clock) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, lasts=MINUTE))
        assert store.landed.renew_claim(q2, new_claim(store)) is False
        assert store.landed.renew_claim(q, new_claim(store, "unknown")) is False
        clock.advance(MINUTE)
        assert store.landed.renew_claim(q, new_claim(store)) is False
        assert free_ids(store, q) == ["m"]

    def test_released_messages_are_free_at_once(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "a", "b", "c")
        take(store, q, new_claim(store, "ours"), "a", "c")
        take(store, q, new_claim(store, "theirs"), "b")
        store.landed.release_claim(q2, "ours")
        assert free_ids(store, q) == []
        store.landed.release_claim(q, "ours")
        store.landed.release_claim(q, "unknown")
        messages, _ = store.landed.find_free(q, 10)
        assert [(m.id, m.claim, m.claims) for m in messages] == [("a", None, 1), ("c", None, 1)]
        assert ids_of(store.landed.get_claim(q, "theirs")) == ["b"]

    def test_of_a_delete_and_a_release_one_wins(self, store: SideStore, q: str) -> None:
        ids = [f"m{number}" for number in range(10)]
        add(store, q, *ids)
        take(store, q, new_claim(store))
        deleted, _ = together(
            lambda: [id_ for id_ in ids if store.landed.delete_claimed(q, [id_], ["claim"])],
            lambda: store.landed.release_claim(q, "claim"),
        )
        assert sorted(deleted + free_ids(store, q)) == ids
