"""Keeps the processes of all roles alive, passes SIGTERM and SIGHUP on to them, and serves nothing itself."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.config.refused import CannotServe, reason
from gateway.observe.fast_paths import SHARED_MEMORY, fell_back
from gateway.observe.logs import configure
from gateway.observe.shared_values import Memory
from gateway.server.child import Child
from gateway.server.parent_death import ParentDeathPipe
from gateway.server.role import Role
from gateway.server.role_processes import RoleProcesses
from gateway.server.worker import ReadConfiguration

LOG = logging.getLogger(__name__)

#: Seconds that a process gets on top of [wsgi] drain_timeout before it is killed.
KILL_MARGIN = 3.0

#: Seconds between two looks at the processes, and at those that drain.
WATCH_STEP = 0.2
DRAIN_STEP = 0.05

#: Seconds that a new configuration gets to be tried.
TRIAL_TIMEOUT = 60.0


class Supervisor:
    """Runs roles until a signal ends all of them."""

    def __init__(
        self,
        conf: Any,
        roles: Sequence[Role],
        try_out: Callable[[Any], None],
        read_again: ReadConfiguration | None = None,
    ):
        """``try_out``: raises CannotServe if a configuration can't be served with; runs in a process of its own.

        ``read_again``: what reads the configuration on SIGHUP; None: it stays as it is.
        """
        self._conf = conf
        self._try_out = try_out
        self._read_again = read_again
        self._stopping = False
        self._hung_up = False
        self._parent_death = ParentDeathPipe()
        self._memory: Memory | None = None
        self._no_memory: OSError | None = None
        self._roles: list[RoleProcesses] = []
        first = 0
        for role in roles:
            self._roles.append(RoleProcesses(role, first, self._runner(role), self._end_part))
            first += role.processes
        if conf.metrics.shared_memory:
            try:
                self._memory = Memory(first)
            except OSError as error:
                self._no_memory = error

    def run(self) -> int:
        """Watch the processes until a signal ends them; the exit status. Raises CannotServe."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._hang_up)
        try:
            while not self._stopping:
                if self._hung_up:
                    self._reload()
                for processes in self._roles:
                    processes.spawn_missing(lambda: self._stopping)
                    processes.note_dead()
                time.sleep(WATCH_STEP)
        except CannotServe:
            self._end()
            raise
        return self._end()

    def _runner(self, role: Role) -> Callable[[int], None]:
        """What a process of a role runs, with its number."""

        def run(number: int) -> None:
            timeout = self._conf.wsgi.drain_timeout + KILL_MARGIN
            self._parent_death.watch(role.stop_signal, timeout, role.after_supervisor_died)
            if self._memory is not None:
                from gateway.observe import metrics

                metrics.share(self._memory, number)
            elif self._no_memory is not None:
                fell_back(SHARED_MEMORY, self._no_memory)
            role.run(self._conf)

        return run

    def _end_part(self, number: int) -> None:
        """The process with this number has ended: what it had open counts no more."""
        if self._memory is not None:
            self._memory.part(number).end()

    def _stop(self, number: int, frame: Any) -> None:
        self._stopping = True

    def _hang_up(self, number: int, frame: Any) -> None:
        self._hung_up = True

    def _reload(self) -> None:
        """Have all processes read the configuration again, if it is one that can be served with."""
        self._hung_up = False
        refusal = None
        try:
            self._adopt(self._read_again() if self._read_again is not None else self._conf)
        except Exception as error:
            refusal = reason(error)
        if refusal is not None:  # not inside the except: oslo.log would append the error once more
            LOG.error("the configuration is refused, going on with the one before: %s", refusal)
        else:
            for processes in self._roles:
                processes.send(signal.SIGHUP)

    def _adopt(self, conf: Any) -> None:
        self._check(conf)
        try:
            configure(conf)
        except BaseException:
            configure(self._conf)
            raise
        self._conf = conf

    def _check(self, conf: Any) -> None:
        """Try a configuration out in a process of its own, which then ends. Raises CannotServe."""
        child = Child(lambda: self._try_out(conf))
        try:
            deadline = time.monotonic() + TRIAL_TIMEOUT
            while (status := child.ended()) is None:
                if time.monotonic() > deadline or self._stopping:
                    child.send(signal.SIGKILL)
                    deadline = float("inf")
                time.sleep(DRAIN_STEP)
            if status:
                raise CannotServe(child.refusal() or f"trying it ended with status {status}")
        finally:
            child.close()

    def _end(self) -> int:
        """Let the processes finish what they do, and kill those that take too long."""
        for processes in self._roles:
            processes.role.before_stop()
            processes.send(processes.role.stop_signal)
        deadline = time.monotonic() + self._conf.wsgi.drain_timeout + KILL_MARGIN
        failed = 0
        while any(map(len, self._roles)) and time.monotonic() < deadline:
            failed += sum(processes.count_failed() for processes in self._roles)
            time.sleep(DRAIN_STEP)
        if left := sum(len(processes) for processes in self._roles):
            LOG.error("killing %d workers that have not ended in time", left)
            for processes in self._roles:
                processes.send(signal.SIGKILL)
        return 1 if failed or left else 0
