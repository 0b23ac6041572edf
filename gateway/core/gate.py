"""Work that takes long, for a few threads at a time: the others stay free for everybody else's requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.core.errors import Busy


class Gate:
    """At most ``at_once`` threads are inside, and ``waiting`` more wait up to ``patience`` seconds for their turn.

    All others are turned away at once, with ``busy`` as the reason for the client.
    """

    def __init__(self, at_once: int, waiting: int, patience: float, busy: str):
        self._room = threading.Semaphore(at_once + waiting)
        self._turns = threading.Semaphore(at_once)
        self._patience = patience
        self._busy = busy

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be inside. Raises Busy."""
        if not self._room.acquire(blocking=False):
            raise Busy(self._busy)
        try:
            if not self._turns.acquire(timeout=self._patience):
                raise Busy(self._busy)
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._room.release()
