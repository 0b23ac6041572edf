"""The interface of the landed store: messages that were taken from the broker, with their claims and the landing lease.

A *tombstone* is the id of a message that must not land any more. The *landing lease* of a queue belongs to one gateway
at a time: only its holder lands free messages, so that their positions appear in order.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import uuid4

from storage.copying import CopyingStore
from storage.errors import LeaseLost, StoreUnavailable, Unstorable
from storage.grouping import GroupingStore
from storage.model import MOST_EXPORTED, Claim, Clock, Message, Ring, Stats, number

#: The ids that leave a tombstone when they are deleted, of a message that can't be published twice.
NOTHING: Mapping[str, int] = MappingProxyType({})

#: Seconds between two attempts to get a lease that another gateway holds. A landing takes longer than this.
LEASE_RETRY = 0.005

#: A lease lasts this many seconds longer than the operation's timeout, so that a slow holder is not taken for a dead
#: one.
LEASE_MARGIN = 3.0

#: For this many seconds a queue that was seen counts as existing. A deleted queue can't be created again within that
#: time.
SEEN_FOR = 0.1


class LandedStore(CopyingStore, GroupingStore):
    """Landed messages, claims, tombstones and landing leases. Methods take the ``key`` of a queue's document as ``q``.

    All methods are thread-safe. They raise StoreUnavailable within ``timeout``. It is one class because a claim, a
    deletion and a landing each have to be one atomic change of the same messages.
    """

    def __init__(self, clock: Clock, timeout: float):
        """``clock``: the side-store itself. ``timeout``: seconds that one call may take."""
        self.clock = clock
        self.timeout = timeout

    # -- keys ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def open_queue(self, q: str, last: int = 0, copies: Sequence[str] = ()) -> None:
        """Let messages land under a key. Leases and appends from now on give positions after ``last``.

        It may be repeated, and leaves a larger position, a lease and messages as they are. ``copies``: keys that are
        bound to it in the same step, so that nothing is appended before; they may be closed.
        """

    @abstractmethod
    def close_queue(self, q: str) -> None:
        """Let nothing land under a key any more; what would land raises QueueGone, as for a deleted queue.

        For SEEN_FOR seconds claimers that have seen the queue before may still land, see land. What has landed can be
        read, claimed, renewed, released, exported and deleted as before, but find_free raises QueueGone when it finds
        fewer than ``limit``. The landing lease ends and its last position is forgotten: ask acquire_lease before. So
        are the keys that are bound to it: ask bound before.
        """

    @abstractmethod
    def remove_queue(self, q: str) -> None:
        """Close the key and remove everything under it, also what claimers land within SEEN_FOR seconds.

        What they land ``maintain`` removes later, unless the key has been opened again.
        """

    # -- landing ------------------------------------------------------------------------------------------------

    @abstractmethod
    def acquire_lease(self, q: str, owner: str, seconds: float, alone: bool = False) -> int | None:
        """Take the queue's landing lease. Returns the last ``seq`` in use, or None if another owner holds the lease.

        ``alone``: nothing lands in this queue without the lease, so what its last holder has recorded need not be
        compared with what there is, if it has given the lease back. Raises QueueGone.
        """

    @abstractmethod
    def renew_lease(self, q: str, owner: str, seconds: float) -> bool:
        """Let the lease last ``seconds`` from now, if ``owner`` still holds it; False if not."""

    @abstractmethod
    def release_lease(self, q: str, owner: str, last: int, quick: bool = False) -> None:
        """Give the lease back, if ``owner`` still holds it, and record the last ``seq`` used.

        ``quick``: this returns before that is durable; if it is forgotten the lease lasts to its end.
        """

    @abstractmethod
    def land(
        self, q: str, messages: Sequence[Message], owner: str | None = None, seen: float | None = None
    ) -> set[str]:
        """Store messages durably with the ``seq`` they carry. Returns the ids that were left out.

        Ids are left out that have landed before or that have a tombstone: both are safe to acknowledge to the broker.
        Raises QueueGone if the queue has been deleted, and LeaseLost unless ``owner``, if given, holds the landing
        lease at the moment of the write: positions that were taken under an expired lease must not appear. Raises
        Unstorable if one of the messages can never be stored; the others may or may not be stored then.

        ``seen``: when the caller began to look for the queue and found it (monotonic seconds), before it took these
        messages from the broker. A store may skip its own check of the queue for SEEN_FOR seconds from then on.
        """

    def append(self, q: str, messages: Sequence[Message], again: bool = False) -> None:
        """Land new messages at the end of the queue, in the order given, and their copies; sets their ``seq``.

        Readers by ``seq`` see them appear in that order, however many gateways append at once. Copies are those of
        land_copied. ``again``: some may have been appended before. Those that have landed, or have a tombstone, are
        left out, with their copies. Raises QueueGone.
        """
        owner = uuid4().hex
        deadline = time.monotonic() + self.timeout
        while True:
            while (last := self.acquire_lease(q, owner, self.timeout + LEASE_MARGIN)) is None:
                if time.monotonic() > deadline:
                    raise StoreUnavailable("another gateway has held the queue's landing lease for too long")
                time.sleep(LEASE_RETRY)
            if again:
                known = self.landed_or_deleted(q, [message.id for message in messages])
                messages = [message for message in messages if message.id not in known]
            last = number(messages, last, self.clock.now())
            try:
                # If this fails the write may still happen: no other gateway lands before the lease expires.
                self.land_copied(q, messages, owner)
            except LeaseLost:  # this process was stopped for longer than the lease
                if time.monotonic() > deadline + self.timeout:
                    raise StoreUnavailable("the queue's landing lease was lost again and again") from None
                continue
            except Unstorable:
                self.release_lease(q, owner, last)
                raise
            self.release_lease(q, owner, last)
            return

    @abstractmethod
    def tombstone(self, q: str, expires: Mapping[str, int]) -> set[str]:
        """Record ids whose landing is to have no effect, each with the time (ms) until which that matters.

        Returns the ids that have landed meanwhile and therefore got none: delete those.
        """

    @abstractmethod
    def landed_or_deleted(self, q: str, ids: Sequence[str]) -> set[str]:
        """Those of the ids that land would leave out: they have landed, or have a tombstone. Raises QueueGone."""

    # -- claims -------------------------------------------------------------------------------------------------

    @abstractmethod
    def find_free(self, q: str, limit: int, ring: Ring | None = None) -> tuple[list[Message], bool]:
        """The oldest free messages, and whether the landing lease is held now.

        Messages whose claim or delay is over are put back among the free ones first. When ``limit`` messages are
        found the second value may be False without a look: the backlog is not needed then. Raises
        QueueGone when there are fewer because the queue has been deleted.

        ``ring`` leaves out the encrypted messages that its keys don't open, as far as their ``key`` tells: it names
        another key, or this ring.
        """

    @abstractmethod
    def claim(self, q: str, messages: Sequence[Message], claim: Claim) -> list[Message]:
        """Claim those of the given free messages that are still free; returned as they are now."""

    @abstractmethod
    def get_claim(self, q: str, claim_id: str) -> list[Message]:
        """The messages that a live claim holds, oldest first; empty when there is no such claim."""

    @abstractmethod
    def renew_claim(self, q: str, claim: Claim) -> bool:
        """Restart a live claim with the given ttl and times; False when there is no such claim."""

    @abstractmethod
    def release_claim(self, q: str, claim_id: str) -> int:
        """Free the claim's messages at once; returns how many."""

    # -- reading ------------------------------------------------------------------------------------------------

    @abstractmethod
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
        """Up to ``limit`` messages with ``seq`` > ``after`` that have not expired, in that order.

        Callers must not change them: calls of several threads may get the same ones.

        ``not_from`` leaves out one client's messages; hidden ones are shown only on ``claimed`` or ``delayed``;
        ``ring`` as for find_free.
        """

    @abstractmethod
    def get_messages(self, q: str, ids: Sequence[str]) -> list[Message]:
        """Those of the ids that have landed and not expired, in any order."""

    @abstractmethod
    def newest(self, q: str) -> Message | None:
        """The message that landed last, if it has not expired."""

    @abstractmethod
    def stats(self, q: str) -> Stats:
        """Counts of the queue's messages, and the first and last of them by ``seq``."""

    @abstractmethod
    def volume(self) -> Stats:
        """Counts of the messages of all queues; without ``oldest`` and ``newest``."""

    # -- moving to another store --------------------------------------------------------------------------------

    @abstractmethod
    def export(self, q: str, after: int, limit: int, most_bytes: int = MOST_EXPORTED) -> list[Message]:
        """Up to ``limit`` messages with ``seq`` > ``after`` that have not expired, in that order, whatever their state.

        All fields are as they are stored: a claim or delay that is over is still in them. The key may be closed. The
        list ends early, after one message at least, at ``most_bytes`` of bodies and properties. ``land`` without an
        owner keeps all of it in another store.
        """

    @abstractmethod
    def remove(self, q: str, messages: Sequence[Message]) -> set[str]:
        """Delete those of the messages whose claim, hidden_until, claims and expires are still as given.

        Returns the ids of those that are still there, since they have changed; not those that others have deleted.
        """

    @abstractmethod
    def list_tombstones(self, q: str, after: str, limit: int) -> list[tuple[str, int]]:
        """Up to ``limit`` tombstones that still matter, by id, after the id ``after``: id, and time (ms) of their end.

        ``tombstone`` stores them in another store. The key may be closed.
        """

    # -- changing and deleting ----------------------------------------------------------------------------------

    @abstractmethod
    def mark(self, q: str, messages: Sequence[Message]) -> None:
        """Store the ``key`` of encrypted messages; nothing happens to messages that are gone."""

    @abstractmethod
    def delete_unclaimed(self, q: str, ids: Sequence[str], remembered: Mapping[str, int] = NOTHING) -> int:
        """Delete those of the ids that no live claim holds; returns how many.

        Of those in ``remembered`` each one that is deleted leaves a tombstone in the same step, until the time given
        (ms): it may be published a second time, and must not land again.
        """

    @abstractmethod
    def delete_claimed(
        self, q: str, ids: Sequence[str], claims: Sequence[str], remembered: Mapping[str, int] = NOTHING
    ) -> int:
        """Delete those of the ids that one of the given claims holds now; returns how many.

        ``remembered`` as for delete_unclaimed.
        """

    @abstractmethod
    def purge(self, q: str) -> None:
        """Delete all landed messages and the tombstones."""
