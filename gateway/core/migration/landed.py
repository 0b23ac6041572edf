"""The landed messages of a queue while they go from one side-store to another: each is in one of the two.

From the switch on calls and the mover take turns. So no message is on its way during a call, and what is found in both
side-stores (a mover died between writing and removing) counts as what the old one says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from gateway.core.migration.landed_groups import MovingGroups
from storage.errors import QueueGone
from storage.landed import NOTHING, LandedStore
from storage.model import Claim, Message, Ring, Stats

T = TypeVar("T")


class MovingLanded(MovingGroups):
    """Both places together. Messages land in ``old`` until ``lands_in_new`` says that they land in ``new``."""

    # -- keys ---------------------------------------------------------------------------------------------------

    def open_queue(self, q: str, last: int = 0, copies: Sequence[str] = ()) -> None:
        """See LandedStore: the old key stays as it is, since it may be closed for good."""
        self._new.open_queue(q, last, copies)

    def close_queue(self, q: str) -> None:
        """See LandedStore."""
        self._old.close_queue(q)
        self._new.close_queue(q)

    def remove_queue(self, q: str) -> None:
        """See LandedStore."""
        self._old.remove_queue(q)
        self._new.remove_queue(q)

    # -- landing ------------------------------------------------------------------------------------------------

    def acquire_lease(self, q: str, owner: str, seconds: float, alone: bool = False) -> int | None:
        """See LandedStore. The lease of both, as some may still land in the old one.

        Not in a FIFO queue (``alone``): who does not know of the move yet sees one place alone, and what blocks a group
        in the other one. So the old one is closed as soon as anything may land in the new one.
        """
        with self._turn():
            old = 0
            with suppress(QueueGone):  # closed: nobody lands there
                held = self._old.acquire_lease(q, owner, seconds)
                if held is None:
                    return None
                old = held
                if alone and self._lands_in_new():
                    self._new.open_queue(q, old)
                    self._old.close_queue(q)
            new = self._new.acquire_lease(q, owner, seconds)
            if new is None:
                self._old.release_lease(q, owner, old)
                return None
            return max(old, new)

    def renew_lease(self, q: str, owner: str, seconds: float) -> bool:
        """See LandedStore."""
        with self._turn():
            self._old.renew_lease(q, owner, seconds)
            return self._new.renew_lease(q, owner, seconds)

    def release_lease(self, q: str, owner: str, last: int, quick: bool = False) -> None:
        """See LandedStore."""
        with self._turn():
            self._old.release_lease(q, owner, last)
            self._new.release_lease(q, owner, last)

    def land(
        self, q: str, messages: Sequence[Message], owner: str | None = None, seen: float | None = None
    ) -> set[str]:
        """See LandedStore."""
        if not messages:
            return set()
        with self._turn():
            if not self._lands_in_new():
                return self._old.land(q, messages, owner)
            there = self._known_in_old(q, [message.id for message in messages])
            rest = [message for message in messages if message.id not in there]
            return there | (self._new.land(q, rest, owner) if rest else set())

    def tombstone(self, q: str, expires: Mapping[str, int]) -> set[str]:
        """See LandedStore."""
        if not expires:
            return set()
        with self._turn():
            landed = {message.id for message in self._old.get_messages(q, list(expires))}
            rest = {id_: until for id_, until in expires.items() if id_ not in landed}
            if not self._lands_in_new():
                landed |= self._old.tombstone(q, rest)
            return landed | self._new.tombstone(q, rest)

    def landed_or_deleted(self, q: str, ids: Sequence[str]) -> set[str]:
        """See LandedStore."""
        with self._turn():
            return self._known_in_old(q, ids) | self._new.landed_or_deleted(q, ids)

    # -- claims -------------------------------------------------------------------------------------------------

    def find_free(self, q: str, limit: int, ring: Ring | None = None) -> tuple[list[Message], bool]:
        """See LandedStore."""
        with self._turn():
            old, leased = self._free(self._old, q, limit, ring)
            new, leased_too = self._free(self._new, q, limit, ring)
            return self._merged(q, old, new)[:limit], leased or leased_too

    @staticmethod
    def _free(store: LandedStore, q: str, limit: int, ring: Ring | None) -> tuple[list[Message], bool]:
        try:
            return store.find_free(q, limit, ring)
        except QueueGone:  # closed, with fewer than so many: list what there is
            return list(store.list_messages(q, 0, limit, ring=ring)), False

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

    def claim(self, q: str, messages: Sequence[Message], claim: Claim) -> list[Message]:
        """See LandedStore."""
        with self._turn():
            in_old = {message.id for message in self._old.get_messages(q, [message.id for message in messages])}
            claimed = []
            for store, wanted in (
                (self._old, [message for message in messages if message.id in in_old]),
                (self._new, [message for message in messages if message.id not in in_old]),
            ):
                if wanted:
                    claimed += store.claim(q, wanted, claim)
            return sorted(claimed, key=lambda message: message.seq)

    def get_claim(self, q: str, claim_id: str) -> list[Message]:
        """See LandedStore."""
        with self._turn():
            return self._merged(q, self._old.get_claim(q, claim_id), self._new.get_claim(q, claim_id))

    def renew_claim(self, q: str, claim: Claim) -> bool:
        """See LandedStore."""
        with self._turn():
            old, new = self._old.renew_claim(q, claim), self._new.renew_claim(q, claim)
            return old or new

    def release_claim(self, q: str, claim_id: str) -> int:
        """See LandedStore."""
        with self._turn():
            return self._old.release_claim(q, claim_id) + self._new.release_claim(q, claim_id)

    # -- reading ------------------------------------------------------------------------------------------------

    def list_messages(
        self,
        q: str,
        after: int,
        limit: int,
        *,
        not_from: str | None = None,
        claimed: bool = False,
        delayed: bool = False,
        ring: Ring | None = None,
    ) -> Sequence[Message]:
        """See LandedStore."""
        wanted: dict[str, Any] = {"not_from": not_from, "claimed": claimed, "delayed": delayed, "ring": ring}
        with self._turn():
            old = self._old.list_messages(q, after, limit, **wanted)
            new = self._new.list_messages(q, after, limit, **wanted)
            return self._merged(q, old, new)[:limit]

    def get_messages(self, q: str, ids: Sequence[str]) -> list[Message]:
        """See LandedStore."""
        with self._turn():
            old = self._old.get_messages(q, ids)
            return [*old, *self._without_copies(q, self._new.get_messages(q, ids))]

    def newest(self, q: str) -> Message | None:
        """See LandedStore."""
        with self._turn():
            return _edge(max, self._old.newest(q), self._new.newest(q))

    def stats(self, q: str) -> Stats:
        """See LandedStore."""
        with self._turn():
            old, new = self._old.stats(q), self._new.stats(q)
        return Stats(
            old.free + new.free, old.claimed + new.claimed, old.delayed + new.delayed,
            _edge(min, old.oldest, new.oldest), _edge(max, old.newest, new.newest),
        )

    def volume(self) -> Stats:
        """See LandedStore: that of the whole side-stores is asked of them, not of a queue's view."""
        raise NotImplementedError("volumes are those of pools")

    # -- moving -------------------------------------------------------------------------------------------------

    def export(self, q: str, after: int, limit: int, most_bytes: int = 0) -> list[Message]:
        """See LandedStore: only the mover exports, from one of the two."""
        raise NotImplementedError("a queue that moves is not exported")

    def remove(self, q: str, messages: Sequence[Message]) -> set[str]:
        """See export."""
        raise NotImplementedError("a queue that moves is not exported")

    def list_tombstones(self, q: str, after: str, limit: int) -> list[tuple[str, int]]:
        """See export."""
        raise NotImplementedError("a queue that moves is not exported")

    # -- changing and deleting ----------------------------------------------------------------------------------

    def mark(self, q: str, messages: Sequence[Message]) -> None:
        """See LandedStore."""
        with self._turn():
            self._old.mark(q, messages)
            self._new.mark(q, messages)

    def delete_unclaimed(self, q: str, ids: Sequence[str], remembered: Mapping[str, int] = NOTHING) -> int:
        """See LandedStore."""
        return self._delete(q, ids, remembered, lambda store: store.delete_unclaimed(q, ids, remembered))

    def delete_claimed(
        self, q: str, ids: Sequence[str], claims: Sequence[str], remembered: Mapping[str, int] = NOTHING
    ) -> int:
        """See LandedStore."""
        return self._delete(q, ids, remembered, lambda store: store.delete_claimed(q, ids, claims, remembered))

    def _delete(
        self, q: str, ids: Sequence[str], remembered: Mapping[str, int], delete: Callable[[LandedStore], int]
    ) -> int:
        """Delete in both; copies of what the old one had are gone before, lest they come back to life."""
        with self._turn():
            in_old = {message.id for message in self._old.get_messages(q, ids)}
            if in_old:
                copies = [message for message in self._new.get_messages(q, list(in_old))]
                if copies:
                    self._new.remove(q, copies)
            deleted = delete(self._old)
            if gone := in_old & remembered.keys():  # it may land in the new one
                gone -= {message.id for message in self._old.get_messages(q, list(gone))}
                self._new.tombstone(q, {id_: remembered[id_] for id_ in gone})
            return deleted + delete(self._new)

    def purge(self, q: str) -> None:
        """See LandedStore."""
        with self._turn():
            self._old.purge(q)
            self._new.purge(q)


def _edge(choose: Callable[..., Message], old: Message | None, new: Message | None) -> Message | None:
    """The one of two messages that comes first, or last; either may be missing."""
    found = [message for message in (old, new) if message is not None]
    return choose(found, key=lambda message: message.seq) if found else None
