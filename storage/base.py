"""The side-store interface: what every driver keeps for the gateway.

A *queue key* (``q`` everywhere) is ``"<project>/<queue>"``; a queue name holds no slash, so the last one splits it.
Times are integers of milliseconds since the epoch on the side-store's own clock (:meth:`SideStore.now`), so that
several gateways agree on what has expired even when their own clocks do not. Sequence numbers (``seq``) are landing
positions, see :func:`number`.
"""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import uuid4

from storage.errors import LeaseLost, StoreUnavailable, Unstorable

#: Bits of a landing position that tell apart those who land in the same microsecond.
TAG_BITS = 10

#: Seconds between two tries to get a lease that another gateway holds: shorter than one landing takes.
LEASE_RETRY = 0.005

#: Seconds for which a queue that was seen counts as there: whoever deletes it lets nobody make it anew meanwhile.
SEEN_FOR = 0.1

#: Bytes of metadata that a list of queues reads at once.
MOST_METADATA = 2 * 1024 * 1024

#: Seconds that a lease outlives the operation it covers, so that a slow answer is not taken for a dead holder.
LEASE_MARGIN = 3.0


@dataclass(slots=True)
class Message:
    """A landed message.

    ``posted``, ``expires`` and ``hidden_until`` are milliseconds; ``hidden_until`` 0 means free. A message that is
    hidden and has a ``claim`` is claimed, one without is delayed. ``claim_ttl`` is in seconds. ``properties``: those of
    a foreign message, where they are wanted, as a JSON object. ``key``: what an ``encrypted`` body is sealed with, as
    far as that is known: the id of a key, and behind it ``?`` and the id of each ring that could not open it. Both
    parts may be missing.
    """

    id: str
    posted: int
    expires: int
    body: bytes
    client: str = ""
    encrypted: bool = False
    seq: int = 0
    hidden_until: int = 0
    claim: str | None = None
    claim_ttl: int = 0
    claims: int = 0
    properties: bytes | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys that a gateway has: ``id`` of all of them together, and the id of each.

    Ids of keys have 16 characters, the first is a ``k``; ids of rings have 8. Neither has a ``?``.
    """

    id: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """A right to some messages: ``ttl`` seconds long, over at ``expires``; its messages live till ``keep_until``."""

    id: str
    ttl: int
    expires: int
    keep_until: int


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's document. ``version`` grows with every change of ``metadata`` (a JSON object as bytes).

    ``key`` is what its messages are kept under. A queue that is deleted and created again has another key, so that
    what was on its way to the old one can't land in the new one.
    """

    name: str
    metadata: bytes
    version: int
    key: str


@dataclass(frozen=True, slots=True)
class Stats:
    """What has landed of a queue and lives."""

    free: int = 0
    claimed: int = 0
    delayed: int = 0
    oldest: Message | None = None
    newest: Message | None = None


class SideStore(ABC):
    """Base class of side-stores. All methods are thread-safe and raise :class:`StoreUnavailable` within ``timeout``.

    Methods about queues take a queue's name as ``<project>/<name>``; those about landing, messages and claims take the
    ``key`` of its document.

    A driver is made from a URI and its options (an object with one attribute for each of :attr:`OPTS`, an oslo.config
    group in the service) and must not need the server to be up at that moment: it connects on first use.
    """

    #: oslo.config options that this driver adds to the ``[side_store]`` section.
    OPTS: ClassVar[Sequence[Any]] = ()

    #: Seconds that one call may take.
    timeout: float = 5.0

    # -- life ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def ping(self) -> None:
        """Return when the side-store can serve writes; raise StoreUnavailable otherwise."""

    @abstractmethod
    def close(self) -> None:
        """Give all connections back. The object is not used afterwards."""

    @abstractmethod
    def now(self) -> int:
        """Milliseconds since the epoch on the clock that all users of this side-store share. Never blocks."""

    def maintain(self) -> int:
        """Housekeeping, called about once a minute by every gateway; returns the number of messages removed."""
        return 0

    def connections(self) -> int:
        """Connections open now, for the metrics."""
        return 0

    def prepare(self) -> None:
        """Called once at the start. Raises StoreMisconfigured for what can't get better by itself."""
        return None

    def describe(self) -> str:
        """Where the data are, for the operator: of the URI what is no secret."""
        return ""

    # -- queues -------------------------------------------------------------------------------------------------

    @abstractmethod
    def lock(self, name: str, owner: str, seconds: float) -> int | None:
        """Take a lock that all gateways share, for so long at most; None if somebody else holds it.

        Returns when it was last given up (ms since the epoch), as far as that is still known; else 0.
        """

    @abstractmethod
    def unlock(self, name: str, owner: str, after: float = 0.0) -> None:
        """Give the lock up in ``after`` seconds if ``owner`` still holds it."""

    @abstractmethod
    def create_queue(self, q: str, metadata: bytes | None) -> bool:
        """Make the queue's document; True if it is new. An existing one gets ``metadata`` unless that is None.

        Messages can land under its key from now on, also if something had kept them from that.
        """

    @abstractmethod
    def get_queue(self, q: str) -> Queue | None:
        """The queue's document."""

    @abstractmethod
    def replace_metadata(self, q: str, metadata: bytes, version: int) -> bool:
        """Store new metadata if the document still has ``version``; False if not."""

    @abstractmethod
    def delete_queue(self, q: str) -> None:
        """Remove the document and all that has landed. What is on its way can't land any more."""

    @abstractmethod
    def list_queues(
        self, project: str, after: str, limit: int, part: str = "", most_bytes: int = MOST_METADATA
    ) -> list[Queue]:
        """At most ``limit`` queues of a project by name, behind the name ``after``. ``part`` as for count_queues.

        Ends early, after one queue at least, when they have ``most_bytes`` of metadata: no more is held in memory.
        """

    @abstractmethod
    def list_names(self, project: str, after: str, limit: int, part: str = "") -> list[str]:
        """As list_queues, the names alone: no metadata is read. ``part`` as for count_queues."""

    @abstractmethod
    def count_queues(self, project: str, part: str = "") -> int:
        """Number of the project's queues with ``part``, of letters that queue names are made of, in their name."""

    @abstractmethod
    def queue_keys(self, after: str, limit: int) -> list[str]:
        """At most ``limit`` keys of queues of all projects, in order, after the key ``after``."""

    # -- queues that read from an exchange of others -------------------------------------------------------------

    @abstractmethod
    def mark_bridged(self, q: str) -> str:
        """Have list_bridged show the queue, with the new mark that is returned."""

    @abstractmethod
    def list_bridged(self, after: str, limit: int) -> list[tuple[str, str]]:
        """At most ``limit`` marked queues with their marks, by queue key, behind the key ``after``."""

    @abstractmethod
    def unmark_bridged(self, q: str, mark: str) -> None:
        """Have list_bridged not show the queue any more, if it still has this mark."""

    # -- landing ------------------------------------------------------------------------------------------------

    @abstractmethod
    def acquire_lease(self, q: str, owner: str, seconds: float) -> int | None:
        """Take the queue's landing lease; the last ``seq`` in use, or None if somebody else holds the lease.

        Raises QueueGone.
        """

    @abstractmethod
    def renew_lease(self, q: str, owner: str, seconds: float) -> bool:
        """Let the lease last so long from now if ``owner`` still holds it; False if not."""

    @abstractmethod
    def release_lease(self, q: str, owner: str, last: int) -> None:
        """Give the lease back if ``owner`` still holds it, and record the last ``seq`` used."""

    @abstractmethod
    def land(
        self, q: str, messages: Sequence[Message], owner: str | None = None, seen: float | None = None
    ) -> set[str]:
        """Store messages durably with the ``seq`` they carry; the ids that were left out.

        Left out are ids that have landed before and ids with a tombstone: both are safe to acknowledge to the broker.
        Raises QueueGone if the queue has been deleted, and LeaseLost unless ``owner``, if given, holds the landing
        lease at the moment of the write: positions that were taken under a lease that is over must not appear. Raises
        Unstorable if one of them can never be stored; the others may be stored then, or not.

        ``seen``: when the caller began to look for the queue and found it (monotonic seconds), before it took these
        messages from it. For SEEN_FOR seconds from then on a store may leave out to look again.
        """

    def append(self, q: str, messages: Sequence[Message]) -> None:
        """Land new messages at the end of the queue, in the order given; sets their ``seq``.

        Whoever reads by ``seq`` sees them appear in that order, whatever number of gateways append at once. Raises
        QueueGone.
        """
        owner = uuid4().hex
        deadline = time.monotonic() + self.timeout
        while True:
            while (last := self.acquire_lease(q, owner, self.timeout + LEASE_MARGIN)) is None:
                if time.monotonic() > deadline:
                    raise StoreUnavailable("another gateway has held the queue's landing lease for too long")
                time.sleep(LEASE_RETRY)
            last = number(messages, last, self.now())
            try:
                # If this fails the write may still happen: nobody else lands before the lease is over.
                self.land(q, messages, owner)
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
    def free(self, q: str, limit: int, ring: Ring | None = None) -> tuple[list[Message], bool]:
        """The oldest free messages, and whether somebody holds the landing lease now.

        Messages whose claim or delay is over are put back among the free ones first. When ``limit`` messages are
        found the second value may be False without having been looked up: the backlog is not needed then. Raises
        QueueGone when there are fewer because the queue has been deleted.

        ``ring`` leaves out the encrypted messages that its keys don't open, as far as their ``key`` tells: it is that
        of another key, or names the ring.
        """

    @abstractmethod
    def claim(self, q: str, messages: Sequence[Message], claim: Claim) -> list[Message]:
        """Claim those of the given free messages that nobody else has taken meanwhile; returned as they are now."""

    # -- reading and deleting -----------------------------------------------------------------------------------

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
        """At most ``limit`` living messages with ``seq`` > ``after``, in that order. Not to be changed: calls of
        several threads may get the same ones.

        ``not_from`` leaves out one client's messages; hidden ones are shown only on ``claimed`` or ``delayed``;
        ``ring`` is that of free.
        """

    @abstractmethod
    def get_messages(self, q: str, ids: Sequence[str]) -> list[Message]:
        """Those of the ids that have landed and live, in no certain order."""

    @abstractmethod
    def known(self, q: str, ids: Sequence[str]) -> set[str]:
        """Those of the ids that land would leave out: they have landed, or have a tombstone. Raises QueueGone."""

    @abstractmethod
    def mark(self, q: str, messages: Sequence[Message]) -> None:
        """Store the ``key`` of encrypted messages; nothing happens to those that are gone."""

    @abstractmethod
    def newest(self, q: str) -> Message | None:
        """The message that landed last, if it lives."""

    @abstractmethod
    def delete_unclaimed(self, q: str, ids: Sequence[str]) -> int:
        """Delete those of the ids that no live claim holds; how many."""

    @abstractmethod
    def delete_claimed(self, q: str, ids: Sequence[str], claims: Sequence[str]) -> int:
        """Delete those of the ids that one of the given claims holds now; how many."""

    @abstractmethod
    def tombstone(self, q: str, expires: Mapping[str, int]) -> set[str]:
        """Record ids (with the time till which it matters) whose landing is to be a no-op.

        Returns the ids that have landed meanwhile and so got none: delete those.
        """

    @abstractmethod
    def volume(self) -> Stats:
        """Counts of living messages of all queues; without ``oldest`` and ``newest``."""

    @abstractmethod
    def purge(self, q: str) -> None:
        """Delete all that has landed, and the tombstones."""

    @abstractmethod
    def stats(self, q: str) -> Stats:
        """Counts of living messages, and the first and last of them by ``seq``."""

    # -- claims -------------------------------------------------------------------------------------------------

    @abstractmethod
    def get_claim(self, q: str, claim_id: str) -> list[Message]:
        """The messages that a live claim holds, oldest first; empty when there is no such claim."""

    @abstractmethod
    def renew_claim(self, q: str, claim: Claim) -> bool:
        """Let a live claim run anew with the given ttl and times; False when there is no such claim."""

    @abstractmethod
    def release_claim(self, q: str, claim_id: str) -> int:
        """Free the claim's messages at once; how many."""


def number(messages: Iterable[Message], last: int, now: int, tag: int = 0) -> int:
    """Give messages their landing positions behind ``last``, at time ``now`` (ms); returns the last one used.

    A position is a microsecond in the upper bits and ``tag`` in the lower TAG_BITS. Whoever holds the lease has tag 0;
    claimers, who work at the same moment without one, each have their own, so that no two positions are alike.
    """
    position = max(now * 1000, (last >> TAG_BITS) + 1)
    for message in messages:
        message.seq = last = position << TAG_BITS | tag
        position += 1
    return last


def within_bytes(queues: Iterable[Queue], most: int) -> list[Queue]:
    """The first of the queues: one at least, and no more once their metadata has ``most`` bytes."""
    taken: list[Queue] = []
    size = 0
    for queue in queues:
        size += len(queue.metadata)
        if taken and size > most:
            break
        taken.append(queue)
    return taken


def split_name(q: str) -> tuple[str, str]:
    """Project and queue of ``<project>/<name>``."""
    project, _, name = q.rpartition("/")
    return project, name


def new_incarnation(now: int) -> str:
    """What tells a queue from one of the same name that was deleted before; ``now`` in ms."""
    return f"{now:x}{secrets.token_hex(4)}"


def message_key(q: str, incarnation: str) -> str:
    """The key of a queue's messages; queues of earlier versions of the gateway have no incarnation."""
    return f"{q}/{incarnation}" if incarnation else q
