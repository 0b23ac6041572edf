"""What the scripts for scaling and memory make of what they have measured."""

import pytest

from functional.scaling import _rows
from functional.soak import LOOKS, Look, grown
from gateway.bench.rounds import Result
from gateway.bench.workloads import named
from tests.test_bench_numbers import posts


def looks(*memory: int) -> list[Look]:
    return [Look(1000 * number, 1.0, [size]) for number, size in enumerate(memory, 1)]


def test_memory_that_stays_has_not_grown():
    assert grown(looks(50, 90, 100, 100, 101, 99, 100, 100, 100)) == 1.0


def test_memory_that_grows_has_grown():
    assert grown(looks(*range(100, 200, 10))) == pytest.approx(180 / 120)


def test_one_odd_look_is_not_growth():
    assert grown(looks(10, 100, 100, 100, 100, 100, 100, 170, 100)) == 1.0


def test_too_few_looks_say_nothing():
    with pytest.raises(ValueError, match="too few"):
        grown(looks(*[100] * (2 * LOOKS - 1)))


def test_ratio_is_to_the_mean_of_before_and_after():
    def result(name: str, count: int) -> Result:
        return Result(named("post-1"), {name: [posts(count)]}, {name: 0}, ["q"])

    rows = _rows("post-1", [[result("few", 100), result("few", 200)], [result("many", 120)]])

    assert [(row[1], row[4]) for row in rows] == [("few", "1.00×"), ("many", "0.80×")]
