"""Shares among processes, and how old knowledge may be. Time is the test's."""

import pytest

from gateway.core.seal import KEY_SIZE, Seal
from gateway.core.subscriptions.live import HEEDED_WITHIN
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.records import SubscriptionRecords
from gateway.core.subscriptions.slots import SLOTS, slot_of
from gateway.notify.shares import ALIVE_FOR, LASTS, Shares
from gateway.notify.watching import Watch
from storage.sqlite import SQLiteStore

USED = set(range(10))


class Time:
    """One clock for processes and store: seconds, and ms."""

    def __init__(self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch):
        self.seconds = 1_000_000.0
        monkeypatch.setattr(store, "now", self.ms)

    def __call__(self) -> float:
        return self.seconds

    def ms(self) -> int:
        return int(self.seconds * 1000)


@pytest.fixture
def time_(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(store, monkeypatch)


def process(store: SQLiteStore, time_: Time, name: str) -> Shares:
    return Shares(store.catalogue, name, time_.ms, time_)


def give_up_all(shares: Shares) -> None:
    for slot in shares.leaving():
        shares.give_up(slot)


def test_one_process_has_all(store: SQLiteStore, time_: Time) -> None:
    one = process(store, time_, "one")
    one.renew(USED)
    assert one.held() == USED


def test_two_share_and_no_part_is_held_twice(store: SQLiteStore, time_: Time) -> None:
    one, two = process(store, time_, "one"), process(store, time_, "two")
    one.renew(USED)
    two.renew(USED)
    assert two.held() == set()
    one.renew(USED)
    assert len(one.held()) == 5 and len(one.leaving()) == 5
    two.renew(USED)
    assert two.held() == set()  # what the first one gives up is not given up yet
    give_up_all(one)
    two.renew(USED)
    assert (len(one.held()), len(two.held())) == (5, 5)
    assert one.held() | two.held() == USED


def test_the_living_take_over_from_the_dead(store: SQLiteStore, time_: Time) -> None:
    one, two = process(store, time_, "one"), process(store, time_, "two")
    one.renew(USED)
    two.renew(USED)
    one.renew(USED)
    give_up_all(one)
    two.renew(USED)
    for _ in range(6):  # the first one does nothing any more
        time_.seconds += 2.0
        two.renew(USED)
    assert two.held() == USED
    assert max(LASTS, ALIVE_FOR) < 6 * 2.0


def test_a_process_that_slept_holds_nothing(store: SQLiteStore, time_: Time) -> None:
    one, two = process(store, time_, "one"), process(store, time_, "two")
    one.renew(USED)
    assert one.holds(3)
    time_.seconds += LASTS - 0.5  # before the lock itself ends
    assert not one.holds(3)
    time_.seconds += 1
    two.renew(USED)
    assert two.held()
    one.renew(USED)
    assert not one.held() & two.held()


def test_what_is_not_used_is_given_up(store: SQLiteStore, time_: Time) -> None:
    one = process(store, time_, "one")
    one.renew(USED)
    one.renew({1})
    assert one.held() == {1} and one.leaving() == USED - {1}


def test_closing_leaves_all_to_others(store: SQLiteStore, time_: Time) -> None:
    one, two = process(store, time_, "one"), process(store, time_, "two")
    one.renew(USED)
    one.close()
    two.renew(USED)
    assert two.held() == USED


def test_slots_are_the_same_everywhere() -> None:
    assert slot_of("0192f3a4-0000-7000-8000-000000000000") == 45
    assert {slot_of(f"0192f3a4-0000-7000-8000-{n:012x}") for n in range(2000)} == set(range(SLOTS))


def test_old_looks_do_not_count(store: SQLiteStore, time_: Time) -> None:
    records = SubscriptionRecords(store.catalogue, Seal(bytes(KEY_SIZE)))
    watch = Watch(records, frozenset({"http"}), time_)
    assert not watch.is_fresh
    changed, began = watch.look()
    assert (changed, watch.subscriptions) == (False, {})
    watch.heeded(began)
    assert watch.is_fresh
    time_.seconds += HEEDED_WITHIN + 0.01
    assert not watch.is_fresh


def test_changes_are_seen_and_what_others_reach_is_left_out(store: SQLiteStore, time_: Time) -> None:
    records = SubscriptionRecords(store.catalogue, Seal(bytes(KEY_SIZE)))
    watch = Watch(records, frozenset({"http"}), time_)
    for id_, subscriber in ("a", "http://x/"), ("b", "marconi:y"):
        assert records.put(Subscription("p", "q", id_, subscriber, 60, {}, 0, 10**15))
    assert watch.look()[0]
    assert list(watch.subscriptions) == ["p/q/a"]
    assert watch.look()[0] is False
    records.delete(watch.subscriptions["p/q/a"])
    assert watch.look()[0] and watch.subscriptions == {}


def test_a_look_that_takes_long_is_old_from_its_beginning(store: SQLiteStore, time_: Time) -> None:
    """Something may have changed behind what it has read."""
    records = SubscriptionRecords(store.catalogue, Seal(bytes(KEY_SIZE)))
    watch = Watch(records, frozenset({"http"}), time_)
    records.touch()
    _, began = watch.look()
    time_.seconds += HEEDED_WITHIN + 0.01
    watch.heeded(began)
    assert not watch.is_fresh
