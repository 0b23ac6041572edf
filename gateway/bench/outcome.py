"""What a run of the load has counted: requests, messages, errors and times."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

#: Names of errors without an answer; they stand where a status would.
NO_CONNECTION, LOST, TIMEOUT = "no connection", "connection lost", "timeout"

#: Name of the error if an answer has an expected status, but its body can't be read.
UNREADABLE = "unreadable"


@dataclass
class Operation:
    """What happened to the requests of one kind.

    ``seconds``: how long each successful request took. ``statuses``, ``errors``: number of requests by status or error.
    The fields count what was answered inside the window; those that begin with ``all_`` count the whole run.
    """

    seconds: array[float] = field(default_factory=lambda: array("d"))
    messages: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    all_messages: int = 0
    all_statuses: Counter[str] = field(default_factory=Counter)
    all_errors: Counter[str] = field(default_factory=Counter)

    def add(self, other: Operation) -> None:
        """Add the numbers of another process."""
        self.seconds.extend(other.seconds)
        self.messages += other.messages
        self.all_messages += other.all_messages
        for name in ("statuses", "errors", "all_statuses", "all_errors"):
            getattr(self, name).update(getattr(other, name))


@dataclass
class Outcome:
    """What one process of the load, or all of them, have counted.

    ``cpu``: CPU time of the client inside the window, in seconds. ``busy``: largest share of a core that one process
    used, from 0 to 1. ``first_error``: a sentence about the first error, empty if there was none.
    """

    operations: dict[str, Operation] = field(default_factory=dict)
    cpu: float = 0.0
    busy: float = 0.0
    reconnects: int = 0
    first_error: str = ""

    def operation(self, kind: str) -> Operation:
        """The numbers of a kind of request; all zero at first."""
        return self.operations.setdefault(kind, Operation())

    def add(self, other: Outcome) -> None:
        """Add the numbers of another process."""
        for kind, operation in other.operations.items():
            self.operation(kind).add(operation)
        self.cpu += other.cpu
        self.busy = max(self.busy, other.busy)
        self.reconnects += other.reconnects
        self.first_error = self.first_error or other.first_error
