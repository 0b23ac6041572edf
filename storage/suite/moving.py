"""Messages that go to another store: exported, landed there as they are, removed here."""

from dataclasses import asdict

import pytest

from storage.base import SideStore
from storage.model import Claim, Message
from storage.suite.support import (
    HOUR,
    KEYS,
    MINUTE,
    Clock,
    SuiteFixtures,
    add,
    ids_of,
    listed,
    new,
    new_claim,
    take,
)


def every_state(store: SideStore) -> list[Message]:
    """Messages in each state, with a value in each field."""
    now = store.now()
    claimed = {"claim": "ours", "claim_ttl": 60, "claims": 3}
    delayed = {"hidden_until": now + 2 * MINUTE}
    return [
        new(store, "free", seq=5, client="client", posted=now - 10),
        new(store, "claimed", seq=6, hidden_until=now + MINUTE, **claimed),
        new(store, "delayed", seq=7, **delayed),
        new(store, "claim-over", seq=8, hidden_until=now - 1, **claimed),
        new(store, "delay-over", seq=9, hidden_until=now - 1),
        new(store, "released", seq=10, claims=2),
        new(store, "sealed", seq=11, encrypted=True, key=f"{KEYS[0]}?0123abcd", body=bytes(range(256))),
        new(store, "sealed-somehow", seq=12, encrypted=True),
        new(store, "foreign", seq=13, properties=b'{"a":1}', body=b""),
        new(store, "grouped", seq=14, group="group", dedup_id="once"),
    ]


def exported(store: SideStore, q: str) -> list[str]:
    return ids_of(store.landed.export(q, 0, 1000))


class MovingTests(SuiteFixtures):
    """Messages that go to another store: exported, landed there as they are, removed here."""

    def test_export_shows_messages_of_any_state_as_they_are(self, store: SideStore, q: str, q2: str) -> None:
        messages = every_state(store)
        assert store.landed.land(q, messages[::-1]) == set()
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        add(store, q2, "elsewhere")
        assert [asdict(m) for m in store.landed.export(q, 0, 100)] == [asdict(m) for m in messages]

    def test_export_is_what_another_store_lands(self, store: SideStore, q: str, q2: str) -> None:
        store.landed.land(q, every_state(store))
        messages = store.landed.export(q, 0, 100)
        assert store.landed.land(q2, messages) == set()
        assert store.landed.export(q2, 0, 100) == messages
        claim = new_claim(store, "ours", lasts=5 * MINUTE)
        assert ids_of(store.landed.get_claim(q2, "ours")) == ["claimed"]
        assert store.landed.renew_claim(q2, claim) is True
        assert (store.landed.stats(q2).claimed, store.landed.stats(q2).delayed) == (1, 1)
        assert store.landed.delete_claimed(q2, ["claimed"], ["ours"]) == 1
        assert "claimed" in exported(store, q)

    def test_export_goes_on_after_a_position(self, store: SideStore, q: str) -> None:
        messages = add(store, q, *(f"m{n}" for n in range(5)))
        assert ids_of(store.landed.export(q, 0, 2)) == ["m0", "m1"]
        assert ids_of(store.landed.export(q, messages[1].seq, 2)) == ["m2", "m3"]
        assert ids_of(store.landed.export(q, messages[3].seq, 2)) == ["m4"]
        assert store.landed.export(q, messages[4].seq, 2) == []

    @pytest.mark.parametrize("field", ["body", "properties"])
    def test_export_ends_when_there_are_too_many_bytes(self, store: SideStore, q: str, field: str) -> None:
        for n in range(5):
            add(store, q, f"m{n}", **{"body": b"", field: b"x" * 1000})
        assert ids_of(store.landed.export(q, 0, 10, most_bytes=3500)) == ["m0", "m1", "m2"]
        assert ids_of(store.landed.export(q, 0, 10, most_bytes=3000)) == ["m0", "m1", "m2"]
        assert ids_of(store.landed.export(q, 0, 10, most_bytes=1)) == ["m0"]
        assert len(store.landed.export(q, 0, 10)) == 5

    def test_expired_message_is_not_exported(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "dead", expires=clock.time + MINUTE)
        add(store, q, "living", expires=clock.time + MINUTE + 1)
        clock.advance(MINUTE)
        assert exported(store, q) == ["living"]

    def test_closed_key_is_exported_and_emptied(self, store: SideStore, q: str) -> None:
        store.landed.land(q, every_state(store))
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        store.landed.close_queue(q)
        messages = store.landed.export(q, 0, 100)
        assert len(messages) == len(every_state(store))
        assert ids_of_tombstones(store, q) == ["dead"]
        assert store.landed.remove(q, messages) == set()
        assert store.landed.export(q, 0, 100) == []

    def test_remove_leaves_what_has_changed(self, store: SideStore, q: str, q2: str, clock: Clock) -> None:
        add(store, q, "claimed", "claimed-and-released", "deleted", "released", "renewed", "lives-longer", "same")
        take(store, q, new_claim(store, "released"), "released")
        take(store, q, new_claim(store, "renewed"), "renewed")
        take(store, q, new_claim(store, "longer", lasts=2 * HOUR), "lives-longer")
        messages = store.landed.export(q, 0, 100)
        take(store, q, new_claim(store, "new"), "claimed")
        take(store, q, new_claim(store, "short"), "claimed-and-released")
        store.landed.release_claim(q, "short")
        store.landed.delete_unclaimed(q, ["deleted"])
        store.landed.release_claim(q, "released")
        store.landed.renew_claim(q, new_claim(store, "renewed", lasts=2 * MINUTE))
        expires = store.landed.get_claim(q, "longer")[0].hidden_until
        store.landed.renew_claim(q, Claim("longer", 7200, expires, expires + HOUR))
        changed = {"claimed", "claimed-and-released", "released", "renewed", "lives-longer"}
        assert store.landed.remove(q2, messages) == set()
        assert store.landed.remove(q, messages) == changed
        assert set(exported(store, q)) == changed
        assert store.landed.remove(q, messages) == changed
        assert store.landed.remove(q, store.landed.export(q, 0, 100)) == set()
        assert exported(store, q) == []

    def test_claim_that_is_over_is_no_change(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "over")
        add(store, q, "delayed", hidden_until=clock.time + MINUTE)
        take(store, q, new_claim(store, lasts=MINUTE), "over")
        messages = store.landed.export(q, 0, 100)
        clock.advance(MINUTE)
        assert store.landed.remove(q, messages) == set()
        assert exported(store, q) == []

    def test_message_that_was_put_back_among_the_free_ones_has_changed(
        self, store: SideStore, q: str, clock: Clock
    ) -> None:
        add(store, q, "over")
        take(store, q, new_claim(store, lasts=MINUTE))
        messages = store.landed.export(q, 0, 100)
        clock.advance(MINUTE)
        store.landed.find_free(q, 10)
        assert store.landed.remove(q, messages) == {"over"}
        assert listed(store, q) == ["over"]

    def test_removing_and_exporting_nothing(self, store: SideStore, q: str) -> None:
        assert store.landed.remove(q, []) == set()
        assert store.landed.export(q, 0, 10) == []
        assert store.landed.remove(q, [new(store, "never-there", seq=1)]) == set()

    # -- tombstones ---------------------------------------------------------------------------------------------

    def test_tombstones_are_listed_by_id(self, store: SideStore, q: str, q2: str, clock: Clock) -> None:
        until = clock.time + HOUR
        ids = ["b", "a", "B", "10", "9", "-", "_", "~", "a.b", "!", "ü"]
        store.landed.tombstone(q, {id_: until + n for n, id_ in enumerate(ids)})
        store.landed.tombstone(q2, {"elsewhere": until})
        add(store, q, "landed", "c")
        last = store.landed.acquire_lease(q, "us", 60)
        assert last is not None
        store.landed.land(q, [new(store, "under-lease", seq=last + 1)], "us")
        everything = sorted((id_, until + n) for n, id_ in enumerate(ids))
        assert store.landed.list_tombstones(q, "", 100) == everything
        assert store.landed.list_tombstones(q, "", 4) == everything[:4]
        assert store.landed.list_tombstones(q, everything[3][0], 4) == everything[4:8]
        assert store.landed.list_tombstones(q, everything[-1][0], 4) == []

    def test_tombstone_that_does_not_matter_any_more_is_not_listed(
        self, store: SideStore, q: str, clock: Clock
    ) -> None:
        store.landed.tombstone(q, {"short": clock.time + MINUTE, "long": clock.time + HOUR})
        clock.advance(MINUTE)
        assert ids_of_tombstones(store, q) == ["long"]

    def test_listed_tombstones_count_in_another_store(self, store: SideStore, q: str, q2: str) -> None:
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        assert store.landed.tombstone(q2, dict(store.landed.list_tombstones(q, "", 10))) == set()
        assert store.landed.land(q2, [new(store, "dead", seq=1)]) == {"dead"}
        assert store.landed.list_tombstones(q2, "", 10) == store.landed.list_tombstones(q, "", 10)


def ids_of_tombstones(store: SideStore, q: str) -> list[str]:
    return [id_ for id_, _ in store.landed.list_tombstones(q, "", 1000)]
