"""Messages that are copied to the keys bound to theirs."""

import time

import pytest

from storage.base import SideStore
from storage.errors import LeaseLost, QueueGone
from storage.suite.support import (
    CROWD,
    DEADLINE,
    HOUR,
    MINUTE,
    Clock,
    SuiteFixtures,
    add,
    created,
    free_ids,
    ids_of,
    listed,
    new,
    new_claim,
    take,
    together,
)

#: A position that is later than the clock would give.
LATE = 2**62


def bind(store: SideStore, q: str, id_: str) -> str:
    """A new key that is bound to another one."""
    key = f"{q.rpartition('/')[0]}/~{id_}"
    store.landed.open_queue(key)
    store.landed.bind(q, key)
    return key


class CopyFixtures(SuiteFixtures):
    """A queue with two keys that are bound to its own."""

    @pytest.fixture
    def copy(self, store: SideStore, q: str) -> str:
        """A key that is bound to the queue's."""
        return bind(store, q, "1")

    @pytest.fixture
    def copy2(self, store: SideStore, q: str) -> str:
        """Another one."""
        return bind(store, q, "2")


class CopyTests(CopyFixtures):
    """What is appended under a key appears under those that are bound to it."""

    def test_new_queue_has_its_copies_from_the_start(self, store: SideStore, name: str) -> None:
        keys = [f"{name}/~1", f"{name}/~2"]
        for key in keys:
            store.landed.open_queue(key)
        assert store.catalogue.create_queue(name, None, copies=keys)
        queue = store.catalogue.get_queue(name)
        assert queue is not None and queue.notifies and store.landed.bound(queue.key) == keys
        add(store, queue.key, "a")
        assert [listed(store, key) for key in keys] == [["a"], ["a"]]

    def test_queue_without_copies_does_not_notify(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, None)
        queue = store.catalogue.get_queue(name)
        assert queue is not None and not queue.notifies and store.landed.bound(queue.key) == []

    def test_key_is_opened_with_its_copies(self, store: SideStore, q: str, copy: str) -> None:
        key, other = f"{q}/elsewhere/1", f"{q}/elsewhere/~1"
        for opened in (key, q, q):
            store.landed.open_queue(opened, copies=[other])
        assert store.landed.bound(key) == [other]
        assert store.landed.bound(q) == sorted([copy, other])
        store.landed.open_queue(other)
        add(store, q, "a")
        assert listed(store, copy) == listed(store, other) == ["a"]

    def test_appended_messages_are_copied_in_order(self, store: SideStore, q: str, copy: str, copy2: str) -> None:
        add(store, q, "c", "a")
        add(store, q, "b")
        for key in (q, copy, copy2):
            assert listed(store, key) == free_ids(store, key) == ["c", "a", "b"]

    def test_copy_is_as_the_message_is(self, store: SideStore, q: str, copy: str) -> None:
        now = store.now()
        fields = {
            "posted": now - 5, "expires": now + MINUTE, "body": b"\x00\xff$body", "client": "$client",
            "encrypted": True, "properties": b'{"a":1}', "hidden_until": now + 1000, "key": "kaaaaaaaaaaaaaa0?0123abcd",
        }
        (message,) = add(store, q, "id", **fields)
        (found,) = store.landed.get_messages(q, ["id"])
        (copied,) = store.landed.get_messages(copy, ["id"])
        assert found == message
        copied.seq = message.seq
        assert copied == message

    def test_delayed_message_is_delayed_everywhere(self, store: SideStore, q: str, copy: str, clock: Clock) -> None:
        add(store, q, "delayed", hidden_until=store.now() + MINUTE)
        add(store, q, "now")
        for key in (q, copy):
            assert free_ids(store, key) == ["now"]
        clock.advance(MINUTE)
        for key in (q, copy):
            assert free_ids(store, key) == ["delayed", "now"]

    def test_each_copy_has_a_life_of_its_own(self, store: SideStore, q: str, copy: str, copy2: str) -> None:
        add(store, q, "a", "b")
        take(store, copy, new_claim(store, "ours"), "a")
        store.landed.delete_unclaimed(copy, ["b"])
        assert listed(store, copy, claimed=True) == ["a"]
        assert free_ids(store, q) == free_ids(store, copy2) == ["a", "b"]
        store.landed.purge(q)
        assert free_ids(store, copy2) == ["a", "b"]
        add(store, q, "c")
        assert free_ids(store, copy2) == ["a", "b", "c"]

    def test_messages_that_land_otherwise_are_not_copied(self, store: SideStore, q: str, copy: str) -> None:
        """They come from the broker, which has copied them."""
        last = store.landed.acquire_lease(q, "us", 60)
        assert last is not None
        store.landed.land(q, [new(store, "listed", seq=last + 1024)], "us")
        store.landed.land(q, [new(store, "claimed", seq=last + 1025)])
        assert listed(store, q) == ["listed", "claimed"]
        assert listed(store, copy) == []

    def test_copies_are_not_copied_again(self, store: SideStore, q: str, copy: str) -> None:
        further = bind(store, copy, "further")
        add(store, q, "m")
        assert listed(store, copy) == ["m"]
        assert listed(store, further) == []

    def test_binding_holds_from_now_on_till_its_end(self, store: SideStore, q: str) -> None:
        add(store, q, "before")
        copy = bind(store, q, "1")
        store.landed.bind(q, copy)
        add(store, q, "while")
        for _ in range(2):
            store.landed.unbind(q, copy)
        add(store, q, "after")
        assert listed(store, copy) == ["while"]
        store.landed.bind(q, copy)
        add(store, q, "again")
        assert listed(store, copy) == ["while", "again"]
        assert listed(store, q) == ["before", "while", "after", "again"]

    def test_bound_keys_are_listed(self, store: SideStore, q: str, q2: str) -> None:
        assert store.landed.bound(q) == []
        second, first = bind(store, q, "2"), bind(store, q, "1")
        assert store.landed.bound(q) == [first, second]
        assert store.landed.bound(q2) == store.landed.bound(first) == []
        store.landed.unbind(q2, first)
        store.landed.unbind(q, first)
        assert store.landed.bound(q) == [second]

    def test_end_of_one_binding_leaves_the_others(self, store: SideStore, q: str, copy: str, copy2: str) -> None:
        store.landed.unbind(q, copy)
        add(store, q, "m")
        assert (listed(store, copy), listed(store, copy2)) == ([], ["m"])

    def test_keys_with_odd_characters_are_bound(self, store: SideStore, q: str) -> None:
        """Projects may contain nearly everything."""
        keys = [f"{odd}/{q}/~1" for odd in ("a.b", "$where", "$$ROOT", "a'b\"c", "ä/€", "\x01health", "%2F")]
        for key in keys:
            store.landed.open_queue(key)
            store.landed.bind(q, key)
        add(store, q, "m")
        assert [listed(store, key) for key in keys] == [["m"]] * len(keys)
        assert store.landed.bound(q) == sorted(keys)
        assert store.landed.ready(keys) == keys

    def test_queue_with_odd_characters_is_copied(self, store: SideStore, project: str) -> None:
        q = created(store, f"$ä€{project}/q")
        copy = bind(store, q, "1")
        add(store, q, "m")
        assert listed(store, copy) == ["m"]

    @pytest.mark.parametrize("id_", ["m", "a:b", "$id", "é€"])
    def test_id_of_a_copy_is_that_of_its_message(self, store: SideStore, q: str, copy: str, id_: str) -> None:
        add(store, q, id_)
        assert listed(store, copy) == [id_]
        assert store.landed.delete_unclaimed(copy, [id_]) == 1


class CopyOrderTests(CopyFixtures):
    """Positions of copies, the lease under which they are written, and keys that are not open."""

    def test_positions_under_a_bound_key_come_after_its_last(self, store: SideStore, q: str) -> None:
        copy = f"{q}/~late"
        store.landed.open_queue(copy, LATE)
        store.landed.bind(q, copy)
        messages = add(store, q, "a", "b")
        more = add(store, q, "c")
        copies = store.landed.list_messages(copy, LATE, 10)
        assert ids_of(copies) == ["a", "b", "c"]
        assert len({m.seq for m in copies}) == 3
        assert [m.seq for m in messages + more] == [m.seq for m in store.landed.list_messages(q, 0, 10)]
        assert messages[-1].seq < LATE

    def test_bound_key_may_be_appended_to(self, store: SideStore, q: str, copy: str, clock: Clock) -> None:
        add(store, q, "a", "b")
        add(store, copy, "own", "own2")
        add(store, q, "c")
        clock.advance(-MINUTE)
        add(store, copy, "own3")
        add(store, q, "d")
        copies = store.landed.list_messages(copy, 0, 10)
        assert ids_of(copies) == ["a", "b", "own", "own2", "c", "own3", "d"]
        assert len({m.seq for m in copies}) == len(copies)
        assert listed(store, q) == ["a", "b", "c", "d"]

    def test_reader_of_a_bound_key_sees_every_append_once_and_in_order(
        self, store: SideStore, q: str, copy: str
    ) -> None:
        batches, size = 4, 3

        def write(writer: int) -> None:
            for batch in range(batches):
                add(store, q, *(f"{writer}-{batch}-{number}" for number in range(size)))

        def read() -> list[str]:
            seen: list[str] = []
            after = 0
            ends = time.monotonic() + DEADLINE / 2
            while len(seen) < CROWD * batches * size and time.monotonic() < ends:
                page = store.landed.list_messages(copy, after, 5)
                seen += ids_of(page)
                after = page[-1].seq if page else after
            return seen

        *_, seen = together(*[lambda n=n: write(n) for n in range(CROWD)], read)
        assert seen == listed(store, q)
        assert len(set(seen)) == len(seen) == CROWD * batches * size

    # -- keys that are not open ---------------------------------------------------------------------------------

    def test_key_that_is_gone_is_left_out(self, store: SideStore, q: str, copy: str, copy2: str) -> None:
        """A subscription may be deleted while somebody posts."""
        store.landed.remove_queue(copy)
        add(store, q, "m")
        assert (listed(store, q), listed(store, copy), listed(store, copy2)) == (["m"], [], ["m"])

    def test_key_that_is_opened_again_is_copied_to(self, store: SideStore, q: str, copy: str) -> None:
        store.landed.close_queue(copy)
        add(store, q, "meanwhile")
        store.landed.open_queue(copy)
        add(store, q, "m")
        assert listed(store, copy) == ["m"]

    def test_closed_keys_are_not_bound(self, store: SideStore, q: str, copy: str) -> None:
        for pair in ((q, f"{q}/~none"), (f"{q}/none", copy)):
            with pytest.raises(QueueGone):
                store.landed.bind(*pair)
            store.landed.unbind(*pair)
        assert store.landed.bound(q) == [copy]
        assert store.landed.bound(f"{q}/none") == []

    @pytest.mark.parametrize("end", ["remove_queue", "close_queue"])
    def test_bindings_end_with_their_key(self, store: SideStore, q: str, copy: str, end: str) -> None:
        getattr(store.landed, end)(q)
        assert store.landed.bound(q) == []
        with pytest.raises(QueueGone):
            add(store, q, "late")
        store.landed.open_queue(q)
        add(store, q, "m")
        assert (listed(store, q), listed(store, copy)) == (["m"], [])

    def test_bindings_end_with_their_queue(self, store: SideStore, name: str, q: str, copy: str) -> None:
        store.catalogue.delete_queue(name)
        assert store.landed.bound(q) == []
        assert store.landed.bound(created(store, name)) == []
        add(store, copy, "own")
        assert listed(store, copy) == ["own"]

    def test_creating_or_opening_a_queue_again_leaves_its_bindings(
        self, store: SideStore, name: str, q: str, copy: str
    ) -> None:
        assert created(store, name) == q
        store.landed.open_queue(q, 7)
        last = store.landed.acquire_lease(q, "us", 60)
        store.landed.release_lease(q, "us", last or 0)
        assert store.landed.bound(q) == [copy]

    # -- repetitions, and the lease -----------------------------------------------------------------------------------

    def test_ids_that_have_landed_or_were_deleted_are_left_out(
        self, store: SideStore, q: str, copy: str, copy2: str
    ) -> None:
        add(store, copy, "a", body=b'"first"')
        store.landed.tombstone(copy2, {"b": store.now() + HOUR})
        add(store, q, "a", "b")
        assert (listed(store, q), listed(store, copy), listed(store, copy2)) == (["a", "b"], ["a", "b"], ["a"])
        assert store.landed.get_messages(copy, ["a"])[0].body == b'"first"'

    def test_message_of_which_a_copy_is_gone_is_copied_once(self, store: SideStore, q: str, copy: str) -> None:
        for _ in range(2):
            add(store, q, "m")
        assert (listed(store, q), listed(store, copy)) == (["m"], ["m"])

    def test_nothing_is_copied_without_the_lease(self, store: SideStore, q: str, copy: str, clock: Clock) -> None:
        last = store.landed.acquire_lease(q, "us", 60) or 0
        for owner, later in (("them", 0), ("us", MINUTE)):
            clock.advance(later)
            with pytest.raises(LeaseLost):
                store.landed.land_copied(q, [new(store, "m", seq=last + 1024)], owner)
        with pytest.raises(QueueGone):
            store.landed.land_copied(f"{q}/none", [new(store, "m", seq=1024)], "us")
        assert listed(store, q) == listed(store, copy) == []

    def test_messages_are_copied_under_the_lease(self, store: SideStore, q: str, copy: str) -> None:
        last = store.landed.acquire_lease(q, "us", 60) or 0
        messages = [new(store, id_, seq=last + (n + 1) * 1024) for n, id_ in enumerate("ab")]
        store.landed.land_copied(q, messages, "us")
        assert [m.seq for m in messages] == [m.seq for m in store.landed.list_messages(q, 0, 10)]
        assert [m.seq for m in messages] == [last + 1024, last + 2048]
        assert listed(store, copy) == ["a", "b"]

    def test_many_keys_get_many_messages(self, store: SideStore, q: str) -> None:
        copies = [bind(store, q, f"{n:02}") for n in range(50)]
        ids = [f"m{n:02}" for n in range(20)]
        add(store, q, *ids, body=b"x" * 10_000)
        assert [listed(store, copy) for copy in copies] == [ids] * 50
        assert store.landed.bound(q) == copies
