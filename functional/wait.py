"""Waiting for something to become true, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks: short enough not to slow a test down, long enough not to load a small machine.
INTERVAL = 0.05


def wait_until(condition: Callable[[], T], timeout: float, what: str = "the condition") -> T:
    """Poll until `condition()` is truthy and return that value; TimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(INTERVAL)
    return value
