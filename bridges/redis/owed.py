"""Ends of batches that could not be sent to Redis: they are sent later, until others may have the messages."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from redis.exceptions import ResponseError

from bridges.redis.link import Link
from bridges.redis.scripts import BACK, GIVE_BACK, GROUP

#: Seconds between two tries, and how many ends are remembered.
AGAIN_AFTER, REMEMBERED = 1.0, 1_000

#: Said when the stream or its group has been deleted.
_GONE = re.compile("NOGROUP|requires the key to exist")


@dataclass(frozen=True, slots=True)
class End:
    """How a batch ended: the entries ``settled`` are removed from the stream ``key``, the others given back."""

    key: str
    batch: str
    settled: tuple[bytes, ...]
    all_settled: bool

    def send(self, link: Link) -> None:
        """Tell Redis. It may be told more than once. Raises FAILURES."""
        if not self.all_settled:
            if self.settled:
                link.ask("XDEL", self.key, *self.settled)
            link.run(GIVE_BACK, self.key, GROUP, self.batch, BACK)
            return
        # Not in a transaction: at its memory limit Redis 7.0 refuses these in one. No XACK: what is removed is
        # forgotten together with the consumer that is the batch. In this order: a message that is forgotten and not
        # removed would stay in the stream for good.
        removed, forgotten = link.call(
            ("XDEL", self.key, *self.settled), ("XGROUP", "DELCONSUMER", self.key, GROUP, self.batch)
        )
        if isinstance(removed, ResponseError):
            raise removed
        if isinstance(forgotten, ResponseError) and not _GONE.search(str(forgotten)):
            raise forgotten


class Owed:
    """Ends that Redis may not know of. After ``lease`` seconds others take the messages. Thread-safe.

    A give-back stays in here until then even when it was sent: of a fetch whose answer was lost it is unknown when, if
    ever, Redis does it.
    """

    def __init__(self, lease: float):
        self._lease = lease
        self._ends: deque[tuple[float, End]] = deque(maxlen=REMEMBERED)
        self._due = 0.0
        self._lock = threading.Lock()

    def add(self, end: End) -> None:
        """Send this later."""
        with self._lock:
            self._ends.append((time.monotonic() + self._lease, end))

    def send(self, link: Link) -> None:
        """Send what is owed, once a second at most. Raises FAILURES; what was not sent is sent the next time."""
        now = time.monotonic()
        with self._lock:
            if not self._ends or now < self._due:
                return
            self._due = now + AGAIN_AFTER
            while self._ends and self._ends[0][0] < now:
                self._ends.popleft()
            ends = list(self._ends)
        for entry in ends:
            entry[1].send(link)
            if entry[1].all_settled:
                with self._lock, suppress(ValueError):  # another thread has sent it, too
                    self._ends.remove(entry)
