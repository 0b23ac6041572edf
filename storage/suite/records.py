"""Locks and records."""

from uuid import uuid4

import pytest

from storage.base import SideStore
from storage.suite.support import CROWD, Clock, SuiteFixtures, together


class RecordTests(SuiteFixtures):
    """Locks and records."""

    def test_lock_is_held_by_one(self, store: SideStore, name: str, clock: Clock) -> None:
        assert store.catalogue.lock(name, "us", 30) == 0
        assert store.catalogue.lock(name, "them", 30) is None
        assert store.catalogue.lock(name, "us", 30) is None
        assert store.catalogue.lock(f"{name}2", "them", 30) == 0

    def test_one_of_many_gets_a_lock(self, store: SideStore, name: str) -> None:
        got = together(*[lambda n=n: store.catalogue.lock(name, f"owner-{n}", 30) for n in range(CROWD)])
        assert len([last for last in got if last is not None]) == 1

    def test_lock_is_given_up_by_its_holder_alone(self, store: SideStore, name: str, clock: Clock) -> None:
        store.catalogue.lock(name, "us", 30)
        store.catalogue.unlock(name, "them")
        assert store.catalogue.lock(name, "them", 30) is None
        clock.advance(5)
        store.catalogue.unlock(name, "us")
        given_up = clock.time
        clock.advance(5)
        assert store.catalogue.lock(name, "them", 30) == given_up

    def test_lock_may_stay_held_for_a_while(self, store: SideStore, name: str, clock: Clock) -> None:
        store.catalogue.lock(name, "us", 30)
        store.catalogue.unlock(name, "us", after=2)
        clock.advance(1_999)
        assert store.catalogue.lock(name, "them", 30) is None
        clock.advance(1)
        assert store.catalogue.lock(name, "them", 30) is not None

    def test_lock_of_a_dead_holder_is_free_at_its_time(self, store: SideStore, name: str, clock: Clock) -> None:
        store.catalogue.lock(name, "dead", 30)
        clock.advance(29_999)
        assert store.catalogue.lock(name, "us", 30) is None
        clock.advance(1)
        assert store.catalogue.lock(name, "us", 30) is not None
        store.catalogue.unlock(name, "dead")
        assert store.catalogue.lock(name, "them", 30) is None

    def test_renewed_lock_lasts_from_then(self, store: SideStore, name: str, clock: Clock) -> None:
        store.catalogue.lock(name, "us", 30)
        clock.advance(29_999)
        assert store.catalogue.renew_lock(name, "us", 30) is True
        clock.advance(29_999)
        assert store.catalogue.lock(name, "them", 30) is None
        clock.advance(1)
        assert store.catalogue.lock(name, "them", 30) is not None

    def test_lock_is_renewed_for_its_holder_alone(self, store: SideStore, name: str, clock: Clock) -> None:
        assert store.catalogue.renew_lock(name, "us", 30) is False
        store.catalogue.lock(name, "us", 30)
        assert store.catalogue.renew_lock(name, "them", 30) is False
        clock.advance(30_000)
        assert store.catalogue.renew_lock(name, "us", 30) is False
        store.catalogue.lock(name, "them", 30)
        assert store.catalogue.renew_lock(name, "us", 30) is False
        store.catalogue.unlock(name, "them")
        assert store.catalogue.renew_lock(name, "them", 30) is False

    # -- records ------------------------------------------------------------------------------------------------

    @pytest.fixture
    def kind(self) -> str:
        """A kind of records that nobody else uses."""
        return f"kind{uuid4().hex}"

    def test_record_is_kept_till_it_is_deleted(self, store: SideStore, kind: str) -> None:
        assert store.catalogue.get_record(kind, "a") is None
        assert store.catalogue.put_record(kind, "a", b"1") is True
        assert store.catalogue.put_record(kind, "a", b"\x00\xff") is True
        record = store.catalogue.get_record(kind, "a")
        assert record is not None and (record.name, record.data) == ("a", b"\x00\xff")
        assert isinstance(record.data, bytes)
        assert store.catalogue.delete_record(kind, "a") is True
        assert store.catalogue.delete_record(kind, "a") is False
        assert store.catalogue.get_record(kind, "a") is None

    def test_record_is_inserted_once(self, store: SideStore, kind: str) -> None:
        done = together(*[lambda n=n: store.catalogue.put_record(kind, "a", b"%d" % n, 0) for n in range(CROWD)])
        assert done.count(True) == 1
        record = store.catalogue.get_record(kind, "a")
        assert record is not None and record.data == b"%d" % done.index(True)

    def test_record_is_replaced_at_the_version_that_was_read(self, store: SideStore, kind: str) -> None:
        assert store.catalogue.put_record(kind, "a", b"1", 1) is False
        store.catalogue.put_record(kind, "a", b"1", 0)
        read = store.catalogue.get_record(kind, "a")
        assert read is not None
        done = together(*[
            lambda n=n: store.catalogue.put_record(kind, "a", b"%d" % n, read.version) for n in range(CROWD)
        ])
        now = store.catalogue.get_record(kind, "a")
        assert done.count(True) == 1
        assert now is not None and now.data == b"%d" % done.index(True)

    def test_versions_of_a_record_do_not_come_again(self, store: SideStore, kind: str, clock: Clock) -> None:
        versions = []
        for _ in range(3):
            for version in (0, None):
                store.catalogue.put_record(kind, "a", b"same", version)
                record = store.catalogue.get_record(kind, "a")
                assert record is not None
                versions.append(record.version)
            store.catalogue.delete_record(kind, "a")
        assert len(set(versions)) == len(versions) and min(versions) > 0
        assert store.catalogue.put_record(kind, "a", b"late", versions[-1]) is False
        assert store.catalogue.get_record(kind, "a") is None

    def test_many_may_store_a_record(self, store: SideStore, kind: str) -> None:
        assert together(*[lambda: store.catalogue.put_record(kind, "a", b"1")] * CROWD) == [True] * CROWD

    def test_records_of_a_kind_are_listed_by_name(self, store: SideStore, kind: str) -> None:
        names = ["b", "a", "B", "_", "-", "a/b", "a.b", "a10", "a9", "ü", "0"]
        for name in names:
            store.catalogue.put_record(kind, name, name.encode())
        store.catalogue.put_record(f"{kind}s", "other", b"1")
        store.catalogue.put_record(kind[:-1], "other", b"1")
        found = store.catalogue.list_records(kind, "", 100)
        assert [(record.name, record.data) for record in found] == [(name, name.encode()) for name in sorted(names)]
        assert found[:2] == store.catalogue.list_records(kind, "", 2)
        assert found[2:4] == store.catalogue.list_records(kind, found[1].name, 2)
        assert [store.catalogue.get_record(kind, record.name) for record in found] == found
        assert store.catalogue.list_records(kind, found[-1].name, 2) == []
