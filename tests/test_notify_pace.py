"""How fast a subscription is served."""

from gateway.notify.pace import FIRST_PROBE, LAST_PROBE, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def fail(pace: Pace, times: int, overload: bool = False) -> None:
    for _ in range(times):
        pace.begin()
        pace.failed(overload)
        pace.end()


def succeed(pace: Pace, times: int) -> None:
    for _ in range(times):
        pace.begin()
        pace.succeeded()
        pace.end()


def test_window_grows_with_each_success_up_to_the_most() -> None:
    pace = Pace(4)
    assert pace.room == 1
    succeed(pace, 2)
    assert pace.room == 3
    succeed(pace, 5)
    assert (pace.window, pace.room) == (4, 4)
    pace.begin()
    assert pace.room == 3


def test_overload_halves_and_other_failures_do_not() -> None:
    pace = Pace(8)
    succeed(pace, 8)
    fail(pace, 1, overload=True)
    assert pace.window == 4
    fail(pace, 1)
    assert pace.window == 4
    fail(pace, 1, overload=True)
    assert pace.window == 2


def test_probes_after_five_failures_in_a_row_until_one_success() -> None:
    clock = Clock()
    pace = Pace(8, clock=clock)
    succeed(pace, 8)
    fail(pace, 4)
    assert (pace.is_failing, pace.wait()) == (False, 0.0)
    waits = []
    for _ in range(9):
        fail(pace, 1)
        waits.append(pace.wait())
        clock.now += pace.wait()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert waits[0] == FIRST_PROBE and waits[-1] == LAST_PROBE
    assert pace.room == 1
    succeed(pace, 1)
    assert (pace.is_failing, pace.wait(), pace.room) == (False, 0.0, 2)
    fail(pace, 5)
    assert pace.wait() == FIRST_PROBE


def test_rest_holds_everything() -> None:
    clock = Clock()
    pace = Pace(8, clock=clock)
    pace.rest(30)
    pace.rest(10)  # the longer one counts
    assert pace.wait() == 30.0
    clock.now += 30
    assert pace.wait() == 0.0


def test_rate_counts_what_begins() -> None:
    clock = Clock()
    pace = Pace(100, 2.0, clock)
    begun = 0
    for _ in range(100):
        while pace.wait() == 0.0:
            pace.begin()
            pace.end()
            begun += 1
        clock.now += 0.1
    assert 20 <= begun <= 23


def test_rates_below_one_a_second() -> None:
    clock = Clock()
    pace = Pace(100, 0.1, clock)
    pace.begin()
    assert round(pace.wait(), 3) == 10.0
    clock.now += 10.0
    assert pace.wait() == 0.0


def test_another_worker_goes_on_where_the_last_one_was() -> None:
    clock = Clock()
    pace = Pace(8, clock=clock)
    pace.resume(0, 50, 5.0)
    assert (pace.window, pace.wait()) == (8, 5.0)
    failing = Pace(8, clock=clock)
    failing.resume(7, 5, -3.0)
    assert (failing.is_failing, failing.room, failing.wait()) == (True, 1, 0.0)
    failing.restart()
    assert (failing.is_failing, failing.window) == (False, 1)


def test_owners_lower_limits_at_once() -> None:
    pace = Pace(8)
    succeed(pace, 8)
    pace.limit(2, 0.0)
    assert pace.window == 2
