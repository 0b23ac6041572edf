"""What must not land a second time: deleted messages that leave tombstones, and appends that are repeated."""

import pytest

from storage.base import SideStore
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


def tombstones(store: SideStore, q: str) -> dict[str, int]:
    return dict(store.landed.list_tombstones(q, "", 1000))


class RememberingTests(SuiteFixtures):
    """What must not land a second time."""

    @pytest.mark.parametrize("claimed", [True, False])
    @pytest.mark.parametrize("ids", [["a"], ["a", "b"], ["a", "b", "c", "d"]], ids=len)
    def test_deleted_message_that_is_remembered_leaves_a_tombstone(
        self, store: SideStore, q: str, q2: str, claimed: bool, ids: list[str]
    ) -> None:
        until = store.now() + HOUR
        remembered = {"a": until, "b": until + 1, "missing": until, "kept": until}
        for key in (q, q2):
            add(store, key, "a", "b", "c", "d", "kept")
        if claimed:
            take(store, q, new_claim(store), "a", "b", "c", "d")
            assert store.landed.delete_claimed(q, ids, ["other", "claim"], remembered) == len(ids)
            assert store.landed.delete_claimed(q, ids, ["claim"], remembered) == 0
        else:
            assert store.landed.delete_unclaimed(q, ids, remembered) == len(ids)
            assert store.landed.delete_unclaimed(q, ids, remembered) == 0
        assert tombstones(store, q) == {id_: remembered[id_] for id_ in ids if id_ in remembered}
        assert tombstones(store, q2) == {}
        left = [id_ for id_ in ("a", "b", "c", "d", "kept") if id_ not in ids]
        assert listed(store, q, claimed=True) == left
        assert listed(store, q2) == ["a", "b", "c", "d", "kept"]
        again = [new(store, id_, seq=2**62 + number) for number, id_ in enumerate(("a", "b", "c", "new"))]
        assert store.landed.land(q, again) == {"a", "b", "c", "new"} - ({"c"} & set(ids)) - {"new"}

    def test_message_that_is_not_deleted_leaves_no_tombstone(self, store: SideStore, q: str) -> None:
        until = store.now() + HOUR
        remembered = dict.fromkeys(("free", "claimed", "delayed", "missing"), until)
        add(store, q, "free", "claimed")
        add(store, q, "delayed", hidden_until=until)
        take(store, q, new_claim(store), "claimed")
        assert store.landed.delete_claimed(q, [*remembered], ["other"], remembered) == 0
        assert store.landed.delete_claimed(q, ["free", "delayed", "missing"], ["claim"], remembered) == 0
        assert store.landed.delete_unclaimed(q, ["claimed", "missing"], remembered) == 0
        assert tombstones(store, q) == {}
        assert listed(store, q, claimed=True, delayed=True) == ["free", "claimed", "delayed"]
        assert store.landed.delete_unclaimed(q, [*remembered], remembered) == 2
        assert tombstones(store, q) == {"free": until, "delayed": until}

    def test_remembered_message_is_nowhere_after_its_end(self, store: SideStore, q: str) -> None:
        """A tombstone is not a message, whatever the message was."""
        until = store.now() + HOUR
        add(store, q, "m", group="g", dedup_id="d", client="c", properties=b"{}", encrypted=True, key="k")
        take(store, q, new_claim(store))
        assert store.landed.delete_claimed(q, ["m"], ["claim"], {"m": until}) == 1
        assert listed(store, q, claimed=True, delayed=True) == []
        assert store.landed.find_free(q, 10)[0] == store.landed.find_in_groups(q, 10).messages == []
        assert store.landed.get_messages(q, ["m"]) == store.landed.get_claim(q, "claim") == []
        assert store.landed.renew_claim(q, new_claim(store, lasts=HOUR)) is False
        assert store.landed.release_claim(q, "claim") == 0
        assert (store.landed.newest(q), store.landed.stats(q).claimed) == (None, 0)
        assert store.landed.export(q, 0, 10) == store.landed.ready([q]) == []
        assert store.landed.tombstone(q, {"m": until}) == set()
        assert store.landed.landed_or_deleted(q, ["m", "n"]) == {"m"}
        assert store.landed.delete_unclaimed(q, ["m"], {"m": until}) == 0
        store.landed.purge(q)
        assert tombstones(store, q) == {}

    def test_tombstone_of_a_deleted_message_ends_at_its_time(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "m")
        store.landed.delete_unclaimed(q, ["m"], {"m": clock.time + MINUTE})
        clock.advance(MINUTE)
        assert tombstones(store, q) == {}

    def test_of_many_who_delete_a_remembered_message_one_does(self, store: SideStore, q: str) -> None:
        ids = [f"m{number}" for number in range(10)]
        add(store, q, *ids)
        remembered = dict.fromkeys(ids, store.now() + HOUR)
        deleted = together(*[lambda: store.landed.delete_unclaimed(q, ids, remembered)] * CROWD)
        assert sum(deleted) == len(ids)
        assert tombstones(store, q) == remembered

    def test_of_a_delete_with_a_tombstone_and_a_release_one_wins(self, store: SideStore, q: str) -> None:
        ids = [f"m{number}" for number in range(10)]
        add(store, q, *ids)
        take(store, q, new_claim(store))
        remembered = dict.fromkeys(ids, store.now() + HOUR)
        deleted, _ = together(
            lambda: sum(store.landed.delete_claimed(q, [id_], ["claim"], remembered) for id_ in ids),
            lambda: store.landed.release_claim(q, "claim"),
        )
        left = listed(store, q)
        assert deleted + len(left) == len(ids)
        assert tombstones(store, q).keys() == set(ids) - set(left)

    # -- appends ------------------------------------------------------------------------------------------------

    def test_repeated_append_adds_what_is_missing(self, store: SideStore, q: str) -> None:
        store.landed.open_queue(f"{q}/~1")
        store.landed.bind(q, f"{q}/~1")
        first = add(store, q, "a", "b", "c")
        store.landed.delete_unclaimed(q, ["b"], {"b": store.now() + HOUR})
        store.landed.delete_unclaimed(f"{q}/~1", ["a", "b", "c"])
        store.landed.append(q, [new(store, id_) for id_ in ("a", "b", "c", "d", "e")], again=True)
        assert listed(store, q) == ["a", "c", "d", "e"]
        assert listed(store, f"{q}/~1") == ["d", "e"], "the others have been delivered"
        assert [m.seq for m in store.landed.list_messages(q, 0, 2)] == [first[0].seq, first[2].seq]
        store.landed.append(q, [new(store, "a")], again=True)
        assert ids_of(store.landed.export(q, 0, 10)) == ["a", "c", "d", "e"]
        add(store, q, "f")
        assert listed(store, q)[-1] == "f"
