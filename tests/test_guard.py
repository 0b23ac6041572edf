"""A pool that does not answer holds some threads, and not all."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bridges.errors import BridgeUnavailable, QueueMissing
from gateway.core.pools import guard as guards
from gateway.core.pools.guard import Guard

#: Seconds without an answer that count as slow here: more than starting some threads takes on a busy machine.
SLOW = 1.0


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Guard:
    monkeypatch.setattr(guards, "SLOW", SLOW)
    monkeypatch.setattr(guards, "PAUSE", 1.0)
    return Guard("p", 2, BridgeUnavailable)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def run(guard: Guard, call: Callable[[], object]) -> object:
    return guard.run(call, (), {})


def hang() -> None:
    time.sleep(SLOW + 0.1)
    raise BridgeUnavailable("no answer")


def test_fast_calls_are_as_many_as_there_are_threads(guard: Guard, pool: ThreadPoolExecutor) -> None:
    together = threading.Barrier(16)
    assert all(pool.map(lambda _: run(guard, lambda: together.wait(10) >= 0), range(16)))


def test_slow_calls_are_limited(guard: Guard, pool: ThreadPoolExecutor) -> None:
    go_on = threading.Event()
    slow = [pool.submit(run, guard, lambda: go_on.wait(10)) for _ in range(2)]
    time.sleep(SLOW + 0.1)
    with pytest.raises(BridgeUnavailable, match="pool p answers slowly"):
        run(guard, lambda: True)
    go_on.set()
    assert all(call.result(10) for call in slow)
    assert run(guard, lambda: True)


def test_calls_are_not_limited_while_others_are_answered(guard: Guard, pool: ThreadPoolExecutor) -> None:
    """It has much to do; that is no reason to refuse more."""
    go_on = threading.Event()
    slow = [pool.submit(run, guard, lambda: go_on.wait(10)) for _ in range(4)]
    for _ in range(6):
        time.sleep(SLOW / 4)
        assert run(guard, lambda: True)
    go_on.set()
    assert all(call.result(10) for call in slow)


def test_one_at_a_time_tries_what_did_not_answer(guard: Guard, pool: ThreadPoolExecutor) -> None:
    with pytest.raises(BridgeUnavailable, match="no answer"):
        run(guard, hang)
    assert guard.is_shut
    with pytest.raises(BridgeUnavailable, match="pool p did not answer in time"):
        run(guard, lambda: True)
    time.sleep(1.1)
    began, go_on = threading.Event(), threading.Event()

    def try_it() -> bool:
        began.set()
        return go_on.wait(10)

    trying = pool.submit(run, guard, try_it)
    assert began.wait(10)
    with pytest.raises(BridgeUnavailable, match="did not answer in time"):
        run(guard, lambda: True)
    go_on.set()
    assert trying.result(10)
    assert not guard.is_shut
    assert run(guard, lambda: True)


def test_try_in_vain_is_followed_by_another(guard: Guard) -> None:
    for _ in range(2):
        with pytest.raises(BridgeUnavailable, match="no answer"):
            run(guard, hang)
        time.sleep(1.1)
    assert run(guard, lambda: True)


@pytest.mark.parametrize("error", [BridgeUnavailable("refused"), QueueMissing("q")], ids=["refused", "no queue"])
def test_quick_refusals_and_other_errors_shut_nothing(guard: Guard, error: Exception) -> None:
    def refuse() -> None:
        raise error

    for _ in range(3):
        with pytest.raises(type(error)):
            run(guard, refuse)
    assert not guard.is_shut
