"""The part of the landed store for FIFO queues: within a group messages are handed out in order, to one at a time.

Whoever holds the landing lease of a FIFO queue lands in it, and nobody else claims messages of it. So, while the lease
lasts, a free message stays free or is deleted, and what is hidden may become free. That is why a group that was found
without a claim has none when its messages are claimed, as long as the write itself checks the lease.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from storage.model import Claim, InGroups, Message, Ring


class GroupingStore(ABC):
    """Claims that respect groups. All messages without a group are in the same one, which is called ``""``."""

    @abstractmethod
    def find_in_groups(
        self, q: str, limit: int, ring: Ring | None = None, stops: Mapping[str, int] | None = None
    ) -> InGroups:
        """Up to ``limit`` free messages that may be handed out now, by position. The caller holds the landing lease.

        All messages whose claim or delay is over are put back among the free ones first, and have no claim any more:
        a late renewal does not bring it back. Left out is every group of which a live claim holds a message. In each
        group everything is left out that comes after a message that is delayed, or that ``ring`` leaves out as in
        LandedStore.find_free. ``stops`` leaves out more, as InGroups.stops.

        A group that is left out hides no other one, however many messages it has. The key may be closed.
        """

    @abstractmethod
    def claim_in_groups(
        self, q: str, owner: str, wants: Sequence[tuple[Claim, Sequence[Message]]], release: int | None = None
    ) -> list[list[Message]]:
        """Claim messages that find_in_groups has found since ``owner`` took the lease: the messages of each claim.

        They are returned as they are now, without those that were deleted meanwhile. Nothing is claimed unless
        ``owner`` holds the lease at the moment of the write, and for ``timeout`` seconds more where the write takes a
        while: then this raises LeaseLost, or QueueGone if there is no lease. Each claim must be new. After
        StoreUnavailable it may have been made: release it, and leave the lease to its end.

        ``release``: the last ``seq`` used. The lease is given back in the same write, as by release_lease.
        """


class Held:
    """What holds the groups of a queue up, collected from its messages."""

    def __init__(self, stops: Mapping[str, int] | None = None):
        """``stops``: more of them, see InGroups."""
        self.stops: dict[str, int] = dict(stops or {})
        self._blocked: set[str] = set()
        self._since = 0

    def add(
        self, group: str, seq: int, hidden_until: int, claim_ttl: int, posted: int, *, claimed: bool
    ) -> None:
        """A message that is hidden now: claimed for ``claim_ttl`` seconds, or delayed since it was posted (ms)."""
        since = hidden_until - claim_ttl * 1000 if claimed else posted
        self._since = min(self._since or since, since)
        self._blocked.add(group)
        self.stop(group, 0 if claimed else seq)

    def stop(self, group: str, seq: int) -> None:
        """Let nothing of a group be handed out from this position on."""
        self.stops[group] = min(self.stops.get(group, seq), seq)

    def stops_at(self, group: str, seq: int) -> bool:
        """Must the message of a group that has this position be left out?"""
        stop = self.stops.get(group)
        return stop is not None and seq >= stop

    def stopped_after(self, seq: int) -> list[str]:
        """The groups of which nothing after a position may be handed out."""
        return [group for group, stop in self.stops.items() if stop <= seq + 1]

    def result(self, messages: list[Message]) -> InGroups:
        """With the messages that were found."""
        return InGroups(messages, len(self._blocked), self._since, self.stops)
