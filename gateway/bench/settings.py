"""Settings of a measurement."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field

#: Maximum of the default number of load processes. One drives about ten thousand requests per second.
MAX_PROCESSES = 4


def default_processes() -> int:
    """One per core, up to MAX_PROCESSES."""
    return min(MAX_PROCESSES, os.cpu_count() or 1)


@dataclass(frozen=True)
class Settings:
    """Times are in seconds, ``body_size`` in bytes; ``backlog`` and ``claimed`` are messages per queue.

    ``fifo``: whether the queues are FIFO queues; if so, the messages are in so many ``groups``.
    """

    duration: float = 10.0
    warm_up: float = 2.0
    rounds: int = 3
    processes: int = field(default_factory=default_processes)
    timeout: float = 30.0
    queues: int = 1
    idle_queues: int = 0
    backlog: int = 0
    claimed: int = 0
    body_size: int = 1024
    project: str = "bench"
    fifo: bool = False
    groups: int = 1
    dedup_ids: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("duration", 0.1), ("warm_up", 0), ("rounds", 1), ("processes", 1), ("timeout", 0.1), ("queues", 1),
            ("idle_queues", 0), ("backlog", 0), ("claimed", 0), ("body_size", 2), ("groups", 1),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise ValueError(f"{name.replace('_', '-')} must be at least {least:g}")
        if not self.fifo and (self.groups > 1 or self.dedup_ids):
            raise ValueError("groups and dedup-ids need fifo: ordinary queues refuse such messages")
        if self.fifo and self.claimed:
            raise ValueError("claimed can't be used with fifo: the claimed messages would block their groups")

    @property
    def seconds(self) -> float:
        """Duration of one workload on one server, all rounds together."""
        return self.rounds * (self.warm_up + self.duration)
