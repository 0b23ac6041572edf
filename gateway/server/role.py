"""A role: one kind of work that the supervisor runs in processes of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _nothing() -> None:
    """For a role that shares nothing between its processes."""


@dataclass(frozen=True)
class Role:
    """One kind of work of the service."""

    #: What the log calls it.
    name: str

    #: How many processes do this work at the same time. A process that dies is replaced.
    processes: int

    #: What each process runs, with the configuration, until the stop signal; returns when the work in progress is done.
    #: It has to read the configuration again on SIGHUP by itself. Raises CannotServe if the configuration is refused.
    run: Callable[[Any], None]

    #: The signal that asks a process to stop: one that ends a process by default, as it may come while that starts.
    stop_signal: int = signal.SIGTERM

    #: Called once in the supervisor, before the processes are asked to stop.
    before_stop: Callable[[], None] = _nothing

    #: Called in each process when the supervisor has died, before the process is asked to stop.
    after_supervisor_died: Callable[[], None] = _nothing
