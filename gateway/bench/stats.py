"""Statistics of measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The median, the lowest and the highest value of some rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """From at least one value."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Latency:
    """Percentiles by nearest rank, and the maximum, in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency | None:
        """From durations in seconds; None if there are none."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        return cls(*(1000 * percentile(ordered, part) for part in (50, 95, 99, 100)))


def percentile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that at least ``part`` percent of the values do not exceed; ``ordered`` is not empty."""
    return ordered[max(0, math.ceil(part / 100 * len(ordered)) - 1)]


def ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Spread | None:
    """Ratios of the same round, because a disturbance slows both servers. None if no round has both numbers."""
    found = [a / b for a, b in zip(ours, theirs, strict=True) if a is not None and b]
    return Spread.of(found) if found else None
