"""Message ids."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ids import (
    IN_ORDER,
    MARGIN,
    ONCE,
    REPEATS_FOLLOW,
    USABLE_ID,
    IdMaker,
    is_remembered,
    made_at,
    remembered,
    remembered_until,
    usable,
)
from storage.suite import together

NOW = 1_700_000_000_000

#: Ids within one millisecond that 12 bits can count.
PER_MILLISECOND = 4096


@given(st.integers(0, 2**48 - 2))
def test_id_is_a_uuid_of_version_7_that_tells_its_time(now: int) -> None:
    (id_,) = IdMaker().make(now)
    assert (UUID(id_).version, UUID(id_).variant) == (7, "specified in RFC 4122")
    assert str(UUID(id_)) == id_
    assert made_at(id_) == now


def test_ids_grow_within_a_millisecond() -> None:
    ids = IdMaker().make(NOW, 100)
    assert ids == sorted(set(ids))
    assert {made_at(id_) for id_ in ids} == {NOW}


def test_ids_grow_when_the_clock_goes_back() -> None:
    maker = IdMaker()
    ids = [maker.make(now)[0] for now in (NOW, NOW - 1000, NOW - 2000, NOW + 1)]
    assert ids == sorted(set(ids))


def test_more_ids_than_a_millisecond_has_room_for_still_grow() -> None:
    maker = IdMaker()
    ids = maker.make(NOW, PER_MILLISECOND + 1) + maker.make(NOW)
    assert ids == sorted(set(ids))
    assert made_at(ids[-1]) == NOW + 1


def test_threads_get_different_ids_each_in_order() -> None:
    maker = IdMaker()
    parts = together(*[lambda: [id_ for _ in range(50) for id_ in maker.make(NOW, 3)]] * 8)
    assert len({id_ for part in parts for id_ in part}) == 8 * 50 * 3
    assert all(part == sorted(part) for part in parts)


def test_two_processes_make_different_ids_at_the_same_time() -> None:
    assert IdMaker().make(NOW) != IdMaker().make(NOW)


@pytest.mark.parametrize(
    "id_", ["", "1", "0192b0a0-0000-4000-8000-000000000000", "0192b0a0-0000-7000-c000-000000000000",
            "0192B0A0-0000-7000-8000-000000000000", "0192b0a0-0000-7000-8000-000000000000\n"],
)
def test_other_ids_tell_no_time(id_: str) -> None:
    assert made_at(id_) is None


@pytest.mark.parametrize("id_", ["order-1", "A.b_c:d-0", "x" * 64])
def test_native_id_that_fits_is_used_as_it_is(id_: str) -> None:
    assert usable(id_) == id_


@given(st.text())
def test_every_native_id_becomes_one_that_paths_and_lists_can_hold(id_: str) -> None:
    assert USABLE_ID.match(usable(id_))
    assert usable(id_) == usable(id_)


@given(st.text(), st.text())
def test_different_native_ids_stay_different(one: str, other: str) -> None:
    assert (usable(one) == usable(other)) == (one == other)


HOUR = 3_600_000


@pytest.mark.parametrize(
    ("ttl", "life"), [(60, 60), (61, 120), (3_600, 3_600), (86_400, 86_400), (1_209_600, 1_209_600)]
)
def test_id_of_a_message_that_may_be_posted_again_is_remembered_as_long_as_it_could_live(ttl: int, life: int) -> None:
    ids = IdMaker().make(NOW, 3, ONCE, ttl)
    assert ids == sorted(set(ids))
    for id_ in ids:
        assert (UUID(id_).version, made_at(id_), is_remembered(id_)) == (7, NOW, True)
        assert remembered_until(id_, NOW) == NOW + life * 1000 + MARGIN
        assert remembered_until(id_, NOW + life * 1000 + MARGIN) is None


@given(st.integers(60, 2**31 - 1))
def test_no_id_is_forgotten_before_its_message_has_expired(ttl: int) -> None:
    (id_,) = IdMaker().make(NOW, 1, ONCE, ttl)
    until = remembered_until(id_, NOW)
    assert until is not None and until > NOW + ttl * 1000


def test_id_of_an_ordered_queue_is_remembered_for_minutes_after_the_deletion() -> None:
    (id_,) = IdMaker().make(NOW, 1, IN_ORDER, 3_600)
    assert remembered_until(id_, NOW + HOUR // 2) == NOW + HOUR // 2 + REPEATS_FOLLOW
    assert remembered_until(id_, NOW + HOUR) == NOW + HOUR + MARGIN


def test_other_ids_are_not_remembered() -> None:
    usual = IdMaker().make(NOW, 1_000)
    assert not any(is_remembered(id_) for id_ in usual)
    assert len({id_[-1] for id_ in usual}) == 14
    for id_ in (*usual, "", "order-f", "f", "0192B0A0-0000-7000-8000-00000000000F"):
        assert remembered_until(id_, NOW) is None


def test_clock_is_asked_only_where_something_is_remembered() -> None:
    maker = IdMaker()
    usual, marked = maker.make(NOW, 20), maker.make(NOW, 1, ONCE, 60)
    assert remembered(usual, lambda: pytest.fail("no need to know the time")) == {}
    assert remembered([*usual, *marked], lambda: NOW) == {marked[0]: NOW + 60_000 + MARGIN}
