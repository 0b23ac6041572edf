"""The lock for many or for one."""

import threading

import pytest

from gateway.core.errors import Busy
from gateway.core.locks import SharedLock
from storage.suite import together
from tests.threads import DEADLINE, in_background

#: Seconds after which a lock that is not to be had is given up in these tests.
SOON = 0.02


def test_many_share() -> None:
    lock = SharedLock()
    inside = threading.Barrier(4)

    def share() -> None:
        with lock.shared(DEADLINE):
            inside.wait(DEADLINE)  # passes only when all four are in

    together(*[share] * 4)


def test_one_owner_keeps_all_others_out() -> None:
    lock = SharedLock()
    with lock.exclusive(SOON):
        with pytest.raises(Busy), lock.shared(SOON):
            pass
        with pytest.raises(Busy), lock.exclusive(SOON):
            pass


def test_sharer_keeps_owners_out() -> None:
    lock = SharedLock()
    with lock.shared(SOON), pytest.raises(Busy), lock.exclusive(SOON):
        pass


def test_lock_is_free_again_after_use_and_after_an_error() -> None:
    lock = SharedLock()
    for hold in (lock.shared, lock.exclusive):
        with pytest.raises(ZeroDivisionError), hold(SOON):
            raise ZeroDivisionError
    with lock.exclusive(SOON):
        pass
    with lock.shared(SOON):
        pass


def test_waiting_owner_goes_before_later_sharers() -> None:
    lock = SharedLock()
    order: list[str] = []

    def own() -> None:
        with lock.exclusive(DEADLINE):
            order.append("owner")

    def share() -> None:
        with lock.shared(DEADLINE):
            order.append("sharer")

    with lock.shared(SOON):
        owner = in_background(own)
        while not lock._line:  # until the owner stands in line
            pass
        with pytest.raises(Busy), lock.shared(SOON):
            pass
        sharer = in_background(share)
    owner.result(DEADLINE)
    sharer.result(DEADLINE)
    assert order == ["owner", "sharer"]


def test_owner_that_gives_up_waiting_lets_sharers_in() -> None:
    lock = SharedLock()
    with lock.shared(SOON):
        with pytest.raises(Busy), lock.exclusive(SOON):
            pass
        with lock.shared(SOON):
            pass


def test_owners_take_turns() -> None:
    lock = SharedLock()
    inside: list[int] = []
    most: list[int] = []

    def own(number: int) -> None:
        for _ in range(50):
            with lock.exclusive(DEADLINE):
                inside.append(number)
                most.append(len(inside))
                inside.pop()

    together(*[lambda n=n: own(n) for n in range(4)])
    assert max(most) == 1 and len(most) == 200
