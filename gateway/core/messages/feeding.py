"""Live feeds of messages: where they begin, and their pages. A feed is a list that does not end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.errors import InvalidInput
from gateway.core.messages.markers import MARKER, MAX_POSITION, position_of
from gateway.core.messages.reading import Reading
from gateway.core.queues.directory import Directory
from gateway.core.queues.info import QueueInfo, Reads
from storage.model import TAG_BITS, Message

#: Milliseconds by which a marker may be ahead of the time: clocks of machines are set back now and then.
AHEAD = 86_400_000


class FedPage(NamedTuple):
    """A page of a feed, and the queue that it is of: its ``key``, None if there is none, and the name of its pool."""

    messages: Sequence[Message]
    key: str | None
    pool: str


class FeedStart(NamedTuple):
    """The landing ``position`` after which a feed begins, and the name of its queue's pool, empty without a queue."""

    position: int
    pool: str


class Feeding:
    """Reads queues for feeds."""

    def __init__(self, directory: Directory, reading: Reading):
        self._directory = directory
        self._reading = reading

    def start(self, project: str, queue: str, marker: str | None, now: int) -> FeedStart:
        """Where a feed begins. ``now``: the side-store's time, in ms.

        Raises InvalidInput for a marker that no list or feed of this queue has given, and for a queue without feeds.
        """
        found = self._directory.on(project, queue, lambda info: _start(info, marker))
        if found is None and (marker is None or MARKER.match(marker)):  # the queue does not exist yet
            found = FeedStart(int(marker or 0), "")
        if found is None or found.position > min((now + AHEAD) * 1000 << TAG_BITS, MAX_POSITION):
            raise InvalidInput(f"The marker is none of queue {queue}, and no message has it as its id")
        return found

    def page(self, project: str, queue: str, after: int, limit: int, claimed: bool, delayed: bool) -> FedPage:
        """Up to ``limit`` messages after a position, those of all clients; see Reading.list."""
        seen: list[QueueInfo] = []

        def read(info: QueueInfo) -> Sequence[Message]:
            _check(info)
            seen.append(info)
            return self._reading.list(info, str(after), limit, None, claimed, delayed)

        found = self._directory.on(project, queue, read)
        if found is None:
            return FedPage((), None, "")
        return FedPage(found, seen[-1].key, seen[-1].pool.name)


def _check(info: QueueInfo) -> None:
    if info.reads is Reads.FOREIGN_QUEUE_PEEKED:
        raise InvalidInput(
            f"Queue {info.name} has no feeds: its messages are only looked at, and stay in the broker without a place"
        )


def _start(info: QueueInfo, marker: str | None) -> FeedStart | None:
    _check(info)
    position = position_of(info, marker)
    return None if position is None else FeedStart(position, info.pool.name)
