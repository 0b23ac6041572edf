"""The pool of links to Redis, with links that are none."""

import os
import threading
import time
from typing import Any

import pytest
from redis.exceptions import ConnectionError, ReadOnlyError, ResponseError

from bridges.errors import BridgeUnavailable, BrokerRefused
from bridges.redis.pool import FAIL_FAST, Pool


class Link:
    """Alive until it is closed or killed."""

    def __init__(self) -> None:
        self.alive = True
        self.closed = False
        self.until = 0.0

    def is_alive(self) -> bool:
        return self.alive

    def close(self) -> None:
        self.closed = True


class Opener:
    """Opens links, or fails with ``error``; keeps what it has opened and how often it was asked."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.opened: list[Link] = []
        self.asked = 0
        self.delay = 0.0

    def __call__(self, until: float) -> Any:
        self.asked += 1
        time.sleep(self.delay)
        if self.error is not None:
            raise self.error
        self.opened.append(Link())
        return self.opened[-1]


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def pool(opener: Opener) -> Pool:
    return Pool(opener, 2, 1.0)


def soon() -> float:
    return time.monotonic() + 0.2


def test_link_is_used_again_and_given_the_deadline(pool: Pool, opener: Opener) -> None:
    for _ in range(3):
        deadline = soon()
        with pool.lent(deadline) as link:
            assert link.until == deadline or len(opener.opened) == 1
    assert (pool.open, len(opener.opened)) == (1, 1)


def test_no_more_links_than_its_size_are_open(pool: Pool) -> None:
    with pool.lent(soon()), pool.lent(soon()):
        start = time.monotonic()
        with pytest.raises(BridgeUnavailable, match="busy"):
            pool.take(soon())
        assert 0.1 < time.monotonic() - start < 1
        assert pool.open == 2


def test_dead_idle_link_is_replaced(pool: Pool, opener: Opener) -> None:
    with pool.lent(soon()) as link:
        pass
    opener.opened[0].alive = False
    with pool.lent(soon()) as another:
        assert another is not link
    assert opener.opened[0].closed
    assert pool.open == 1


def test_refusal_keeps_the_link_and_failure_drops_it(pool: Pool, opener: Opener) -> None:
    with pytest.raises(ResponseError), pool.lent(soon()):
        raise ResponseError("WRONGTYPE")
    assert pool.open == 1
    with pytest.raises(ConnectionError), pool.lent(soon()):
        raise ConnectionError("gone")
    assert pool.open == 0
    assert opener.opened[0].closed


def test_server_that_became_a_replica_loses_all_its_links(pool: Pool, opener: Opener) -> None:
    with pool.lent(soon()), pool.lent(soon()):
        pass
    with pytest.raises(ReadOnlyError), pool.lent(soon()):
        raise ReadOnlyError("You can't write against a read only replica.")
    assert pool.open == 0
    assert all(link.closed for link in opener.opened)


def test_failed_attempt_answers_for_those_right_after_it(pool: Pool, opener: Opener) -> None:
    opener.error = BrokerRefused("no")
    for _ in range(3):
        with pytest.raises(BrokerRefused, match="no"):
            pool.take(time.monotonic() + 1.0)
    assert opener.asked == 1
    opener.error = None
    time.sleep(FAIL_FAST)
    with pool.lent(soon()):
        assert opener.asked == 2


def test_only_one_tries_while_the_server_is_gone(pool: Pool, opener: Opener) -> None:
    opener.error = ConnectionError("gone")
    with pytest.raises(BridgeUnavailable):
        pool.take(time.monotonic() + 1.0)
    time.sleep(FAIL_FAST)
    opener.delay = 1.5
    first = threading.Thread(target=lambda: pytest.raises(BridgeUnavailable, pool.take, time.monotonic() + 3.0))
    first.start()
    time.sleep(0.1)
    start = time.monotonic()
    with pytest.raises(BridgeUnavailable, match="gone"):
        pool.take(time.monotonic() + 1.0)
    assert time.monotonic() - start < 0.7
    first.join()


def test_attempt_without_time_says_nothing_of_the_server(pool: Pool, opener: Opener) -> None:
    opener.error = ConnectionError("slow")
    with pytest.raises(BridgeUnavailable):
        pool.take(soon())
    opener.error = None
    with pool.lent(soon()):
        pass


def test_closed_pool_closes_what_comes_back(pool: Pool, opener: Opener) -> None:
    with pool.lent(soon()), pool.lent(soon()) as other:
        pool.put(other)
        pool.close()
        assert pool.open == 1
        pool._free.acquire()  # as the block gives it back once more
        pool.open += 1
    assert all(link.closed for link in opener.opened)


def test_forked_process_leaves_the_links_to_its_parent(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    with pool.lent(soon()) as link:
        pass
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pool.lent(soon()) as another:
        assert another is not link
    assert pool.open == 1
