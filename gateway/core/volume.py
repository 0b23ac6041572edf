"""How many messages a pool holds, for health checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from bridges.errors import BridgeError
from gateway.core.pools.pool import Pool
from gateway.core.queues.names import broker_name
from storage.errors import StoreError
from storage.model import Stats, split_name

#: Seconds for asking the broker how much waits in each queue: one question takes less than a millisecond.
PATIENCE = 1.0

#: Queues whose names are read in one go.
PAGE = 500

#: What is said when it can't be found out now.
UNKNOWN: dict[str, int | None] = {"free": None, "claimed": None, "total": None}


def message_volume(pool: Pool, queues: Callable[[str, int], Sequence[str]]) -> dict[str, Any]:
    """Messages of all projects: free, claimed, and in total, which has the delayed ones too.

    What waits in the broker is free. If there are more queues than the broker can be asked about in PATIENCE seconds,
    the rest is left out. ``queues`` lists the queues in the pool, up to so many after a name. What has landed counts
    for the pool whose side-store it is: the default one, where others share it.
    """
    try:
        landed = Stats() if pool.shares_store else pool.store.landed.volume()
        waiting = _waiting(pool, queues) if pool.bridge.has_backlog else 0
    except (BridgeError, StoreError):
        return UNKNOWN
    return {
        "free": landed.free + waiting,
        "claimed": landed.claimed,
        "total": landed.free + landed.claimed + landed.delayed + waiting,
    }


def _waiting(pool: Pool, queues: Callable[[str, int], Sequence[str]]) -> int:
    deadline = time.monotonic() + PATIENCE
    waiting, after = 0, ""
    while keys := queues(after, PAGE):
        for key in keys:
            if time.monotonic() > deadline:
                return waiting
            waiting += pool.bridge.depth(broker_name(*split_name(key)))
        after = keys[-1]
    return waiting
