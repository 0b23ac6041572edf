"""How large a message Redis takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bridges.base import Envelope
from bridges.errors import MessageTooLarge

#: Bytes: the smallest value that Redis lets its option proto-max-bulk-len have, and the usual one.
SMALLEST, USUAL = 1024 * 1024, 512 * 1024 * 1024

#: Seconds for which the value is remembered: it may be changed.
KNOWN_FOR = 60.0


class Sizes:
    """What is known of the limit. ``ask`` finds out, None if Redis does not tell. Thread-safe."""

    def __init__(self, ask: Callable[[], int | None]):
        self._ask = ask
        self._known: tuple[float, int] = (0.0, USUAL)

    def check(self, envelopes: Sequence[Envelope]) -> None:
        """Raises MessageTooLarge if one is: Redis would close the connection, and not say which."""
        largest = max(len(envelope.body) for envelope in envelopes)
        if largest <= SMALLEST:
            return
        until, limit = self._known
        if time.monotonic() > until:
            limit = self._ask() or USUAL
            self._known = time.monotonic() + KNOWN_FOR, limit
        if largest > limit:
            raise MessageTooLarge(
                f"a message has {largest} bytes, and Redis takes {limit} (its option proto-max-bulk-len)", limit
            )
