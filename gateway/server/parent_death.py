"""A pipe that tells processes when their supervisor has ended, however it ended.

Only the supervisor holds the writing end, and it never writes: a process that reads sees the end of the file when the
supervisor is gone. That works on every system, even if the supervisor is killed, and at any moment of a process' life.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)


class ParentDeathPipe:
    """Create it in the supervisor, before it forks."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def watch(self, stop_signal: int, timeout: float, tidy: Callable[[], None]) -> None:
        """In a forked process: when the supervisor ends, call ``tidy`` and send this process ``stop_signal``.

        ``timeout``: seconds that this process then has to end by itself before it is ended.
        """
        os.close(self._write)
        threading.Thread(
            target=self._watch, args=(stop_signal, timeout, tidy), name="parent-death", daemon=True
        ).start()

    def _watch(self, stop_signal: int, timeout: float, tidy: Callable[[], None]) -> None:
        os.read(self._read, 1)
        try:
            tidy()
            LOG.warning("the supervisor has ended, so this worker ends")
        finally:
            os.kill(os.getpid(), stop_signal)
            time.sleep(timeout)
            os._exit(1)
