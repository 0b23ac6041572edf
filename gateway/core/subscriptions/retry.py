"""When a notification that failed is tried again: ``_retry_policy`` of queues and subscriptions, and its waits.

The names, defaults and curves of policies are OpenStack Zaqar's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

BACKOFF_FUNCTIONS = ("linear", "arithmetic", "geometric", "exponential")

COUNTS = (
    "retries_with_no_delay", "minimum_delay_retries", "minimum_delay", "maximum_delay", "maximum_delay_retries",
)

#: Largest value of counts and delays: a signed 32-bit integer.
MAX_COUNT = 2**31 - 1

#: Seconds between minimum_delay and maximum_delay at least: the curve from one to the other needs two steps.
MIN_SPREAD = 10

#: Seconds between two steps of the curve, and the most steps: a longer curve is cut into this many instead.
STEP = 5
MAX_STEPS = 100

#: How many waits are listed at most.
MAX_LISTED = 1000

#: Waits from this many seconds on get a random addition of up to this part of them, so that messages that failed
#: together don't come back together. Nothing is subtracted: the policy names minimums.
JITTER_FROM = 1
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often an attempt is repeated, and after which waits. Delays are in seconds.

    There are four phases: no delay, ``minimum_delay``, a curve from the one delay to the other, ``maximum_delay``.
    """

    retries_with_no_delay: int = 3
    minimum_delay_retries: int = 3
    minimum_delay: int = 5
    maximum_delay: int = 30
    maximum_delay_retries: int = 3
    retry_backoff_function: str = "linear"
    ignore_subscription_override: bool = False

    @classmethod
    def parse(cls, value: Any, where: str = "") -> RetryPolicy | None:
        """The policy that a client sent; None if it is null or empty, which means that there is none.

        Unknown keys are ignored; a key that is null has its default. Raises ValueError with a sentence for the client,
        which begins with ``where``.
        """
        prefix = f"{where}: " if where else ""
        policy = cls._read(value, prefix)
        if policy is not None and policy.maximum_delay - policy.minimum_delay < MIN_SPREAD:
            raise ValueError(
                f"{prefix}maximum_delay must be at least {MIN_SPREAD} seconds more than minimum_delay, but they are"
                f" {policy.maximum_delay} and {policy.minimum_delay}"
                f" (default: {DEFAULT.maximum_delay} and {DEFAULT.minimum_delay})"
            )
        return policy

    @classmethod
    def stored(cls, value: Any) -> RetryPolicy | None:
        """The policy in stored metadata or options; never raises.

        It may have been stored when fewer combinations of delays were refused. What can't be read is no policy.
        """
        try:
            return cls._read(value, "")
        except ValueError:
            return None

    @classmethod
    def _read(cls, value: Any, prefix: str) -> RetryPolicy | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ValueError(f"{prefix}must be an object")
        known: dict[str, Any] = {}
        for key, setting in value.items():
            check = _CHECKS.get(key)
            if check is not None and setting is not None:
                if not check(setting):
                    raise ValueError(f"{prefix}{key} must be {_WANTED[key]}")
                known[key] = setting
        return cls(**known) if value else None

    def as_dict(self) -> dict[str, Any]:
        """The policy as JSON, with defaults filled in."""
        return asdict(self)

    def wait(self, retry: int) -> int | None:
        """Seconds before this retry, which is counted from 1; None if there is no such retry."""
        index = retry - 1 - self.retries_with_no_delay
        if index < 0:
            return 0
        if index < self.minimum_delay_retries:
            return self.minimum_delay
        index -= self.minimum_delay_retries
        curve = backoff(self.retry_backoff_function, self.minimum_delay, self.maximum_delay)
        if index < len(curve):
            return curve[index]
        return self.maximum_delay if index - len(curve) < self.maximum_delay_retries else None

    def waits(self, most: int = MAX_LISTED) -> list[int]:
        """The waits before retry 1, 2, … in seconds; the first ``most`` of them."""
        phases = (
            (self.retries_with_no_delay, 0), (self.minimum_delay_retries, self.minimum_delay),
            *((1, wait) for wait in backoff(self.retry_backoff_function, self.minimum_delay, self.maximum_delay)),
            (self.maximum_delay_retries, self.maximum_delay),
        )
        waits: list[int] = []
        for count, wait in phases:
            waits += [wait] * min(count, most - len(waits))
        return waits


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(COUNTS, _is_count),
    "retry_backoff_function": lambda value: isinstance(value, str) and value in BACKOFF_FUNCTIONS,
    "ignore_subscription_override": lambda value: isinstance(value, bool),
}

_WANTED = {
    **dict.fromkeys(COUNTS, f"an integer from 0 to {MAX_COUNT}"),
    "retry_backoff_function": f"one of {', '.join(BACKOFF_FUNCTIONS)}",
    "ignore_subscription_override": "true or false",
}

#: What acts when a policy is asked for and none is set.
DEFAULT = RetryPolicy()


def backoff(function: str, low: int, high: int) -> list[int]:
    """The waits (s) of the curve from ``low`` to ``high``; ``function`` is one of BACKOFF_FUNCTIONS.

    The numbers are Zaqar's, except that a curve has at most MAX_STEPS steps and that a geometric one from 0 begins
    at 1. Zaqar's geometric and exponential curves are the same.
    """
    spread = high - low
    steps = spread // STEP
    if function == "linear":
        if spread <= STEP * MAX_STEPS:
            return list(range(low, high, STEP))
        return [low + step * spread // MAX_STEPS for step in range(MAX_STEPS)]
    steps = min(steps, MAX_STEPS)
    if steps < 2:
        return [low] * max(steps, 0)
    if function == "arithmetic":
        return [int(low + step * (step + 1) * spread / (steps * (steps - 1))) for step in range(steps)]
    low = max(low, 1)
    factor = (high / low) ** (1 / (steps - 1))
    return [int(low * factor**step) for step in range(steps)]


def acting_policy(queue: RetryPolicy | None, subscription: RetryPolicy | None) -> RetryPolicy | None:
    """The policy that acts, as a whole: policies are not merged. None: neither has one."""
    if any(policy is not None and policy.ignore_subscription_override for policy in (queue, subscription)):
        return queue or DEFAULT
    return subscription or queue


def waits(policy: RetryPolicy | None, schedule: Sequence[int], most: int = MAX_LISTED) -> list[int]:
    """The waits in seconds that act, without jitter: the policy's, or those of ``schedule`` if there is no policy."""
    return policy.waits(most) if policy is not None else list(schedule[:most])


def next_wait(
    attempt: int, policy: RetryPolicy | None, schedule: Sequence[int], *, at_once: bool = True,
    chance: Callable[[], float] = random.random,
) -> float | None:
    """Seconds to wait after attempt number ``attempt`` (counted from 1) has failed; None: it was the last one.

    ``schedule``: the waits where there is no policy. ``at_once`` false: retries without delay wait as long as the first
    one with a delay, since nothing will have changed within a moment. ``chance`` gives a number from 0 to 1.
    """
    if policy is not None:
        wait = policy.wait(attempt if at_once else max(attempt, policy.retries_with_no_delay + 1))
    else:
        remaining = schedule[attempt - 1:]
        wait = next((wait for wait in remaining if wait or at_once), None)
    if wait is None or wait < JITTER_FROM:
        return wait
    return wait * (1 + JITTER * chance())
