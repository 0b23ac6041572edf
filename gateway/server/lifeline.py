"""A pipe that tells workers when their supervisor has ended, however it did.

Only the supervisor has the end to write to, and never writes: whoever reads from the other end hears of its death by
the end of the file. That works where it is killed, on every system, and at any moment of a worker's life.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)


class Lifeline:
    """Made by the supervisor before it forks."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def watch(self, patience: float, tidy: Callable[[], None]) -> None:
        """In a worker: when the supervisor ends, do ``tidy`` and then as if it had sent SIGTERM.

        ``patience``: seconds that this worker then has to end by itself.
        """
        os.close(self._write)
        threading.Thread(target=self._watch, args=(patience, tidy), name="lifeline", daemon=True).start()

    def _watch(self, patience: float, tidy: Callable[[], None]) -> None:
        os.read(self._read, 1)
        try:
            tidy()
            LOG.warning("the supervisor has ended, so this worker ends")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(patience)
            os._exit(1)
