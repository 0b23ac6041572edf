"""What side-stores keep: messages, claims and queues, and how they are keyed, numbered and limited.

A *queue key* (``q`` in drivers) is what the messages of a queue are kept under, see :class:`Queue`. A queue's *name*
is ``"<project>/<queue>"``; the name of a queue has no slash, so the last slash separates the two parts.
Times are integers, in milliseconds since the epoch on the side-store's own clock (:meth:`storage.base.SideStore.now`),
so that several gateways agree on what has expired even when their own clocks differ.
Sequence numbers (``seq``) are landing positions, see :func:`number`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

T = TypeVar("T")

#: The pool that queues are in unless another one is named.
DEFAULT_POOL = "default"

#: How many bits of a landing position tell apart gateways that land messages in the same microsecond.
TAG_BITS = 10

#: How many bytes of metadata one page of a list of queues reads.
MOST_METADATA = 2 * 1024 * 1024

#: Bytes of bodies and properties that an export reads at once.
MOST_EXPORTED = 8 * 1024 * 1024


class Clock(Protocol):
    """What tells the time; a side-store is the clock of its parts."""

    def now(self) -> int:
        """Milliseconds since the epoch. Never blocks."""


@dataclass(slots=True)
class Message:
    """A landed message.

    ``posted``, ``expires`` and ``hidden_until`` are in milliseconds; ``hidden_until`` 0 means free. A hidden message
    with a ``claim`` is claimed, a hidden one without is delayed. ``claim_ttl`` is in seconds. ``properties`` are those
    of a foreign message, where they are kept, as a JSON object. ``key`` says which key an ``encrypted`` body is sealed
    with, as far as that is known: the id of a key, then ``?`` and the id of each ring that could not open the message.
    Both parts may be missing. ``group`` and ``dedup_id`` are those of a message in a FIFO queue; all messages without
    a group are in the same one.
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
    group: str = ""
    dedup_id: str = ""


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys that a gateway has: ``id`` of all of them together, and the id of each.

    The id of a key has 16 characters, the first is a ``k``; the id of a ring has 8. Neither contains a ``?``.
    """

    id: str
    keys: tuple[str, ...]

    def leaves_out(self, key: str) -> bool:
        """Does the ``key`` of an encrypted message say that none of these keys opens it?"""
        return (key.startswith("k") and not key.startswith(self.keys)) or f"?{self.id}" in key


@dataclass(frozen=True, slots=True)
class Claim:
    """A right to some messages. It lasts ``ttl`` seconds, until ``expires`` (ms).

    Its messages live until ``keep_until`` (ms) at least.
    """

    id: str
    ttl: int
    expires: int
    keep_until: int


@dataclass(frozen=True, slots=True)
class InGroups:
    """Messages of a FIFO queue that may be claimed, by position, and what holds the others up.

    ``blocked`` is the number of groups with a live claim or a delay, ``blocked_since`` the start (ms) of the earliest
    of these claims and delays; 0 if there is none. ``stops`` has the groups that must not be handed out to their end,
    each with the position from which on it must not; 0 stops all of it.
    """

    messages: list[Message]
    blocked: int = 0
    blocked_since: int = 0
    stops: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's document. ``version`` grows with every change of ``metadata`` (a JSON object as bytes).

    ``key`` is what its messages are kept under. A queue that is deleted and created again has another key, so that
    messages on their way to the old queue can't land in the new one.

    ``pool`` is the name of the pool that it is in. ``move`` is what is recorded of its way to another pool, a JSON
    object; None if it stays where it is. Stores only compare it.

    ``notifies``: it has subscriptions, so that what is posted has to be copied; see Catalogue.set_notifies.
    """

    name: str
    metadata: bytes
    version: int
    key: str
    pool: str = DEFAULT_POOL
    move: bytes | None = None
    notifies: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A small document of some kind, such as a pool. Each change gives it a ``version`` that it never had before."""

    name: str
    data: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Numbers of landed messages that have not expired, by state, and the first and the last of them."""

    free: int = 0
    claimed: int = 0
    delayed: int = 0
    oldest: Message | None = None
    newest: Message | None = None


def number(messages: Iterable[Message], last: int, now: int, tag: int = 0) -> int:
    """Give messages their landing positions after ``last``, at time ``now`` (ms); returns the last position used.

    A position has a microsecond in the upper bits and ``tag`` in the lower TAG_BITS. The holder of the landing lease
    has tag 0; claimers, who work at the same time without the lease, have a tag each, so that positions are unique.
    """
    position = max(now * 1000, (last >> TAG_BITS) + 1)
    for message in messages:
        message.seq = last = position << TAG_BITS | tag
        position += 1
    return last


def within_bytes(items: Iterable[T], most: int, size_of: Callable[[T], int]) -> list[T]:
    """The first item, and the following ones while all of them together have up to ``most`` bytes."""
    taken: list[T] = []
    size = 0
    for item in items:
        size += size_of(item)
        if taken and size > most:
            break
        taken.append(item)
    return taken


def metadata_size(queue: Queue) -> int:
    """Bytes that a list of queues counts for a queue."""
    return len(queue.metadata)


def content_size(message: Message) -> int:
    """Bytes that an export counts for a message."""
    return len(message.body) + len(message.properties or b"")


def new_version() -> int:
    """A version of a record. It is random, so that no version of a deleted record is used again, and never 0."""
    return secrets.randbelow(2**62) + 1


def split_name(q: str) -> tuple[str, str]:
    """Project and queue of ``<project>/<queue>``."""
    project, _, name = q.rpartition("/")
    return project, name


def new_incarnation(now: int) -> str:
    """A part of the key that distinguishes a queue from deleted ones of the same name; ``now`` in ms."""
    return f"{now:x}{secrets.token_hex(4)}"


def message_key(q: str, incarnation: str) -> str:
    """The key of a queue's messages; queues of earlier versions of the gateway have no incarnation."""
    return f"{q}/{incarnation}" if incarnation else q
