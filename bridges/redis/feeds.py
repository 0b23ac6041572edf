"""What a consumer hands out of which queue, and what of that is not settled yet. It knows nothing of Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Feed:
    """A queue that is handed out, whose stream is ``key``: at most ``most`` unsettled messages at a time.

    ``held``: these by their ids; ``missing``: there was no such stream at the last look; ``removed``: it is handed out
    no more.
    """

    queue: str
    key: str
    most: int
    held: dict[bytes, Tag] = field(default_factory=dict)
    missing: bool = False
    removed: bool = False

    @property
    def room(self) -> int:
        """How many more messages it may get now."""
        return self.most - len(self.held)


@dataclass(frozen=True, eq=False, slots=True)
class Tag:
    """What a delivery is known by. The same message has another one when it comes again."""

    feed: Feed
    entry: bytes


@dataclass(slots=True)
class Ends:
    """What Redis is to be told, by stream: ids settled and given back, and streams of which all goes back."""

    settled: dict[str, list[bytes]]
    returned: dict[str, list[bytes]]
    left: set[str]


class Feeds:
    """The queues of a consumer. Thread-safe: callers add, remove, settle and requeue; one thread does the rest.

    A feed is *due* when its stream may have messages for it that nobody waits for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._feeds: dict[str, Feed] = {}
        self._due: dict[Feed, None] = {}
        self._settled: list[tuple[str, bytes]] = []
        self._returned: dict[str, list[bytes]] = {}
        self._left: set[str] = set()
        self._closed = False

    # -- for callers --------------------------------------------------------------------------------------------

    def add(self, queue: str, key: str, most: int) -> None:
        """Begin to hand out, or change ``most``."""
        with self._lock:
            feed = self._feeds.setdefault(key, Feed(queue, key, most))
            feed.most = most
            self._due[feed] = None

    def remove(self, key: str) -> bool:
        """End it, and give back what is held. False if there is no such feed."""
        with self._lock:
            feed = self._feeds.pop(key, None)
            if feed is None:
                return False
            feed.removed = True
            feed.held.clear()
            self._due.pop(feed, None)
            self._returned.pop(key, None)
            self._left.add(key)
            return True

    def settle(self, tag: Tag) -> bool:
        """Remember that it is settled. False if it is not held any more."""
        with self._lock:
            if not self._release(tag):
                return False
            self._settled.append((tag.feed.key, tag.entry))
            return True

    def requeue(self, tag: Tag) -> bool:
        """Remember that it goes back. False if it is not held any more."""
        with self._lock:
            if not self._release(tag):
                return False
            self._returned.setdefault(tag.feed.key, []).append(tag.entry)
            return True

    def close(self) -> None:
        """Hold nothing more."""
        with self._lock:
            self._closed = True

    def _release(self, tag: Tag) -> bool:
        if tag.feed.held.get(tag.entry) is not tag:
            return False
        del tag.feed.held[tag.entry]
        return True

    # -- for the thread that talks to Redis ---------------------------------------------------------------------

    def begin(self) -> None:
        """A new connection: nothing is held, and everything is due. What was settled before is still to be told."""
        with self._lock:
            self._returned.clear()
            self._left.clear()
            for feed in self._feeds.values():
                feed.held.clear()
                feed.missing = False
            self._due = dict.fromkeys(self._feeds.values())

    def keys(self) -> set[str]:
        """The streams of which something may be held."""
        with self._lock:
            return self._feeds.keys() | self._left

    def hold(self, feed: Feed, entry: bytes) -> Tag | None:
        """A message has come: its tag, or None if it is to be handed out no more."""
        with self._lock:
            if feed.removed or self._closed:
                return None
            feed.held[entry] = tag = Tag(feed, entry)
            return tag

    def ends(self) -> Ends | None:
        """What is to be told; ``told`` says that it was. None if nothing is."""
        with self._lock:
            if not (self._settled or self._returned or self._left):
                return None
            settled: dict[str, list[bytes]] = {}
            for key, entry in self._settled:
                settled.setdefault(key, []).append(entry)
            return Ends(settled, {key: list(entries) for key, entries in self._returned.items()}, set(self._left))

    def told(self, ends: Ends) -> None:
        """Redis knows of these. Where something has gone back, there is something to take."""
        with self._lock:
            del self._settled[:sum(map(len, ends.settled.values()))]
            for key, entries in ends.returned.items():
                left = [entry for entry in self._returned.pop(key, ()) if entry not in entries]
                if left:
                    self._returned[key] = left
                if (feed := self._feeds.get(key)) is not None:
                    self._due[feed] = None
            self._left -= ends.left

    def due(self, feeds: Iterable[Feed]) -> None:
        """There may be more of these."""
        with self._lock:
            self._due.update(dict.fromkeys(feed for feed in feeds if not feed.removed))

    def all_due(self) -> None:
        """Look at all of them."""
        with self._lock:
            self._due.update(dict.fromkeys(self._feeds.values()))

    def is_due(self, feeds: Iterable[Feed] | None = None) -> bool:
        """Is any of these, or any at all, to be looked at now?"""
        with self._lock:
            some = self._due if feeds is None else [feed for feed in feeds if feed in self._due]
            return any(feed.room > 0 and feed.key not in self._left for feed in some)

    def take_due(self, but: Iterable[Feed]) -> dict[Feed, int]:
        """Those that are due and have room, and how much; they are due no more. Not those of which all is to go back
        first, and not those in ``but``."""
        with self._lock:
            others = set(but)
            rooms = {
                feed: feed.room
                for feed in self._due
                if feed.room > 0 and feed.key not in self._left and feed not in others
            }
            for feed in rooms:
                del self._due[feed]
            return rooms

    def waiting(self) -> dict[bytes, Feed]:
        """By key, those that have room and are not due: new messages are to be waited for."""
        with self._lock:
            return {
                feed.key.encode(): feed
                for feed in self._feeds.values()
                if feed.room > 0 and not feed.missing and feed not in self._due
            }

    def holding(self) -> list[str]:
        """The streams of which something is held."""
        with self._lock:
            return [feed.key for feed in self._feeds.values() if feed.held]
