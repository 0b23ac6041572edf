"""Groups that are blocked, for the metrics: by a claim that holds a message of theirs, or by a delay."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from gateway.observe.metrics import BLOCKED_GROUPS, BLOCKED_SECONDS

#: Seconds for which a queue counts after this process has looked at its groups, and how many queues do.
COUNTED_FOR = 60.0
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen of a queue at ``seen`` (monotonic seconds): groups, and since when (then) the first is blocked."""

    groups: int
    since: float
    seen: float


class BlockedGroups:
    """What this process has seen of its FIFO queues lately."""

    def __init__(self) -> None:
        self._looks: dict[str, _Look] = {}
        self._mutex = threading.Lock()

    def see(self, key: str, groups: int, since: int, now: int) -> None:
        """So many groups of a queue are blocked, the first one since ``since``; ``now``: both in ms since the epoch."""
        seen = time.monotonic()
        look = _Look(groups, seen - max(0, now - since) / 1000, seen)
        with self._mutex:
            if groups and (key in self._looks or len(self._looks) < MOST_COUNTED):
                self._looks[key] = look
            else:
                self._looks.pop(key, None)

    def show(self) -> None:
        """Set the metrics; to be called from time to time."""
        now = time.monotonic()
        with self._mutex:
            self._looks = {key: look for key, look in self._looks.items() if now - look.seen < COUNTED_FOR}
            looks = list(self._looks.values())
        BLOCKED_GROUPS.set(sum(look.groups for look in looks))
        BLOCKED_SECONDS.set(max((now - look.since for look in looks), default=0.0))


#: Those of this process.
BLOCKED = BlockedGroups()
