"""Life of a store, and queues: created, changed, deleted."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from storage.base import SideStore
from storage.errors import QueueGone
from storage.landed import SEEN_FOR
from storage.suite.support import CROWD, HOUR, MINUTE, SuiteFixtures, add, created, listed, new, together


class QueueTests(SuiteFixtures):
    """Life of a store, and queues: created, changed, deleted."""

    def test_ping_returns_when_the_store_works(self, store: SideStore) -> None:
        store.ping()

    def test_connections_are_counted(self, store: SideStore) -> None:
        store.ping()
        assert store.connections() >= 1

    def test_clock_is_in_whole_milliseconds_and_does_not_go_back(self, store: SideStore) -> None:
        store.ping()
        times = [store.now() for _ in range(100)]
        assert all(isinstance(time, int) for time in times)
        assert times == sorted(times)

    def test_housekeeping_leaves_the_living_alone(self, store: SideStore, q: str) -> None:
        add(store, q, "free")
        add(store, q, "delayed", hidden_until=store.now() + MINUTE)
        store.maintain()
        assert listed(store, q, delayed=True) == ["free", "delayed"]

    def test_queue_is_made_once(self, store: SideStore, name: str) -> None:
        assert store.catalogue.create_queue(name, b'{"a":1}') is True
        assert store.catalogue.create_queue(name, None) is False
        queue = store.catalogue.get_queue(name)
        assert queue is not None
        assert (queue.name, queue.metadata) == ("queue", b'{"a":1}')

    def test_queue_made_without_metadata_has_an_empty_object(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, None)
        queue = store.catalogue.get_queue(name)
        assert queue is not None and queue.metadata == b"{}"

    def test_queue_that_was_never_made_is_none(self, store: SideStore, name: str) -> None:
        assert store.catalogue.get_queue(name) is None

    def test_creating_again_replaces_metadata(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, b'{"a":1}')
        before = store.catalogue.get_queue(name)
        assert store.catalogue.create_queue(name, b'{"b":2}') is False
        after = store.catalogue.get_queue(name)
        assert before is not None and after is not None
        assert after.metadata == b'{"b":2}'
        assert after.version > before.version

    def test_one_of_many_creators_makes_the_queue(self, store: SideStore, name: str) -> None:
        made = together(*[lambda: store.catalogue.create_queue(name, None)] * CROWD)
        assert made.count(True) == 1

    def test_metadata_is_replaced_at_the_version_that_was_read(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, b"{}")
        read = store.catalogue.get_queue(name)
        assert read is not None
        assert store.catalogue.replace_metadata(name, b'{"a":1}', read.version) is True
        assert store.catalogue.replace_metadata(name, b'{"b":2}', read.version) is False
        now = store.catalogue.get_queue(name)
        assert now is not None and now.metadata == b'{"a":1}'

    def test_one_of_many_changes_to_one_version_succeeds(self, store: SideStore, name: str) -> None:
        store.catalogue.create_queue(name, b"{}")
        read = store.catalogue.get_queue(name)
        assert read is not None
        done = together(*[
            lambda n=n: store.catalogue.replace_metadata(name, b'{"n":%d}' % n, read.version) for n in range(CROWD)
        ])
        now = store.catalogue.get_queue(name)
        assert done.count(True) == 1
        assert now is not None and now.metadata == b'{"n":%d}' % done.index(True)

    def test_metadata_of_a_missing_queue_is_not_replaced(self, store: SideStore, name: str) -> None:
        assert store.catalogue.replace_metadata(name, b"{}", 1) is False
        assert store.catalogue.get_queue(name) is None

    def test_deleting_a_queue_removes_all_of_it(self, store: SideStore, name: str) -> None:
        q = created(store, name)
        add(store, q, "landed")
        store.landed.tombstone(q, {"dropped": store.now() + HOUR})
        store.catalogue.delete_queue(name)
        assert store.catalogue.get_queue(name) is None
        assert listed(store, q) == []
        again = created(store, name)
        assert again != q
        assert listed(store, again) == []
        assert store.landed.land(again, [new(store, "dropped", seq=1)]) == set()

    def test_nothing_lands_under_the_key_of_a_deleted_queue(self, store: SideStore, name: str) -> None:
        old = created(store, name)
        store.landed.acquire_lease(old, "us", 60)
        store.catalogue.delete_queue(name)
        new_key = created(store, name)
        late = [new(store, "late", seq=1)]
        calls: tuple[Callable[[], Any], ...] = (
            lambda: store.landed.land(old, late), lambda: store.landed.land(old, late, "us"),
            lambda: store.landed.append(old, late), lambda: store.landed.acquire_lease(old, "them", 60),
            lambda: store.landed.find_free(old, 10), lambda: store.landed.landed_or_deleted(old, ["late"]),
            lambda: store.landed.land(old, late, seen=time.monotonic() - SEEN_FOR),
        )
        for call in calls:
            with pytest.raises(QueueGone):
                call()
        assert listed(store, old) == listed(store, new_key) == []

    def test_what_lands_in_a_queue_that_was_seen_just_before_its_end_does_not_stay(
        self, store: SideStore, name: str
    ) -> None:
        old = created(store, name)
        seen = time.monotonic()
        store.catalogue.delete_queue(name)
        with suppress(QueueGone):
            store.landed.land(old, [new(store, "late", seq=1)], seen=seen)
        assert listed(store, created(store, name)) == []
        time.sleep(SEEN_FOR)
        store.maintain()
        assert listed(store, old) == []

    def test_versions_of_a_deleted_queue_do_not_come_again(self, store: SideStore, name: str) -> None:
        created(store, name)
        read = store.catalogue.get_queue(name)
        assert read is not None
        store.catalogue.delete_queue(name)
        time.sleep(0.002)
        created(store, name)
        assert store.catalogue.replace_metadata(name, b'{"old":1}', read.version) is False

    def test_creating_again_mends_a_queue_under_which_nothing_lands(self, store: SideStore, name: str) -> None:
        q = created(store, name)
        store.landed.close_queue(q)  # as if its creator had died before it was opened
        with pytest.raises(QueueGone):
            store.landed.append(q, [new(store, "m")])
        assert store.catalogue.create_queue(name, None) is False
        add(store, q, "m")
        assert listed(store, q) == ["m"]

    def test_deleting_a_queue_leaves_the_others(self, store: SideStore, project: str) -> None:
        keys = [created(store, f"{project}/{name}") for name in ("queue", "queue2")]
        for key in keys:
            add(store, key, "m")
        store.catalogue.delete_queue(f"{project}/queue")
        assert store.catalogue.get_queue(f"{project}/queue2") is not None
        assert listed(store, keys[1]) == ["m"]

    def test_deleting_a_missing_queue_does_nothing(self, store: SideStore, name: str) -> None:
        store.catalogue.delete_queue(name)
        assert store.catalogue.get_queue(name) is None
