"""How large a message the broker takes, which it tells only by refusing one that is larger."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bridges.errors import BrokerRefused, MessageTooLarge

#: How long we cache the limit, in seconds, as an administrator may change it.
KNOWN_FOR = 60.0

#: Size of the first probe in bytes. Each further probe is twice as large, so that few are needed.
SMALLEST = 1024


class Sizes:
    """What a broker's limit is known to be. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fits = 0
        self._limit: int | None = None
        self._until = 0.0

    def check(self, sizes: list[int], probe: Callable[[int], None]) -> None:
        """Raises MessageTooLarge if one of a batch's messages is: of a batch, the others would have been enqueued.

        ``probe`` publishes a message of so many bytes that nobody gets; it is called for batches only: one message is
        its own probe.
        """
        largest = max(sizes, default=0)
        with self._lock:
            if time.monotonic() > self._until:
                self._fits, self._limit = 0, None
            fits, limit = self._fits, self._limit
        if limit is not None:
            _compare(largest, limit)
        elif len(sizes) > 1 and largest > fits:
            size = max(SMALLEST, 1 << (largest - 1).bit_length())
            try:
                probe(size)
            except MessageTooLarge as error:
                self.learn(error)
                _compare(largest, error.limit if error.limit is not None else 0)
                return
            except BrokerRefused:
                pass  # the user may publish to his target alone: there is no way to ask
            with self._lock:
                self._fits, self._until = max(self._fits, size), time.monotonic() + KNOWN_FOR

    def learn(self, error: MessageTooLarge) -> None:
        """The broker has refused a message, and may have said what its limit is."""
        if error.limit is not None:
            with self._lock:
                self._limit, self._until = error.limit, time.monotonic() + KNOWN_FOR


def _compare(size: int, limit: int) -> None:
    if size > limit:
        raise MessageTooLarge(f"a message has {size} bytes, and the broker takes {limit}", limit)
