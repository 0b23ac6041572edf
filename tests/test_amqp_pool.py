"""The pool of connections: what one failure means for others."""

import threading
from typing import Any

import pytest

from bridges.amqp.pool import Pool
from bridges.errors import BridgeUnavailable
from tests.threads import DEADLINE, in_background


class Connection:
    blocked = False
    is_open = True
    until: float | None = None

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


class Broker:
    """Opens connections, slowly and in vain if it is told to."""

    def __init__(self) -> None:
        self.fails = False
        self.trying = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()

    def connect(self, until: float) -> Any:
        if self.fails:
            self.trying.release()
            assert self.go_on.wait(DEADLINE)
            raise ConnectionRefusedError("refused")
        return Connection()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def pool(broker: Broker) -> Pool:
    return Pool(broker.connect, 8, 1.0)


def refused(pool: Pool) -> bool:
    try:
        pool.put(pool.take())
    except BridgeUnavailable:
        return True
    return False


def test_broker_that_is_not_there_is_tried_by_one_at_a_time(pool: Pool, broker: Broker) -> None:
    broker.fails = True
    assert refused(pool)
    assert broker.trying.acquire(timeout=DEADLINE)
    assert [refused(pool) for _ in range(3)] == [True] * 3
    assert not broker.trying.acquire(blocking=False)


def test_connection_that_fails_while_others_work_stops_nobody(pool: Pool, broker: Broker) -> None:
    connection = pool.take()
    broker.fails = True
    broker.go_on.clear()
    failing = in_background(lambda: refused(pool))
    assert broker.trying.acquire(timeout=DEADLINE)
    pool.put(connection)
    connection = pool.take()
    broker.go_on.set()
    assert failing.result(DEADLINE)
    broker.fails = False
    assert not refused(pool)
    pool.put(connection)


def test_exchange_that_went_well_shows_that_the_broker_is_there(pool: Pool, broker: Broker) -> None:
    first, second = pool.take(), pool.take()
    broker.fails = True
    assert refused(pool)
    pool.put(first)
    broker.fails = False
    pool.take()
    assert not refused(pool)
    pool.put(second)
