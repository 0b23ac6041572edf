"""What clients have asked and been told: every call, with its times."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: Kinds of calls.
POST, CLAIM, RENEW, RELEASE, DELETE, POP, LIST, GET = (
    "post", "claim", "renew", "release", "delete", "pop", "list", "get",
)


@dataclass(frozen=True)
class Seen:
    """A message as an answer shows it. ``producer`` and ``number`` are what its body says."""

    id: str
    producer: str
    number: int
    claim_count: int = 0


@dataclass
class Call:
    """One request. Times are seconds of one monotonic clock; ``status`` is None when no answer came.

    ``claim``: the claim in question; ``ids``: of messages asked for, or posted; ``seen``: messages in the answer;
    ``numbers``: what a post asked to store, and in a FIFO queue ``groups`` the group of each of these, "" for none;
    ``delay``: of all messages posted, in seconds; ``ttl``: of a claim or of the messages posted, in seconds; ``key``:
    the idempotency key of a post; ``limit``: of a claim or pop, in messages; ``walk``: names the walk with markers that
    a list belongs to.
    """

    kind: str
    client: str
    gateway: str
    queue: str
    invoked: float
    returned: float = 0.0
    status: int | None = None
    claim: str | None = None
    ids: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    delay: float = 0.0
    key: str | None = None
    ttl: float = 0.0
    limit: int = 0
    walk: str | None = None
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        """Was it done for certain?"""
        return self.status is not None and 200 <= self.status < 300

    @property
    def unknown(self) -> bool:
        """May it have been done or not?"""
        return self.status is None or self.status >= 500


@dataclass(frozen=True)
class Fault:
    """What went wrong on purpose, from ``begun`` until ``mended`` (seconds of the calls' clock).

    ``recovered``: since when all probes have been answered well again. ``alone``: no other fault came with it.
    """

    kind: str
    victim: str
    begun: float
    mended: float
    recovered: float
    alone: bool = True


class History:
    """All calls of a run and all its faults, in the order in which they ended; safe to use from several threads."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def add(self, call: Call) -> None:
        """Record a call that has ended."""
        with self._lock:
            self.calls.append(call)

    def save(self, path: Path) -> None:
        """Write everything as JSON, a line for each call and fault."""
        with path.open("w") as file:
            for item in self.items():
                file.write(json.dumps(asdict(item)) + "\n")

    def items(self) -> list[Any]:
        """Everything that is to be saved: instances of dataclasses."""
        return [*self.calls, *self.faults]
