"""Lists, statistics, and deletions of messages."""

import pytest

from storage.base import SideStore
from storage.suite.support import (
    HOUR,
    MINUTE,
    Clock,
    SuiteFixtures,
    add,
    created,
    ids_of,
    listed,
    new,
    new_claim,
    take,
    together,
)

#: Threads that delete at the same moment.
DELETERS = 18


def deleted_at_once(store: SideStore, q: str, ids: list[str]) -> list[int]:
    """Delete messages of the claim ``ours``, each by a thread of its own; what each is told."""
    return together(*[lambda id_=id_: store.landed.delete_claimed(q, [id_], ["ours"]) for id_ in ids])


class ReadingTests(SuiteFixtures):
    """Lists, statistics, and deletions of messages."""

    def test_volume_counts_the_messages_of_all_queues(self, store: SideStore, project: str) -> None:
        before = store.landed.volume()
        keys = [created(store, f"{project}/{name}") for name in "ab"]
        for key in keys:
            add(store, key, "1", "2")
        take(store, keys[0], new_claim(store, "c"), "1")
        after = store.landed.volume()
        assert (after.free - before.free, after.claimed - before.claimed, after.delayed) == (3, 1, before.delayed)
        assert (after.oldest, after.newest) == (None, None)

    def test_list_goes_on_behind_a_position(self, store: SideStore, q: str) -> None:
        messages = add(store, q, "a", "b", "c")
        assert ids_of(store.landed.list_messages(q, 0, 2)) == ["a", "b"]
        assert ids_of(store.landed.list_messages(q, messages[1].seq, 2)) == ["c"]
        assert store.landed.list_messages(q, messages[2].seq, 2) == []

    @pytest.mark.parametrize(
        ("filters", "shown"),
        [
            ({}, ["free", "over"]),
            ({"claimed": True}, ["free", "claimed", "over"]),
            ({"delayed": True}, ["free", "delayed", "over"]),
            ({"claimed": True, "delayed": True}, ["free", "claimed", "delayed", "over"]),
        ],
    )
    def test_hidden_messages_are_listed_on_demand(
        self, store: SideStore, q: str, filters: dict[str, bool], shown: list[str]
    ) -> None:
        add(store, q, "free")
        hidden = {"hidden_until": store.now() + MINUTE}
        add(store, q, "claimed", claim="claim", **hidden)
        add(store, q, "delayed", **hidden)
        add(store, q, "over", claim="over", hidden_until=store.now() - 1)
        assert listed(store, q, **filters) == shown

    def test_one_clients_messages_can_be_left_out(self, store: SideStore, q: str) -> None:
        add(store, q, "a1", client="a")
        add(store, q, "b1", client="b")
        add(store, q, "native")
        assert listed(store, q, not_from="a") == ["b1", "native"]
        assert listed(store, q, not_from="c") == ["a1", "b1", "native"]

    def test_expired_message_is_never_shown(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "m", expires=clock.time + MINUTE, client="c")
        clock.advance(MINUTE - 1)
        assert listed(store, q) == ["m"]
        clock.advance(1)
        assert listed(store, q, claimed=True, delayed=True) == []
        assert store.landed.get_messages(q, ["m"]) == []
        assert store.landed.newest(q) is None
        assert store.landed.stats(q) == type(store.landed.stats(q))()

    def test_messages_are_got_by_id_whatever_their_state(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "free", "claimed")
        add(store, q, "delayed", hidden_until=store.now() + MINUTE)
        take(store, q, new_claim(store), "claimed")
        found = store.landed.get_messages(q, ["free", "claimed", "delayed", "unknown"])
        assert {m.id: m.claim for m in found} == {"free": None, "claimed": "claim", "delayed": None}
        assert store.landed.get_messages(q2, ["free"]) == []

    def test_newest_is_the_one_that_landed_last(self, store: SideStore, q: str) -> None:
        assert store.landed.newest(q) is None
        add(store, q, "b", "a")
        newest = store.landed.newest(q)
        assert newest is not None and newest.id == "a"

    def test_unclaimed_messages_are_deleted(self, store: SideStore, q: str, q2: str) -> None:
        add(store, q, "free", "claimed", "other")
        add(store, q, "delayed", hidden_until=store.now() + MINUTE)
        take(store, q, new_claim(store), "claimed")
        assert store.landed.delete_unclaimed(q, ["free", "claimed", "delayed", "unknown"]) == 2
        assert listed(store, q, claimed=True, delayed=True) == ["claimed", "other"]
        assert store.landed.delete_unclaimed(q2, ["other"]) == 0

    @pytest.mark.parametrize("ids", [["m"], ["m", "unknown"]], ids=["one", "many"])
    def test_message_whose_claim_is_over_can_be_deleted_without_it(
        self, store: SideStore, q: str, clock: Clock, ids: list[str]
    ) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, lasts=MINUTE))
        clock.advance(MINUTE - 1)
        assert store.landed.delete_unclaimed(q, ids) == 0
        clock.advance(1)
        assert store.landed.delete_unclaimed(q, ids) == 1

    @pytest.mark.parametrize("ids", [["m"], ["m", "unknown"]], ids=["one", "many"])
    def test_claimed_message_is_deleted_with_its_claim(
        self, store: SideStore, q: str, q2: str, clock: Clock, ids: list[str]
    ) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, "ours"))
        assert store.landed.delete_claimed(q, ids, ["theirs"]) == 0
        assert store.landed.delete_claimed(q2, ids, ["ours"]) == 0
        assert store.landed.delete_claimed(q, ids, ["theirs", "ours"]) == 1
        assert store.landed.get_messages(q, ["m"]) == []

    @pytest.mark.parametrize("ids", [["m"], ["m", "unknown"]], ids=["one", "many"])
    def test_expired_claim_deletes_nothing(self, store: SideStore, q: str, clock: Clock, ids: list[str]) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, lasts=MINUTE))
        clock.advance(MINUTE)
        assert store.landed.delete_claimed(q, ids, ["claim"]) == 0

    def test_free_message_is_not_deleted_with_a_claim(self, store: SideStore, q: str) -> None:
        add(store, q, "m")
        assert store.landed.delete_claimed(q, ["m"], ["claim"]) == 0

    @pytest.mark.parametrize("kinds", [("ours",), ("ours", "theirs", "free")], ids=["all can", "some can't"])
    def test_many_who_delete_at_once_are_told_what_came_of_their_own(
        self, store: SideStore, q: str, kinds: tuple[str, ...]
    ) -> None:
        """Stores may send such deletes together."""
        ids = [f"{kinds[number % len(kinds)]}-{number}" for number in range(DELETERS)]
        add(store, q, *ids)
        for claim in {"ours", "theirs"} & {*kinds}:
            take(store, q, new_claim(store, claim), *(id_ for id_ in ids if id_.startswith(claim)))
        assert deleted_at_once(store, q, ids) == [int(id_.startswith("ours")) for id_ in ids]
        assert {m.id for m in store.landed.get_messages(q, ids)} == {id_ for id_ in ids if not id_.startswith("ours")}

    def test_those_who_delete_what_is_not_there_are_told_so_beside_others(self, store: SideStore, q: str) -> None:
        """The others may be told the same, as that is what they find when they look."""
        ids = [f"{'m' if number % 2 else 'unknown'}-{number}" for number in range(DELETERS)]
        there = [id_ for id_ in ids if id_.startswith("m")]
        add(store, q, *there)
        take(store, q, new_claim(store, "ours"), *there)
        told = deleted_at_once(store, q, ids)
        assert not any(count for id_, count in zip(ids, told, strict=True) if id_.startswith("unknown"))
        assert store.landed.get_messages(q, ids) == []

    def test_of_many_who_delete_a_message_at_once_one_is_told_so(self, store: SideStore, q: str) -> None:
        add(store, q, "m")
        take(store, q, new_claim(store, "ours"))
        assert sum(deleted_at_once(store, q, ["m"] * DELETERS)) <= 1
        assert store.landed.get_messages(q, ["m"]) == []

    def test_deleted_messages_can_land_again(self, store: SideStore, q: str) -> None:
        add(store, q, "m")
        store.landed.delete_unclaimed(q, ["m"])
        assert store.landed.land(q, [new(store, "m", seq=1)]) == set()

    def test_stats_count_by_state(self, store: SideStore, q: str, q2: str, clock: Clock) -> None:
        add(store, q, "free", "claimed-1", "claimed-2", "over")
        take(store, q, new_claim(store, "over", lasts=1), "over")
        take(store, q, new_claim(store), "claimed-1", "claimed-2")
        add(store, q, "delayed", hidden_until=clock.time + MINUTE)
        add(store, q2, "elsewhere")
        clock.advance(1)
        stats = store.landed.stats(q)
        assert (stats.free, stats.claimed, stats.delayed) == (2, 2, 1)
        assert stats.oldest is not None and stats.oldest.id == "free"
        assert stats.newest is not None and stats.newest.id == "delayed"

    def test_stats_of_an_empty_queue(self, store: SideStore, q: str) -> None:
        stats = store.landed.stats(q)
        assert (stats.free, stats.claimed, stats.delayed, stats.oldest, stats.newest) == (0, 0, 0, None, None)

    def test_purge_removes_messages_and_tombstones_of_one_queue(self, store: SideStore, q: str, q2: str) -> None:
        for key in (q, q2):
            store.catalogue.create_queue(key, b'{"a":1}')
            add(store, key, "free", "claimed")
            take(store, key, new_claim(store), "claimed")
        store.landed.tombstone(q, {"dead": store.now() + HOUR})
        store.landed.purge(q)
        assert listed(store, q, claimed=True, delayed=True) == []
        assert store.landed.get_claim(q, "claim") == []
        assert store.landed.land(q, [new(store, "dead", seq=1)]) == set()
        assert store.catalogue.get_queue(q) is not None
        assert listed(store, q2, claimed=True) == ["free", "claimed"]

    def test_purge_leaves_the_lease_to_its_holder(self, store: SideStore, q: str) -> None:
        store.landed.acquire_lease(q, "us", 60)
        store.landed.purge(q)
        assert store.landed.acquire_lease(q, "them", 60) is None
