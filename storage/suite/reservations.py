"""Reservations: what is recorded for a while, once under each name."""

from uuid import uuid4

import pytest

from storage.base import SideStore
from storage.model import Record, new_version
from storage.suite.support import CROWD, HOUR, MINUTE, Clock, SuiteFixtures, together


class ReservationTests(SuiteFixtures):
    """What is recorded for a while, once under each name."""

    @pytest.fixture
    def prefix(self) -> str:
        """A name that nobody else uses, and the beginning of others."""
        return uuid4().hex

    def test_first_reservation_counts(self, store: SideStore, project: str, prefix: str) -> None:
        until = store.now() + HOUR
        version = new_version()
        assert store.catalogue.reserve(project, {prefix: b"\x00\xff"}, until, version) == {}
        there = {prefix: Record(prefix, b"\x00\xff", version)}
        assert store.catalogue.reserve(project, {prefix: b"other"}, until, new_version()) == there
        assert store.catalogue.reserve(f"{project}2", {prefix: b"other"}, until, new_version()) == there

    def test_some_of_many_may_be_there(self, store: SideStore, project: str, prefix: str) -> None:
        until, version = store.now() + HOUR, new_version()
        names = [f"{prefix}{number}" for number in range(5)]
        assert store.catalogue.reserve(project, {names[1]: b"1", names[3]: b"3"}, until, version) == {}
        there = store.catalogue.reserve(project, {name: b"new" for name in names}, until, new_version())
        assert there == {names[1]: Record(names[1], b"1", version), names[3]: Record(names[3], b"3", version)}
        there = store.catalogue.reserve(project, {name: b"late" for name in names}, until, new_version())
        assert [there[name].data for name in names] == [b"new", b"1", b"new", b"3", b"new"]
        assert store.catalogue.reserve(project, {}, until, new_version()) == {}

    def test_one_of_many_reserves(self, store: SideStore, project: str, prefix: str) -> None:
        until = store.now() + HOUR
        names = [f"{prefix}{number}" for number in range(5)]

        def reserve(caller: int) -> dict[str, Record]:
            return store.catalogue.reserve(project, {n: b"%d" % caller for n in names}, until, caller + 1)

        answers = together(*[lambda n=n: reserve(n) for n in range(CROWD)])
        for name in names:
            (winner,) = [caller for caller, there in enumerate(answers) if name not in there]
            assert {there[name] for there in answers if name in there} == {Record(name, b"%d" % winner, winner + 1)}

    def test_expired_reservation_is_not_there(self, store: SideStore, project: str, prefix: str, clock: Clock) -> None:
        version = new_version()
        store.catalogue.reserve(project, {prefix: b"old"}, clock.time + MINUTE, version)
        clock.advance(MINUTE - 1)
        assert store.catalogue.count_reserved(project, 10) == 1
        assert set(store.catalogue.reserve(project, {prefix: b"early"}, clock.time + HOUR, new_version())) == {prefix}
        clock.advance(1)
        assert store.catalogue.count_reserved(project, 10) == 0
        assert store.catalogue.change_reserved(prefix, version, b"late", clock.time + HOUR) is None
        assert store.catalogue.unreserve(prefix, version) is False
        second = new_version()
        assert store.catalogue.reserve(project, {prefix: b"new"}, clock.time + HOUR, second) == {}
        assert store.catalogue.change_reserved(prefix, version, b"late", clock.time + HOUR) is None
        assert store.catalogue.unreserve(prefix, version) is False
        assert store.catalogue.reserve(project, {prefix: b""}, clock.time + HOUR, version) == {
            prefix: Record(prefix, b"new", second)
        }

    def test_one_of_many_reserves_what_has_expired(
        self, store: SideStore, project: str, prefix: str, clock: Clock
    ) -> None:
        store.catalogue.reserve(project, {prefix: b"old", f"{prefix}2": b"old"}, clock.time + MINUTE, new_version())
        clock.advance(MINUTE)
        answers = together(*[
            lambda n=n: store.catalogue.reserve(
                project, {prefix: b"%d" % n, f"{prefix}2": b"%d" % n}, clock.time + HOUR, n + 1
            )
            for n in range(CROWD)
        ])
        for name in (prefix, f"{prefix}2"):
            (winner,) = [caller for caller, there in enumerate(answers) if name not in there]
            assert {there[name].data for there in answers if name in there} == {b"%d" % winner}

    def test_reservation_is_changed_at_the_version_that_was_read(
        self, store: SideStore, project: str, prefix: str, clock: Clock
    ) -> None:
        version = new_version()
        store.catalogue.reserve(project, {prefix: b"1"}, clock.time + MINUTE, version)
        done = together(*[
            lambda n=n: store.catalogue.change_reserved(prefix, version, b"%d" % n, clock.time + HOUR)
            for n in range(CROWD)
        ])
        (changed,) = [new for new in done if new is not None]
        assert changed != version
        clock.advance(HOUR - 1)
        there = store.catalogue.reserve(project, {prefix: b""}, clock.time + HOUR, new_version())
        assert there == {prefix: Record(prefix, b"%d" % done.index(changed), changed)}
        again = store.catalogue.change_reserved(prefix, changed, b"short", clock.time + 1)
        assert again not in (None, changed, version)
        clock.advance(1)
        assert store.catalogue.reserve(project, {prefix: b""}, clock.time + HOUR, new_version()) == {}

    def test_many_change_in_one_go_each_at_its_version(
        self, store: SideStore, project: str, prefix: str, clock: Clock
    ) -> None:
        version = new_version()
        names = [f"{prefix}{number}" for number in range(4)]
        store.catalogue.reserve(project, {name: b"1" for name in names}, clock.time + MINUTE, version)
        changed = store.catalogue.change_reserved(names[1], version, b"2", clock.time + MINUTE)
        assert changed is not None
        changes = {names[0]: (version, b"3"), names[1]: (version, b"3"), f"{prefix}x": (version, b"3")}
        store.catalogue.change_all_reserved({**changes, names[2]: (version, b"4")}, clock.time + HOUR)
        store.catalogue.change_all_reserved({names[1]: (changed, b"5")}, clock.time + MINUTE)
        store.catalogue.change_all_reserved({}, clock.time + HOUR)
        there = store.catalogue.reserve(project, dict.fromkeys([*names, f"{prefix}x"], b"new"), clock.time + HOUR, 7)
        assert {name: there[name].data for name in there} == dict(zip(names, (b"3", b"5", b"4", b"1"), strict=True))
        assert len({there[name].version for name in names}) == 4
        assert there[names[3]].version == version
        clock.advance(MINUTE)
        store.catalogue.change_all_reserved({names[3]: (version, b"late")}, clock.time + HOUR)
        there = store.catalogue.reserve(project, dict.fromkeys(names, b"new"), clock.time + HOUR, 8)
        assert set(there) == {names[0], names[2]}

    def test_reservation_is_given_up_at_its_version(self, store: SideStore, project: str, prefix: str) -> None:
        version, until = new_version(), store.now() + HOUR
        store.catalogue.reserve(project, {prefix: b"1"}, until, version)
        assert store.catalogue.unreserve(prefix, new_version()) is False
        assert store.catalogue.unreserve(f"{prefix}2", version) is False
        assert together(*[lambda: store.catalogue.unreserve(prefix, version)] * CROWD).count(True) == 1
        assert store.catalogue.change_reserved(prefix, version, b"late", until) is None
        assert store.catalogue.reserve(project, {prefix: b"2"}, until, new_version()) == {}

    def test_reservations_of_a_scope_are_counted_up_to_a_number(
        self, store: SideStore, project: str, prefix: str
    ) -> None:
        until = store.now() + HOUR
        store.catalogue.reserve(project, {f"{prefix}{number}": b"" for number in range(5)}, until, new_version())
        store.catalogue.reserve(f"{project}2", {f"{prefix}x": b""}, until, new_version())
        assert [store.catalogue.count_reserved(project, most) for most in (1, 5, 6)] == [1, 5, 5]
        assert store.catalogue.count_reserved(f"{project}3", 10) == 0

    def test_housekeeping_leaves_what_is_reserved(self, store: SideStore, project: str, prefix: str) -> None:
        store.catalogue.reserve(project, {prefix: b"1"}, store.now() + HOUR, new_version())
        store.maintain()
        assert store.catalogue.count_reserved(project, 10) == 1
