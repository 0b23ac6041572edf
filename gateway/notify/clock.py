"""Time that passes while this process is stopped, and while the machine sleeps."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Seconds since some moment; never steps back. A right that ends at a time is compared with this."""
    return time.clock_gettime(_CLOCK)
