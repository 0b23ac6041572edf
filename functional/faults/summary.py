"""How long service was away, by kind of fault."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from functional.faults.history import POST, Fault, History

#: Clients that talk to one gateway only, all the time.
PROBE = "probe-"


def summary(histories: Sequence[History]) -> Iterator[str]:
    """A Markdown table, in seconds: the longest gap between confirmed posts at the gateway that suffered most, and
    how long after the fault was mended every gateway worked again."""
    gaps: dict[str, list[float]] = defaultdict(list)
    recoveries: dict[str, list[float]] = defaultdict(list)
    for history in histories:
        for fault in history.faults:
            if fault.alone:
                gaps[fault.kind].append(interruption(history, fault))
                recoveries[fault.kind].append(max(0.0, fault.recovered - fault.mended))
    yield "| fault | times | no service, median | worst | recovered after mending, median | worst |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for kind in sorted(gaps):
        figures = (median(gaps[kind]), max(gaps[kind]), median(recoveries[kind]), max(recoveries[kind]))
        yield f"| {kind} | {len(gaps[kind])} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |"


def interruption(history: History, fault: Fault) -> float:
    """Seconds for which a probe's posts were not confirmed, at the gateway where that took longest."""
    done: dict[str, list[float]] = defaultdict(list)
    for call in history.calls:
        if call.kind == POST and call.client.startswith(PROBE) and call.succeeded:
            done[call.client].append(call.returned)
    longest = 0.0
    for times in done.values():
        for before, after in pairwise(sorted(times)):
            if before < fault.recovered and after > fault.begun:
                longest = max(longest, after - before)
    return longest
