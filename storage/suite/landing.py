"""How messages land, and what must not land."""

from typing import Any

import pytest

from storage.base import SideStore
from storage.errors import Unstorable
from storage.model import Message, Ring
from storage.suite.support import (
    CROWD,
    HOUR,
    KEYS,
    MAX_POSITION,
    MINUTE,
    SuiteFixtures,
    add,
    free_ids,
    ids_of,
    listed,
    new,
    new_claim,
    take,
    together,
)


class LandingTests(SuiteFixtures):
    """How messages land, and what must not land."""

    @pytest.mark.parametrize("fields", [
        {"client": "\udc80"}, {"posted": 2**64}, {"claims": 2**63}, {"claim": "\ud800"},
    ], ids=str)
    def test_what_can_never_be_stored_says_so_and_fails_nobody_else(
        self, store: SideStore, q: str, fields: dict[str, Any]
    ) -> None:
        def land(number: int) -> bool:
            messages = [new(store, f"{number}-good", seq=2 * number + 1)]
            if number % 2:
                messages.append(new(store, f"{number}-bad", **{"seq": 2 * number + 2, **fields}))
            try:
                return store.landed.land(q, messages) == set()
            except Unstorable:
                return False

        results = together(*[lambda number=number: land(number) for number in range(CROWD)])
        assert results == [True, False] * (CROWD // 2)
        assert {f"{number}-good" for number in range(0, CROWD, 2)} <= set(listed(store, q))
        with pytest.raises(Unstorable):
            store.landed.append(q, [new(store, "appended", **{key: fields[key] for key in fields})])
        add(store, q, "after")
        assert listed(store, q)[-1] == "after"

    def test_all_fields_are_kept(self, store: SideStore, q: str) -> None:
        now = store.now()
        message = Message(
            id="id", posted=now - 5, expires=now + HOUR, body=b"{}", client="client", encrypted=True, seq=3,
            hidden_until=now + MINUTE, claim="claim", claim_ttl=60, claims=2,
        )
        assert store.landed.land(q, [message]) == set()
        assert store.landed.get_messages(q, ["id"]) == [message]

    @pytest.mark.parametrize("key", ["", KEYS[0], f"{KEYS[0]}?0123abcd", "?0123abcd?12345678"])
    def test_key_of_an_encrypted_message_is_kept(self, store: SideStore, q: str, key: str) -> None:
        message = new(store, "id", seq=1, encrypted=True, key=key)
        store.landed.land(q, [message])
        assert store.landed.get_messages(q, ["id"]) == [message]

    def test_ring_leaves_out_what_it_does_not_open(self, store: SideStore, q: str) -> None:
        ring = Ring("0123abcd", KEYS[:2])
        opened = {"plain": "", "one": KEYS[0], "two": KEYS[1], "unknown": "", "tried": "?12345678",
                  "mine-tried": f"{KEYS[1]}?12345678"}
        closed = {"third": KEYS[2], "failed": "?0123abcd", "failed-too": "?12345678?0123abcd",
                  "damaged": f"{KEYS[0]}?0123abcd", "not-mine": f"{KEYS[2]}?12345678"}
        for id_, key in [*closed.items(), *opened.items()]:
            add(store, q, id_, encrypted=id_ != "plain", key=key)

        assert ids_of(store.landed.find_free(q, 100)[0]) == [*closed, *opened]
        assert ids_of(store.landed.find_free(q, 100, ring)[0]) == [*opened]
        assert ids_of(store.landed.find_free(q, 2, ring)[0]) == ["plain", "one"]
        assert ids_of(store.landed.list_messages(q, 0, 100, ring=ring)) == [*opened]
        assert ids_of(store.landed.list_messages(q, 0, 100)) == [*closed, *opened]
        assert ids_of(store.landed.find_free(q, 100, Ring("87654321", ()))[0]) == [
            "failed", "failed-too", "plain", "unknown", "tried"
        ]

    def test_ring_is_no_reason_to_miss_the_lease(self, store: SideStore, q: str) -> None:
        add(store, q, "closed", encrypted=True, key=KEYS[0])
        store.landed.acquire_lease(q, "us", 60)
        assert store.landed.find_free(q, 10, Ring("0123abcd", ())) == ([], True)

    def test_mark_changes_the_key_alone(self, store: SideStore, q: str) -> None:
        message, other = add(store, q, "id", "other", encrypted=True)
        message.key = "?0123abcd"
        store.landed.mark(q, [message, new(store, "gone", encrypted=True, key="?0123abcd")])
        assert store.landed.list_messages(q, 0, 10) == [message, other]
        assert ids_of(store.landed.find_free(q, 10, Ring("0123abcd", KEYS))[0]) == ["other"]

    def test_defaults_are_kept(self, store: SideStore, q: str) -> None:
        message = new(store, "id", seq=1)
        store.landed.land(q, [message])
        assert store.landed.get_messages(q, ["id"]) == [message]

    @pytest.mark.parametrize(
        "body", [b"", b"0", bytes(range(256)), b"\0" * 10, b'"' + b"x" * 2**20 + b'"'],
        ids=["empty", "digit", "binary", "zeros", "1-MiB"],
    )
    def test_bodies_come_back_as_they_were(self, store: SideStore, q: str, body: bytes) -> None:
        add(store, q, "id", body=body)
        (found,) = store.landed.get_messages(q, ["id"])
        assert found.body == body and isinstance(found.body, bytes)

    def test_largest_position_is_kept(self, store: SideStore, q: str) -> None:
        store.landed.land(q, [new(store, "last", seq=MAX_POSITION)])
        assert ids_of(store.landed.list_messages(q, MAX_POSITION - 1, 10)) == ["last"]
        assert store.landed.list_messages(q, MAX_POSITION, 10) == []

    def test_what_has_landed_is_left_out_and_unchanged(self, store: SideStore, q: str) -> None:
        add(store, q, "old", body=b"1")
        left_out = store.landed.land(q, [new(store, "old", seq=5, body=b"2"), new(store, "new", seq=6)])
        assert left_out == {"old"}
        assert {m.id: m.body for m in store.landed.get_messages(q, ["old", "new"])} == {"old": b"1", "new": b'"body"'}

    def test_landing_again_does_not_free_a_claimed_message(self, store: SideStore, q: str) -> None:
        (message,) = add(store, q, "m")
        take(store, q, new_claim(store))
        assert store.landed.land(q, [message]) == {"m"}
        assert free_ids(store, q) == []

    def test_same_id_in_two_queues_is_two_messages(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "m")
        assert store.landed.land(q2, [new(store, "m", seq=1)]) == set()

    def test_one_of_many_landings_of_an_id_counts(self, store: SideStore, q: str) -> None:
        left_out = together(*[lambda n=n: store.landed.land(q, [new(store, "m", seq=n + 1)]) for n in range(CROWD)])
        assert left_out.count(set()) == 1
        assert listed(store, q) == ["m"]

    def test_nothing_lands_where_a_tombstone_is(self, store: SideStore, q: str) -> None:
        assert store.landed.tombstone(q, {"dead": store.now() + HOUR}) == set()
        assert store.landed.land(q, [new(store, "dead", seq=1), new(store, "living", seq=2)]) == {"dead"}
        assert listed(store, q) == ["living"]

    def test_tombstone_is_no_message(self, store: SideStore, q: str) -> None:
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        assert store.landed.get_messages(q, ["dead"]) == []
        assert store.landed.delete_unclaimed(q, ["dead"]) == 0
        assert store.landed.find_free(q, 10) == ([], False)
        assert store.landed.stats(q).free == 0
        assert store.landed.land(q, [new(store, "dead", seq=1)]) == {"dead"}

    def test_tombstone_counts_in_its_queue_only(self, store: SideStore, q: str, q2: str) -> None:
        store.landed.tombstone(q, {"m": store.now() + HOUR})
        assert store.landed.land(q2, [new(store, "m", seq=1)]) == set()

    def test_tombstone_may_be_put_twice(self, store: SideStore, q: str) -> None:
        for _ in range(2):
            assert store.landed.tombstone(q, {"dead": store.now() + HOUR}) == set()
        assert store.landed.land(q, [new(store, "dead", seq=1)]) == {"dead"}

    def test_what_has_landed_gets_no_tombstone(self, store: SideStore, q: str) -> None:
        add(store, q, "landed")
        until = store.now() + HOUR
        assert store.landed.tombstone(q, {"landed": until, "dead": until}) == {"landed"}
        assert listed(store, q) == ["landed"]
        store.landed.delete_unclaimed(q, ["landed"])
        assert store.landed.land(q, [new(store, "landed", seq=9)]) == set()

    def test_known_is_what_has_landed_or_has_a_tombstone(self, store: SideStore, q: str, q2: str) -> None:
        assert store.landed.land(q, [new(store, "landed", seq=1)]) == set()
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        assert store.landed.landed_or_deleted(q, ["landed", "dead", "new"]) == {"landed", "dead"}
        assert store.landed.landed_or_deleted(q2, ["landed", "dead"]) == set()

    def test_nothing_is_a_fine_amount(self, store: SideStore, q: str) -> None:
        assert store.landed.land(q, []) == set()
        assert store.landed.claim(q, [], new_claim(store)) == []
        assert store.landed.get_messages(q, []) == []
        assert store.landed.delete_unclaimed(q, []) == 0
        assert store.landed.delete_claimed(q, [], ["claim"]) == 0
        assert store.landed.delete_claimed(q, ["m"], []) == 0
        assert store.landed.tombstone(q, {}) == set()
