"""Message ids."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ids import USABLE_ID, IdMaker, made_at, usable
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
