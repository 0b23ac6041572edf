"""Keeps worker processes alive, hands SIGTERM and SIGHUP on to them, and counts nothing itself."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from gateway.config.refused import CannotServe, reason
from gateway.observe.beside import failed
from gateway.observe.logs import configure
from gateway.observe.shared_values import Memory
from gateway.server.application import Build
from gateway.server.lifeline import Lifeline
from gateway.server.listening import drop_new_connections, remove_file
from gateway.server.worker import Again, work

LOG = logging.getLogger(__name__)

#: Seconds that a worker gets on top of [wsgi] drain_timeout before it is killed.
KILL_MARGIN = 3.0

#: Seconds before a worker that died is replaced; they double up to a limit while workers live no longer than so many
#: seconds: those that can't start would burn a core.
RESPAWN_DELAY = 0.5
LONGEST_DELAY = 10.0
LIVED = 5.0

#: Exit code of a process that refuses the configuration (EX_CONFIG of sysexits.h).
REFUSED = 78

#: Exit codes of workers that have lost nothing; those that were still starting die of the signal.
CLEAN = (0, -signal.SIGTERM)

#: Seconds between two looks at the workers, and at those that drain.
WATCH_STEP = 0.2
DRAIN_STEP = 0.05

#: Seconds that a new configuration gets to be tried.
TRIAL = 60.0

#: Bytes of a refusal's text at the most: what a pipe holds without a reader.
LONGEST_TEXT = 4096


class Child:
    """A forked process that runs ``task`` and reports with what it failed, if it did."""

    def __init__(self, task: Callable[[], None], number: int = 0):
        self.number = number
        self.started = time.monotonic()
        self._report, there = os.pipe()
        try:
            self.pid = os.fork()
        except OSError:
            os.close(self._report)
            os.close(there)
            raise
        if not self.pid:
            try:
                self._run(task, there)
            finally:
                os._exit(1)
        os.close(there)

    @staticmethod
    def _run(task: Callable[[], None], report: int) -> None:
        status = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            task()
            status = 0
        except CannotServe as refusal:
            status = REFUSED
            os.write(report, str(refusal).encode(errors="replace")[:LONGEST_TEXT])
        except Exception:
            LOG.exception("worker failed")
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # closed, or on a full disk
                stream.flush()
        os._exit(status)

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        found, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    def refusal(self) -> str:
        """Why it has refused the configuration."""
        with open(self._report, "rb", closefd=False) as report:
            return report.read().decode(errors="replace")

    def close(self) -> None:
        """It has ended."""
        os.close(self._report)

    def send(self, number: int) -> None:
        """Send a signal; it has not been waited for, so the process id is its own."""
        os.kill(self.pid, number)


class Supervisor:
    """Keeps as many workers alive as configured; they share the listening socket."""

    def __init__(self, conf: Any, listener: socket.socket, build: Build, again: Again | None = None):
        self._conf = conf
        self._listener = listener
        self._build = build
        self._again = again
        self._workers: dict[int, Child] = {}
        self._stopping = False
        self._hung_up = False
        self._lifeline = Lifeline()
        self._memory: Memory | None = None
        #: Workers that have not been replaced yet.
        self._first = set(range(conf.wsgi.workers))
        self._count = conf.wsgi.workers
        self._delay = RESPAWN_DELAY
        self._not_before = 0.0
        try:
            self._memory = Memory(conf.wsgi.workers)
        except OSError as error:
            failed("metrics of all workers together", error)

    def run(self) -> int:
        """Watch the workers until a signal ends them; the exit status. Raises CannotServe."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._hang_up)
        try:
            while not self._stopping:
                if self._hung_up:
                    self._reload()
                self._spawn_missing()
                self._replace_dead()
                time.sleep(WATCH_STEP)
        except CannotServe:
            self._end()
            raise
        return self._end()

    def _spawn_missing(self) -> None:
        if time.monotonic() < self._not_before:
            return
        for number in range(self._count):
            if number in self._workers or self._stopping:
                continue
            try:
                self._workers[number] = Child(functools.partial(self._work, number), number)
            except OSError as error:  # no more processes, memory or files
                LOG.error("can't start a worker now: %s", error)
                self._put_off(min(2 * self._delay, LONGEST_DELAY))
                return

    def _work(self, number: int) -> None:
        """In the worker."""
        patience = self._conf.wsgi.drain_timeout + KILL_MARGIN
        self._lifeline.watch(patience, lambda: remove_file(self._listener))
        if self._memory is not None:
            from gateway.observe import metrics

            metrics.share(self._memory, number)
        work(self._conf, self._listener, self._build, self._again, alone=False)

    def _replace_dead(self) -> None:
        for child, status in self._reap():
            if status == REFUSED and child.number in self._first:
                raise CannotServe(child.refusal())
            self._first.discard(child.number)
            LOG.error("worker %d died (status %d), replacing it", child.pid, status)
            lived = time.monotonic() - child.started
            self._put_off(RESPAWN_DELAY if lived > LIVED else min(2 * self._delay, LONGEST_DELAY))
            child.close()

    def _put_off(self, delay: float) -> None:
        self._delay = delay
        self._not_before = time.monotonic() + delay

    def _reap(self) -> list[tuple[Child, int]]:
        """The workers that have ended, with their exit codes."""
        ended = []
        for child in list(self._workers.values()):
            status = child.ended()
            if status is not None:
                del self._workers[child.number]
                ended.append((child, status))
                if self._memory is not None:
                    self._memory.part(child.number).end()
        return ended

    def _stop(self, number: int, frame: Any) -> None:
        self._stopping = True

    def _hang_up(self, number: int, frame: Any) -> None:
        self._hung_up = True

    def _reload(self) -> None:
        """Have all workers read the configuration again, if it is one that can be served with."""
        self._hung_up = False
        refusal = None
        try:
            self._adopt(self._again() if self._again is not None else self._conf)
        except Exception as error:
            refusal = reason(error)
        if refusal is not None:  # not inside the except: oslo.log would append the error once more
            LOG.error("the configuration is refused, going on with the one before: %s", refusal)
        else:
            self._signal(signal.SIGHUP)

    def _adopt(self, conf: Any) -> None:
        self._try(conf)
        try:
            configure(conf)
        except BaseException:
            configure(self._conf)
            raise
        self._conf = conf

    def _try(self, conf: Any) -> None:
        """Build all of it in a process of its own, which ends then. Raises CannotServe."""
        child = Child(lambda: self._build(conf).close())
        try:
            deadline = time.monotonic() + TRIAL
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
        """Let the workers drain, kill those that don't end."""
        drop_new_connections(self._listener)
        self._listener.close()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + self._conf.wsgi.drain_timeout + KILL_MARGIN
        bad = 0
        while self._workers and time.monotonic() < deadline:
            bad += sum(status not in CLEAN for _, status in self._reap())
            time.sleep(DRAIN_STEP)
        if self._workers:
            LOG.error("killing %d workers that have not ended in time", len(self._workers))
            self._signal(signal.SIGKILL)
            bad += len(self._workers)
        return 1 if bad else 0

    def _signal(self, number: int) -> None:
        for child in self._workers.values():
            child.send(number)
