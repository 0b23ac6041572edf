"""Messages that are put at the end of a queue."""

import threading

import pytest

from storage.base import SideStore
from storage.suite.support import CROWD, MINUTE, Clock, SuiteFixtures, add, ids_of, listed, together


class AppendingTests(SuiteFixtures):
    """Messages that are put at the end of a queue."""

    def test_appended_messages_are_in_the_order_given(self, store: SideStore, q: str) -> None:
        first = add(store, q, "c", "a")
        second = add(store, q, "b")
        assert listed(store, q) == ["c", "a", "b"]
        assert [m.seq for m in store.landed.list_messages(q, 0, 10)] == [m.seq for m in first + second]

    def test_position_grows_when_the_clock_goes_back(self, store: SideStore, q: str, clock: Clock) -> None:
        add(store, q, "before")
        clock.advance(-MINUTE)
        add(store, q, "after")
        assert listed(store, q) == ["before", "after"]

    @pytest.mark.parametrize("remove", ["delete", "purge"])
    def test_position_of_a_message_that_is_gone_is_not_used_again(
        self, store: SideStore, q: str, clock: Clock, remove: str
    ) -> None:
        """Whoever has read up to a position asks for what is behind it, and would never see the new message."""
        (gone,) = add(store, q, "gone")
        if remove == "delete":
            store.landed.delete_unclaimed(q, ["gone"])
        else:
            store.landed.purge(q)
        (next_,) = add(store, q, "next")
        assert next_.seq > gone.seq

    def test_lease_starts_behind_what_was_appended_and_is_gone(self, store: SideStore, q: str) -> None:
        (gone,) = add(store, q, "gone")
        store.landed.delete_unclaimed(q, ["gone"])
        last = store.landed.acquire_lease(q, "us", 60)
        assert last is not None and last >= gone.seq

    def test_reader_of_positions_sees_every_append_once_and_in_order(self, store: SideStore, q: str) -> None:
        batches, size = 8, 3
        writing = threading.Semaphore(0)

        def write(writer: int) -> None:
            try:
                for batch in range(batches):
                    add(store, q, *(f"{writer}-{batch}-{number}" for number in range(size)))
            finally:
                writing.release()

        def read() -> list[str]:
            seen: list[str] = []
            after = ended = 0
            while True:
                while ended < CROWD and writing.acquire(blocking=False):
                    ended += 1
                page = store.landed.list_messages(q, after, 5)
                seen += ids_of(page)
                if page:
                    after = page[-1].seq
                elif ended == CROWD:
                    return seen

        *_, seen = together(*[lambda n=n: write(n) for n in range(CROWD)], read)
        posted = [f"{w}-{b}-{n}" for w in range(CROWD) for b in range(batches) for n in range(size)]
        assert len(seen) == len(posted)
        assert sorted(seen, key=lambda id_: id_[0]) == posted
