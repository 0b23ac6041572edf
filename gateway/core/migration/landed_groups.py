"""Claims in a FIFO queue whose landed messages go from one side-store to another; see landed.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.core.migration.landed_copies import MovingCopies
from storage.errors import QueueGone
from storage.grouping import Held
from storage.model import Claim, InGroups, Message, Ring


class MovingGroups(MovingCopies):
    """The part of both places together that respects groups.

    All messages in the old place come before those that land in the new one, until the mover closes the old place and
    takes them over from the first one on. Nothing is handed out while it does: what is in a closed place can't be
    claimed under a lease, and what comes after it has to wait.
    """

    def find_in_groups(
        self, q: str, limit: int, ring: Ring | None = None, stops: Mapping[str, int] | None = None
    ) -> InGroups:
        """See GroupingStore."""
        with self._turn():
            old = self._old.find_in_groups(q, limit, ring, stops)
            if not self._lands_in_new():
                return old
            if (old.messages or old.blocked) and self._is_closed(q):
                return InGroups([], old.blocked, old.blocked_since, old.stops)
            new = self._new.find_in_groups(q, limit, ring, old.stops)
        held = Held(new.stops)
        messages = [message for message in old.messages if not held.stops_at(message.group, message.seq)]
        since = [begun for begun in (old.blocked_since, new.blocked_since) if begun]
        return InGroups(
            [*messages, *new.messages][:limit], old.blocked + new.blocked, min(since, default=0), new.stops
        )

    def claim_in_groups(
        self, q: str, owner: str, wants: Sequence[tuple[Claim, Sequence[Message]]]
    ) -> list[list[Message]]:
        """See GroupingStore. Claims nothing if the old place was closed since they were found."""
        with self._turn():
            ids = [message.id for _, messages in wants for message in messages]
            in_old = {message.id for message in self._old.get_messages(q, ids)}
            claimed: list[list[Message]] = [[] for _ in wants]
            for store, is_old in ((self._old, True), (self._new, False)):
                part = [(claim, [m for m in messages if (m.id in in_old) == is_old]) for claim, messages in wants]
                if not any(messages for _, messages in part):
                    continue
                try:
                    got = store.claim_in_groups(q, owner, part)
                except QueueGone:
                    if is_old and self._lands_in_new():
                        return claimed
                    raise
                for all_, some in zip(claimed, got, strict=True):
                    all_ += some
            return claimed

    def _is_closed(self, q: str) -> bool:
        try:
            self._old.landed_or_deleted(q, [])
        except QueueGone:
            return True
        return False
