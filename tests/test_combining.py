"""Calls of several threads made as one."""

import threading
from collections.abc import Sequence

import pytest

from storage.combining import Combiner
from storage.errors import StoreUnavailable
from tests.threads import DEADLINE, in_background

SHORT = 0.1


class Slow:
    """Work that waits to be allowed to end; it doubles numbers."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.release()
        assert self.go_on.acquire(timeout=DEADLINE)
        return [2 * item for item in items]


def waiting(combiner: Combiner[int, int], count: int, key: object = None) -> bool:
    return len(combiner._lines.get(key, ())) == count


def until(condition: object) -> None:
    deadline = threading.Event()
    for _ in range(int(DEADLINE / 0.005)):
        if condition():  # type: ignore[operator]
            return
        deadline.wait(0.005)
    raise AssertionError("it did not happen")


@pytest.fixture
def slow() -> Slow:
    return Slow()


def test_whoever_comes_meanwhile_is_in_the_next_batch_and_gets_his_own_result(slow: Slow) -> None:
    combiner = Combiner(slow, DEADLINE)
    first = in_background(lambda: combiner.do(1))
    assert slow.begun.acquire(timeout=DEADLINE)
    others = []
    for number in (2, 3, 4):
        others.append(in_background(lambda number=number: combiner.do(number)))
        until(lambda number=number: waiting(combiner, number - 1))
    slow.go_on.release(2)
    assert first.result(DEADLINE) == 2
    assert [other.result(DEADLINE) for other in others] == [4, 6, 8]
    assert slow.batches == [[1], [2, 3, 4]]
    assert combiner._lines == combiner._busy == {}


def test_batches_are_no_larger_than_allowed(slow: Slow) -> None:
    combiner = Combiner(slow, DEADLINE, most=2)
    calls = [in_background(lambda: combiner.do(0))]
    assert slow.begun.acquire(timeout=DEADLINE)
    calls += [in_background(lambda: combiner.do(1)) for _ in range(3)]
    until(lambda: waiting(combiner, 3))
    slow.go_on.release(3)
    assert [call.result(DEADLINE) for call in calls] == [0, 2, 2, 2]
    assert slow.batches == [[0], [1, 1], [1]]


def test_keys_do_not_wait_for_each_other(slow: Slow) -> None:
    combiner = Combiner(slow, DEADLINE)
    calls = [in_background(lambda key=key: combiner.do(1, key=key)) for key in "ab"]
    for _ in calls:
        assert slow.begun.acquire(timeout=DEADLINE)
    slow.go_on.release(2)
    assert [call.result(DEADLINE) for call in calls] == [2, 2]


def test_failure_is_everybodys_and_the_next_batch_is_done(slow: Slow) -> None:
    fail = [True, True, False]

    def work(items: Sequence[int]) -> list[int]:
        results = slow(items)
        if fail.pop(0):
            raise StoreUnavailable("it is down")
        return results

    combiner = Combiner(work, DEADLINE)
    calls = [in_background(lambda: combiner.do(1))]
    assert slow.begun.acquire(timeout=DEADLINE)
    calls += [in_background(lambda: combiner.do(2)) for _ in range(2)]
    until(lambda: waiting(combiner, 2))
    slow.go_on.release(2)
    for call in calls:
        with pytest.raises(StoreUnavailable, match="it is down"):
            call.result(DEADLINE)
    slow.go_on.release()
    assert combiner.do(3) == 6


def test_result_that_is_a_failure_is_raised_for_its_item_alone() -> None:
    combiner: Combiner[int, int] = Combiner(lambda items: [StoreUnavailable("odd") if i % 2 else i for i in items], 1)
    assert combiner.do(2) == 2
    with pytest.raises(StoreUnavailable, match="odd"):
        combiner.do(1)


def test_error_of_another_kind_ends_the_line_for_nobody(slow: Slow) -> None:
    """A bug in the work: the thread that did it sees it, the others learn that their part was not done."""
    def work(items: Sequence[int]) -> list[int]:
        results = slow(items)
        if 2 in items:
            raise KeyError(2)
        return results

    combiner = Combiner(work, DEADLINE)
    first = in_background(lambda: combiner.do(1))
    assert slow.begun.acquire(timeout=DEADLINE)
    others = [in_background(lambda: combiner.do(2))]
    until(lambda: waiting(combiner, 1))
    others.append(in_background(lambda: combiner.do(3)))
    until(lambda: waiting(combiner, 2))
    slow.go_on.release(2)
    assert first.result(DEADLINE) == 2
    with pytest.raises(KeyError):
        others[0].result(DEADLINE)
    with pytest.raises(StoreUnavailable, match="broke off"):
        others[1].result(DEADLINE)
    slow.go_on.release()
    assert combiner.do(5) == 10


def test_wait_in_line_has_an_end(slow: Slow) -> None:
    combiner = Combiner(slow, SHORT)
    first = in_background(lambda: combiner.do(1))
    assert slow.begun.acquire(timeout=DEADLINE)
    with pytest.raises(StoreUnavailable, match="busy"):
        combiner.do(2)
    slow.go_on.release()
    assert first.result(DEADLINE) == 2
    assert slow.batches == [[1]]


def test_whoever_has_waited_has_less_time_to_work() -> None:
    """Waiting and working are one timeout together."""
    lefts: list[float] = []
    slow = Slow()

    def work(items: Sequence[int]) -> list[int]:
        lefts.append(combiner.left)
        return slow(items)

    combiner: Combiner[int, int] = Combiner(work, 2.0)
    assert combiner.left == 2.0
    first = in_background(lambda: combiner.do(1))
    assert slow.begun.acquire(timeout=DEADLINE)
    second = in_background(lambda: combiner.do(2))
    until(lambda: waiting(combiner, 1))
    threading.Event().wait(0.3)
    slow.go_on.release(2)
    assert (first.result(DEADLINE), second.result(DEADLINE)) == (2, 4)
    assert lefts[0] > 1.8
    assert lefts[1] < 1.75


def test_up_to_so_many_do_their_own_item_side_by_side(slow: Slow) -> None:
    combiner = Combiner(slow, DEADLINE, alone=3, together=2)
    calls = [in_background(lambda: combiner.do(1)) for _ in range(3)]
    for _ in calls:
        assert slow.begun.acquire(timeout=DEADLINE)
    slow.go_on.release(3)
    assert [call.result(DEADLINE) for call in calls] == [2, 2, 2]
    assert slow.batches == [[1], [1], [1]]
    assert combiner._lines == combiner._busy == {}


def test_beyond_that_so_many_batches_at_a_time_carry_all_that_wait(slow: Slow) -> None:
    combiner = Combiner(slow, DEADLINE, most=3, alone=3, together=2)
    calls = [in_background(lambda: combiner.do(0)) for _ in range(3)]
    for _ in calls:
        assert slow.begun.acquire(timeout=DEADLINE)
    for number in range(1, 6):
        calls.append(in_background(lambda number=number: combiner.do(number)))
        until(lambda number=number: waiting(combiner, number))

    slow.go_on.release()  # two are left, which are as many as may go together
    until(lambda: combiner._busy[None] == 2)
    assert len(slow.batches) == 3
    slow.go_on.release()
    assert slow.begun.acquire(timeout=DEADLINE)
    assert slow.batches[3:] == [[1, 2, 3]]
    slow.go_on.release()
    assert slow.begun.acquire(timeout=DEADLINE)
    assert slow.batches[4:] == [[4, 5]]

    slow.go_on.release(2)
    assert sorted(call.result(DEADLINE) for call in calls) == [0, 0, 0, 2, 4, 6, 8, 10]
    assert combiner._lines == combiner._busy == {}


def test_whoever_comes_while_others_wait_waits_behind_them(slow: Slow) -> None:
    """Though fewer are under way than may go alone."""
    combiner = Combiner(slow, DEADLINE, alone=2, together=1)
    calls = [in_background(lambda: combiner.do(0)) for _ in range(2)]
    for _ in calls:
        assert slow.begun.acquire(timeout=DEADLINE)
    calls.append(in_background(lambda: combiner.do(1)))
    until(lambda: waiting(combiner, 1))
    slow.go_on.release()
    until(lambda: combiner._busy[None] == 1)
    calls.append(in_background(lambda: combiner.do(2)))
    until(lambda: waiting(combiner, 2))
    slow.go_on.release(2)
    assert sorted(call.result(DEADLINE) for call in calls) == [0, 0, 2, 4]
    assert slow.batches == [[0], [0], [1, 2]]
