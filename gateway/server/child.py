"""A forked process, as its parent sees it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

from gateway.config.refused import CannotServe

LOG = logging.getLogger(__name__)

#: Exit code of a process that refuses the configuration (EX_CONFIG of sysexits.h).
REFUSED = 78

#: Most bytes of a refusal's text: a pipe holds that many without a reader.
MAX_TEXT = 4096


class Child:
    """A forked process that runs ``task`` and then ends; if it refuses the configuration, it reports why.

    Raises OSError if no process can be forked.
    """

    def __init__(self, task: Callable[[], None]):
        #: When it was started, in monotonic seconds.
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
            os.write(report, str(refusal).encode(errors="replace")[:MAX_TEXT])
        except Exception:
            LOG.exception("worker failed")
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # closed, or on a full disk
                stream.flush()
        os._exit(status)

    def ended(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        found, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    def refusal(self) -> str:
        """Why it has refused the configuration; empty if it has not."""
        with open(self._report, "rb", closefd=False) as report:
            return report.read().decode(errors="replace")

    def close(self) -> None:
        """Close what its parent holds of it, after it has ended."""
        os.close(self._report)

    def send(self, number: int) -> None:
        """Send a signal. It has not been waited for yet, so no other process has its id."""
        os.kill(self.pid, number)
