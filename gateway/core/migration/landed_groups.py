"""Claims in groups, while the landed messages of a FIFO queue go from one side-store to another; see landed.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.core.migration.landed_copies import MovingCopies
from storage.errors import LeaseLost, QueueGone
from storage.landed import LEASE_MARGIN
from storage.model import Claim, InGroups, Message, Ring


class MovingGroups(MovingCopies):
    """The part of both places together that respects groups. A group may have messages in both."""

    def find_in_groups(
        self, q: str, limit: int, ring: Ring | None = None, stops: Mapping[str, int] | None = None
    ) -> InGroups:
        """See GroupingStore. What holds a group up in one side-store holds it up in the other."""
        with self._turn():
            old = self._old.find_in_groups(q, limit, ring, stops)
            new = self._new.find_in_groups(q, limit, ring, old.stops)
            if new.stops != old.stops:
                old = self._old.find_in_groups(q, limit, ring, new.stops)
            found = self._merged(q, old.messages, new.messages)[:limit]
        starts = [since for since in (old.blocked_since, new.blocked_since) if since]
        return InGroups(found, old.blocked + new.blocked, min(starts, default=0), {**new.stops, **old.stops})

    def claim_in_groups(
        self, q: str, owner: str, wants: Sequence[tuple[Claim, Sequence[Message]]], release: int | None = None
    ) -> list[list[Message]]:
        """See GroupingStore."""
        with self._turn():
            claimed = self._claim(q, owner, wants)
            if release is not None:
                self._old.release_lease(q, owner, release)
                self._new.release_lease(q, owner, release)
            return claimed

    def _claim(self, q: str, owner: str, wants: Sequence[tuple[Claim, Sequence[Message]]]) -> list[list[Message]]:
        """Claim messages wherever they are."""
        if not self._lands_in_new():
            return self._old.claim_in_groups(q, owner, wants)
        there = self._old.get_messages(q, [message.id for _, messages in wants for message in messages])
        in_old = {message.id for message in there}
        olds = [(claim, [message for message in wanted if message.id in in_old]) for claim, wanted in wants]
        news = [(claim, [message for message in wanted if message.id not in in_old]) for claim, wanted in wants]
        claimed = self._new.claim_in_groups(q, owner, news)
        if in_old:
            try:
                more = self._claim_in_old(q, owner, olds)
            except LeaseLost:  # nothing is to be claimed then
                for claim, _ in wants:
                    self._new.release_claim(q, claim.id)
                raise
            claimed = [
                sorted([*one, *other], key=lambda message: message.seq)
                for one, other in zip(more, claimed, strict=True)
            ]
        return claimed

    def _claim_in_old(
        self, q: str, owner: str, wants: Sequence[tuple[Claim, Sequence[Message]]]
    ) -> list[list[Message]]:
        """Claim what is in the old side-store, whose lease has ended if its key is closed: the new one's counts then.

        That is renewed before the claim for longer than the claim may take; a claim that has taken longer is undone.
        """
        try:
            return self._old.claim_in_groups(q, owner, wants)
        except QueueGone:
            self._hold(q, owner)
        claimed = [self._old.claim(q, messages, claim) if messages else [] for claim, messages in wants]
        try:
            self._hold(q, owner)
        except LeaseLost:
            for claim, _ in wants:
                self._old.release_claim(q, claim.id)
            raise
        return claimed

    def _hold(self, q: str, owner: str) -> None:
        """Renew the new side-store's lease. Raises LeaseLost."""
        if not self._new.renew_lease(q, owner, self.timeout + LEASE_MARGIN):
            raise LeaseLost(q)

    def _merged(self, q: str, old: Sequence[Message], new: Sequence[Message]) -> list[Message]:
        """Messages of both in order, without copies of what the old side-store has, or had when it was asked."""
        had = {message.id for message in old}
        others = self._without_copies(q, [message for message in new if message.id not in had])
        return sorted([*old, *others], key=lambda message: message.seq)

    def _without_copies(self, q: str, new: Sequence[Message]) -> list[Message]:
        if not new:
            return []
        copied = {message.id for message in self._old.get_messages(q, [message.id for message in new])}
        return [message for message in new if message.id not in copied]
