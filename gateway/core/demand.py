"""What readers want: which messages a list shows, and how many are to land for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.model import Message


@dataclass(slots=True)
class Selection:
    """The messages that a list shows, ``limit`` at most.

    ``not_from``: leave out this client's; ``claimed``, ``delayed``: show such messages, too.
    """

    limit: int
    not_from: str | None
    claimed: bool
    delayed: bool


class Demand(Protocol):
    """What Landing.land_free works for: it is asked again as messages come in.

    Both methods return how many more messages are wanted; 0 ends it.
    """

    def look(self) -> int:
        """Look at what has landed: at first, and whenever somebody else may have landed something since."""

    def take(self, landed: Sequence[Message]) -> int:
        """These have just landed, one at least, after all that was there."""


class Count:
    """A demand for so many messages, whichever they are; ``left`` is how many have not come yet."""

    def __init__(self, count: int):
        self.left = count

    def look(self) -> int:
        """See Demand."""
        return self.left

    def take(self, landed: Sequence[Message]) -> int:
        """See Demand."""
        self.left = max(0, self.left - len(landed))
        return self.left
