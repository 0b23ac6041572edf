"""How many messages a reader wants to land: it is asked again as they come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from storage.model import Message


class Demand(Protocol):
    """What Landing.land_free works for. Both methods return how many more messages are wanted; 0 ends it."""

    def look(self) -> int:
        """Look at what has landed: at first, and whenever somebody else may have landed something since."""

    def take(self, landed: Sequence[Message]) -> int:
        """These have just landed, one at least, after all that was there."""


class Count:
    """A demand for so many messages, whichever they are."""

    def __init__(self, count: int):
        self._left = count

    def look(self) -> int:
        """See Demand."""
        return self._left

    def take(self, landed: Sequence[Message]) -> int:
        """See Demand."""
        self._left = max(0, self._left - len(landed))
        return self._left
