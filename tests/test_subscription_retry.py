"""When a notification that failed is tried again."""

from typing import Any

import pytest

from gateway.core.subscriptions.retry import (
    DEFAULT,
    MAX_COUNT,
    MAX_LISTED,
    RetryPolicy,
    acting_policy,
    backoff,
    next_wait,
    waits,
)

SCHEDULE = [5, 300, 1800]

#: What Zaqar 23 computes: (lowest, highest), function, steps, sum, the first and the last of them.
CURVES: list[tuple[tuple[int, int], str, int, int, list[int], list[int]]] = [
    ((5, 30), "linear", 5, 75, [5, 10, 15, 20, 25], []),
    ((5, 30), "arithmetic", 5, 74, [5, 7, 12, 20, 30], []),
    ((5, 30), "geometric", 5, 73, [5, 7, 12, 19, 30], []),
    ((10, 60), "linear", 10, 325, [10, 15], [55]),
    ((10, 60), "arithmetic", 10, 281, [10, 11, 13, 16, 21, 26, 33, 41, 50, 60], []),
    ((10, 60), "geometric", 10, 285, [10, 12, 14, 18, 22, 27, 33, 40, 49, 60], []),
    ((20, 80), "linear", 12, 570, [20, 25], [75]),
    ((20, 80), "arithmetic", 12, 495, [20, 20, 22, 25, 29, 33, 39, 45, 52, 60, 70, 80], []),
    ((20, 80), "geometric", 12, 522, [20, 22, 25, 29, 33, 37, 42, 48, 54, 62, 70, 80], []),
    ((30, 100), "linear", 14, 875, [30, 35], [95]),
    ((30, 100), "arithmetic", 14, 764, [30, 30, 32, 34, 37, 41, 46, 51, 57, 64, 72, 80, 90, 100], []),
    ((30, 100), "geometric", 14, 815, [30, 32, 36, 39, 43, 47, 52, 57, 62, 69, 75, 83, 91, 99], []),
    ((1, 60), "linear", 12, 342, [1, 6], [56]),
    ((1, 60), "arithmetic", 11, 244, [1, 2, 4, 7, 11, 17, 23, 31, 39, 49, 60], []),
    ((1, 60), "geometric", 11, 171, [1, 1, 2, 3, 5, 7, 11, 17, 26, 39, 59], []),
    ((5, 300), "linear", 59, 8850, [5, 10], [295]),
    ((5, 300), "arithmetic", 59, 6169, [5, 5, 5, 6, 6, 7], [290, 300]),
    ((5, 300), "geometric", 59, 4308, [5, 5, 5, 6, 6, 7], [279, 300]),
]


@pytest.mark.parametrize(("delays", "function", "steps", "total", "first", "last"), CURVES)
def test_curves_are_zaqars(
    delays: tuple[int, int], function: str, steps: int, total: int, first: list[int], last: list[int]
) -> None:
    curve = backoff(function, *delays)
    assert (len(curve), sum(curve)) == (steps, total)
    assert curve[:len(first)] == first and curve[len(curve) - len(last):] == last
    if function == "geometric":
        assert backoff("exponential", *delays) == curve


def test_long_curves_have_a_hundred_steps() -> None:
    geometric = backoff("geometric", 5, 3600)
    assert geometric[:5] == [5, 5, 5, 6, 6] and geometric[-2:] == [3368, 3599] and len(geometric) == 100
    assert sum(geometric) / 3600 == pytest.approx(15.5, abs=0.05)
    arithmetic = backoff("arithmetic", 5, 3600)
    assert (len(arithmetic), arithmetic[0], arithmetic[-1]) == (100, 5, 3600)
    linear = backoff("linear", 5, 3600)
    assert (len(linear), linear[0], linear[50]) == (100, 5, 5 + 3595 // 2) and linear[-1] < 3600
    assert backoff("linear", 0, 500) == list(range(0, 500, 5))
    assert len(backoff("exponential", 0, MAX_COUNT)) == 100


def test_geometric_curve_from_zero_begins_at_one() -> None:
    assert backoff("geometric", 0, 10) == [1, 10]


def test_default_policy() -> None:
    assert DEFAULT.waits() == [0, 0, 0, 5, 5, 5, 5, 10, 15, 20, 25, 30, 30, 30]
    assert RetryPolicy.parse({"mine": 1}) == DEFAULT


def test_phases_follow_each_other() -> None:
    policy = RetryPolicy(2, 1, 10, 60, 2, "arithmetic")
    expected = [0, 0, 10, *backoff("arithmetic", 10, 60), 60, 60]
    assert policy.waits() == expected
    assert [policy.wait(retry) for retry in range(1, len(expected) + 2)] == [*expected, None]


def test_list_of_waits_is_bounded() -> None:
    policy = RetryPolicy.parse({"retries_with_no_delay": MAX_COUNT, "maximum_delay_retries": MAX_COUNT})
    assert policy is not None and policy.waits() == [0] * MAX_LISTED
    assert policy.wait(MAX_COUNT + 1 + 3 + 5) == 30 and policy.wait(2 * MAX_COUNT + 3 + 5 + 1) is None
    assert waits(None, SCHEDULE, 2) == [5, 300] and waits(DEFAULT, SCHEDULE, 4) == [0, 0, 0, 5]


@pytest.mark.parametrize(
    "value",
    [
        [], "x", 1, True, {"minimum_delay": 25}, {"minimum_delay": 21}, {"maximum_delay": 14}, {"maximum_delay": 0},
        {"minimum_delay": 40, "maximum_delay": 30}, {"minimum_delay": 10, "maximum_delay": 19},
        {"retry_backoff_function": "cubic"}, {"retry_backoff_function": ["linear"]}, {"retry_backoff_function": 1},
        {"ignore_subscription_override": 1}, {"ignore_subscription_override": "true"},
        *({key: wrong} for key in (
            "retries_with_no_delay", "minimum_delay_retries", "minimum_delay", "maximum_delay", "maximum_delay_retries",
        ) for wrong in (-1, True, False, "1", 1.0, MAX_COUNT + 1, [1], {})),
    ],
)
def test_bad_policy_is_refused_with_where_it_is(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^there: "):
        RetryPolicy.parse(value, "there")


@pytest.mark.parametrize("value", [None, {}])
def test_no_policy(value: Any) -> None:
    assert RetryPolicy.parse(value) is None and RetryPolicy.stored(value) is None


def test_null_is_the_default_and_unknown_keys_are_ignored() -> None:
    policy = RetryPolicy.parse({"minimum_delay": None, "maximum_delay": 15, "mine": [None]})
    assert policy == RetryPolicy(maximum_delay=15)
    assert policy.as_dict() == {
        "retries_with_no_delay": 3, "minimum_delay_retries": 3, "minimum_delay": 5, "maximum_delay": 15,
        "maximum_delay_retries": 3, "retry_backoff_function": "linear", "ignore_subscription_override": False,
    }


def test_stored_policy_of_earlier_rules_still_acts() -> None:
    old = RetryPolicy.stored({"minimum_delay": 25, "retry_backoff_function": "geometric"})
    assert old is not None and old.waits() == [0, 0, 0, 25, 25, 25, 25, 30, 30, 30]
    upside_down = RetryPolicy.stored({"minimum_delay": 40, "retry_backoff_function": "arithmetic"})
    assert upside_down is not None and upside_down.waits() == [0, 0, 0, 40, 40, 40, 30, 30, 30]
    assert RetryPolicy.stored("linear") is None and RetryPolicy.stored({"minimum_delay": -1}) is None


QUEUES, THEIRS = RetryPolicy(minimum_delay=6), RetryPolicy(minimum_delay=7)
OVERRIDING = RetryPolicy(ignore_subscription_override=True, minimum_delay=8)


@pytest.mark.parametrize(
    ("queue", "subscription", "acts"),
    [
        (None, None, None), (QUEUES, None, QUEUES), (None, THEIRS, THEIRS), (QUEUES, THEIRS, THEIRS),
        (OVERRIDING, THEIRS, OVERRIDING), (QUEUES, OVERRIDING, QUEUES), (None, OVERRIDING, DEFAULT),
        (OVERRIDING, None, OVERRIDING),
    ],
)
def test_which_policy_acts(
    queue: RetryPolicy | None, subscription: RetryPolicy | None, acts: RetryPolicy | None
) -> None:
    assert acting_policy(queue, subscription) == acts


def test_schedule_acts_without_a_policy() -> None:
    found = [next_wait(attempt, None, SCHEDULE, chance=lambda: 0) for attempt in (1, 2, 3, 4)]
    assert found == [5, 300, 1800, None]


def test_jitter_only_adds_and_only_to_waits_of_a_second_or_more() -> None:
    assert next_wait(1, DEFAULT, (), chance=lambda: 1) == 0
    assert next_wait(4, DEFAULT, (), chance=lambda: 0) == 5
    assert next_wait(4, DEFAULT, (), chance=lambda: 1) == 6
    found = {next_wait(4, DEFAULT, ()) for _ in range(50)}
    assert len(found) > 1 and all(5 <= wait <= 6 for wait in found if wait is not None)


def test_retries_without_delay_wait_when_that_makes_no_sense() -> None:
    policy = RetryPolicy(retries_with_no_delay=2, minimum_delay_retries=1, minimum_delay=7, maximum_delay=30)
    found = [next_wait(attempt, policy, (), at_once=False, chance=lambda: 0) for attempt in (1, 2, 3, 4, 5)]
    assert found == [7, 7, 7, 7, 12]
    assert next_wait(1, None, [0, 0, 9], at_once=False, chance=lambda: 0) == 9
    assert next_wait(3, None, [0, 0, 0], at_once=False) is None
