"""The processes of one role: as many as the role wants, each replaced when it dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from gateway.config.refused import CannotServe
from gateway.server.child import REFUSED, Child
from gateway.server.role import Role

LOG = logging.getLogger(__name__)

#: Seconds before a process that died is replaced. They double up to a limit while processes live for less than
#: SHORT_LIFE seconds: processes that can't start would burn a core.
RESPAWN_DELAY = 0.5
LONGEST_DELAY = 10.0
SHORT_LIFE = 5.0


class RoleProcesses:
    """Starts, replaces and ends the processes of a role; has delays of its own, so that no role waits for another."""

    def __init__(self, role: Role, first: int, run: Callable[[int], None], ended: Callable[[int], None]):
        """``first``: the number of the role's first process; the numbers of all roles' processes are different.

        ``run``: what a process runs, with its number. ``ended``: called in the supervisor when a process has ended.
        """
        self.role = role
        self._numbers = range(first, first + role.processes)
        self._run = run
        self._ended = ended
        self._children: dict[int, Child] = {}
        #: Numbers whose first process still runs, or was never started.
        self._never_replaced = set(self._numbers)
        self._delay = RESPAWN_DELAY
        self._not_before = 0.0

    def __len__(self) -> int:
        """How many run now."""
        return len(self._children)

    def spawn_missing(self, stopping: Callable[[], bool]) -> None:
        """Start the processes that are missing, unless the last one has died just now."""
        if time.monotonic() < self._not_before:
            return
        for number in self._numbers:
            if number in self._children or stopping():
                continue
            try:
                self._children[number] = Child(partial(self._run, number))
            except OSError as error:  # no more processes, memory or files
                LOG.error("can't start a worker now (%s): %s", self.role.name, error)
                self._put_off(min(2 * self._delay, LONGEST_DELAY))
                return

    def note_dead(self) -> None:
        """Plan to replace those that have died. Raises CannotServe if a first process refused the configuration."""
        for number, child, status in self._reap():
            if status == REFUSED and number in self._never_replaced:
                raise CannotServe(child.refusal())
            self._never_replaced.discard(number)
            LOG.error("worker %d (%s) died (status %d), replacing it", child.pid, self.role.name, status)
            lived = time.monotonic() - child.started
            self._put_off(RESPAWN_DELAY if lived > SHORT_LIFE else min(2 * self._delay, LONGEST_DELAY))
            child.close()

    def count_failed(self) -> int:
        """How many of those that have ended since the last call have not ended as they were asked to."""
        # A process that was still starting dies of the signal: it has lost nothing.
        return sum(status not in (0, -self.role.stop_signal) for _, _, status in self._reap())

    def send(self, number: int) -> None:
        """Send a signal to all of them."""
        for child in self._children.values():
            child.send(number)

    def _put_off(self, delay: float) -> None:
        self._delay = delay
        self._not_before = time.monotonic() + delay

    def _reap(self) -> list[tuple[int, Child, int]]:
        """The numbers, processes and exit codes of those that have ended."""
        ended = []
        for number, child in list(self._children.items()):
            status = child.ended()
            if status is not None:
                del self._children[number]
                self._ended(number)
                ended.append((number, child, status))
        return ended
