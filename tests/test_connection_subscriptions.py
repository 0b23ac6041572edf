"""The lease of a process on the subscriptions of its WebSocket connections: there is one while there are any."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.errors import Busy, Conflict
from gateway.core.subscriptions.connections import SURE, ConnectionSubscriptions

LEASE = 0.1


class Leases:
    """Leases as they are in the catalogue."""

    lease = LEASE

    def __init__(self) -> None:
        self.living: list[str] = []

    def begin(self, holder: str) -> None:
        self.living.append(holder)

    def renew(self, holder: str) -> bool:
        return holder in self.living

    def end(self, holder: str) -> None:
        self.living.remove(holder)


class Made:
    """Makes subscriptions; ``meanwhile`` is called while one is being made."""

    def __init__(self) -> None:
        self.holders: list[str] = []
        self.meanwhile: Any = lambda: None

    def create(self, *args: Any, holder: str) -> SimpleNamespace:
        self.meanwhile()
        self.holders.append(holder)
        return SimpleNamespace(is_taken=False, id=str(len(self.holders)))

    def get(self, project: str, source: str, id_: str) -> SimpleNamespace:
        return SimpleNamespace(name=f"{project}/{source}/{id_}", holder=self.holders[-1])


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def subscriptions(made: Made, leases: Leases) -> Any:
    return ConnectionSubscriptions(made, made, SimpleNamespace(end=lambda each: None), leases)  # type: ignore[arg-type]


def subscribe(subscriptions: ConnectionSubscriptions) -> Any:
    return subscriptions.subscribe("p", "q", "websocket:1", None, {})


def test_lease_lasts_from_the_first_subscription_to_the_last(subscriptions: Any, leases: Leases) -> None:
    first, second = subscribe(subscriptions), subscribe(subscriptions)
    assert first.holder == second.holder == leases.living[0]
    subscriptions.end(first)
    subscriptions.release()
    assert leases.living == [second.holder]
    subscriptions.end(second)
    subscriptions.end(second)
    subscriptions.release()
    assert leases.living == []


def test_lease_is_not_given_up_while_a_subscription_is_being_made(
    subscriptions: Any, leases: Leases, made: Made
) -> None:
    """The last connection has just gone. Nobody would serve the new subscription, as its holder is no more."""
    before = subscribe(subscriptions)

    def last_one_goes() -> None:
        subscriptions.end(before)
        subscriptions.release()

    made.meanwhile = last_one_goes
    found = subscribe(subscriptions)
    assert leases.living == [found.holder]
    assert subscriptions.is_ours(found)


def test_subscription_that_can_not_be_made_leaves_no_lease(subscriptions: Any, leases: Leases, made: Made) -> None:
    """Nobody renewed it, so each later one was refused for ever."""
    def refuse() -> None:
        raise Conflict("no")

    made.meanwhile = refuse
    with pytest.raises(Conflict):
        subscribe(subscriptions)
    assert leases.living == []
    time.sleep(LEASE)
    made.meanwhile = lambda: None
    assert subscribe(subscriptions).holder == leases.living[0]


def test_subscription_that_is_taken_leaves_no_lease(subscriptions: Any, leases: Leases, made: Made) -> None:
    made.create = lambda *args, holder: SimpleNamespace(is_taken=True)  # type: ignore[method-assign]
    assert subscribe(subscriptions) is None
    assert leases.living == []


def test_lease_that_can_not_be_renewed_refuses_new_subscriptions(subscriptions: Any) -> None:
    subscribe(subscriptions)
    time.sleep(LEASE * SURE + 0.01)
    with pytest.raises(Busy):
        subscribe(subscriptions)
    assert subscriptions.renew()
    subscribe(subscriptions)


def test_new_lease_follows_one_that_was_lost(subscriptions: Any, leases: Leases) -> None:
    lost = subscribe(subscriptions)
    leases.living.clear()
    assert not subscriptions.renew()
    found = subscribe(subscriptions)
    assert (leases.living, subscriptions.is_ours(lost)) == ([found.holder], False)
    subscriptions.end(lost)
    subscriptions.release()
    assert leases.living == [found.holder]
    subscriptions.end(found)
    subscriptions.release()
    assert leases.living == []
