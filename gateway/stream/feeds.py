"""Live feeds of queues: opened by requests, fed by readers, and ended in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.api.v2.render import path_of
from gateway.core.core import Core
from gateway.environ import HAND_OVER, HANDED_OVER
from gateway.stream.events import message_event
from gateway.stream.feed import DRAINING, SLOW, TOO_MUCH, UNAVAILABLE, Feed
from gateway.stream.lanes import Lanes
from gateway.stream.loop import StreamLoop
from gateway.stream.page import Page
from gateway.stream.reader import Reader
from gateway.stream.watches import Watches
from gateway.stream.wheel import Wheel
from gateway.web.call import Call
from gateway.web.errors import Unready

#: Bytes of pages that clients have not taken yet, of all feeds of a process; beyond, those who wait longest are ended.
MOST_UNSENT = 128 * 1024 * 1024

#: Seconds that the clients have to take the ends of their feeds before the process goes on without them.
PARTING = 3.0

#: Seconds of reading after which a page that is not full need not be the last one: calls of the core stop after some.
LONG = 1.0


class FeedKey(NamedTuple):
    """What feeds have in common that are fed together. ``path``: that of the queue in links."""

    project: str
    queue: str
    path: str
    limit: int
    claimed: bool
    delayed: bool


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """Times of feeds, in seconds: between two signs of life, of a whole feed, and of a client that takes nothing."""

    keep_alive: float
    longest: float
    client_timeout: float

    @classmethod
    def from_options(cls, conf: Any) -> FeedSettings:
        """As configured."""
        return cls(conf.stream.keep_alive, conf.stream.max_feed_seconds, conf.wsgi.client_timeout)


class Feeds:
    """All live feeds of a process. Everything but ``open``, ``drain`` and ``close`` is the loop's thread's."""

    def __init__(self, streams: StreamLoop, watches: Watches, core: Core, settings: FeedSettings, checksum: bool):
        """``checksum``: do messages have one."""
        self.settings = settings
        self.wheel = Wheel(self._look_after_the_slow)
        #: Feeds whose clients have not taken all that was sent.
        self.stalled: set[Feed] = set()
        self._streams = streams
        self._watches = watches
        self._core = core
        self._checksum = checksum
        self._lanes = Lanes(streams)
        self._readers: dict[FeedKey, Reader] = {}
        self._feeds: set[Feed] = set()
        self._is_draining = self._is_used = False
        self._gone = threading.Event()

    # -- what other threads call ----------------------------------------------------------------------------------

    def open(
        self, call: Call, queue: str, head: list[tuple[str, str]], *, marker: str | None, limit: int, echo: bool,
        claimed: bool, delayed: bool,
    ) -> None:
        """See gateway.web.context.Feeds. Raises InvalidInput, Unready, and what reading raises."""
        start = self._core.messages.feed_start(call.project, queue, marker, call.now())
        seconds = min(self.settings.longest, call.identity.expires - time.time())
        key = FeedKey(call.project, queue, path_of(call, queue), limit, claimed, delayed)
        not_from, ends_at = None if echo else call.client, time.monotonic() + seconds
        self._is_used = True

        def take(sock: Any, ahead: bytes, closed: Callable[[], None]) -> None:
            self._streams.take(
                lambda: Feed(self, key, start, not_from, ends_at, head, closed), sock, ahead, closed
            )

        environ = call.request.environ
        if not environ[HAND_OVER](take):
            raise Unready("This gateway has as many feeds and requests that wait as it can take; try again")
        environ[HANDED_OVER] = True

    def drain(self) -> None:
        """End all feeds, also those that begin from now on; does not block."""
        self._is_draining = True
        if self._is_used:
            self._streams.call(self._end_all)

    def close(self) -> None:
        """End all feeds, and wait up to PARTING seconds until their clients have been told."""
        self.drain()
        if self._is_used and not self._gone.wait(PARTING):
            self._streams.call(self._abort_all)

    # -- what feeds call --------------------------------------------------------------------------------------------

    def join(self, feed: Feed) -> None:
        """A feed begins."""
        self._feeds.add(feed)
        self._gone.clear()
        if self._is_draining:
            feed.end(DRAINING)
            return
        reader = self._readers.get(feed.key)
        if reader is None:
            reader = self._readers[feed.key] = Reader(feed.key, feed.pool, self._read, self._lanes, self._forget)
            # Before the first look: what is posted after that wakes the reader.
            reader.watch = self._watches.watch(feed.key.project, feed.key.queue, reader.woken, consumes=False)
        reader.join(feed)
        self.schedule(feed, time.monotonic())

    def part(self, feed: Feed) -> None:
        """A feed is about to end, and wants nothing more."""
        if feed.reader is not None:
            feed.reader.leave(feed)

    def leave(self, feed: Feed) -> None:
        """A feed has ended."""
        self.part(feed)
        self.wheel.remove(feed)
        self.stalled.discard(feed)
        self._feeds.discard(feed)
        if self._is_draining and not self._feeds:
            self._gone.set()

    def schedule(self, feed: Feed, now: float) -> None:
        """Have a feed called when it has to give a sign of life, or to end."""
        self.wheel.set(feed, min(now + self.settings.keep_alive, feed.ends_at))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _forget(self, reader: Reader) -> None:
        for key, known in list(self._readers.items()):
            if known is reader:
                del self._readers[key]

    def _read(self, key: FeedKey, after: int) -> tuple[Page, str]:
        """See Read; a thread calls."""
        start = time.monotonic()
        fed = self._core.messages.feed_page(key.project, key.queue, after, key.limit, key.claimed, key.delayed)
        now = self._core.now()
        events = [(item.client, message_event(key.path, item, now, self._checksum)) for item in fed.messages]
        is_end = len(events) < key.limit and time.monotonic() - start < LONG
        return Page(fed.key, events, fed.messages[-1].seq if events else after, is_end), fed.pool

    def _look_after_the_slow(self, now: float) -> None:
        """End the feeds of clients that take nothing, and of the slowest when too much is kept for all of them."""
        total = 0
        for feed in list(self.stalled):
            unsent = feed.buffered
            if unsent < feed.unsent:
                feed.stalled_since, feed.unsent = now, unsent
            if now - feed.stalled_since > self.settings.client_timeout:
                feed.abort(SLOW)
            else:
                total += unsent
        if total > MOST_UNSENT:
            for feed in sorted(self.stalled, key=lambda feed: feed.stalled_since):
                total -= feed.buffered
                feed.abort(TOO_MUCH)
                if total <= MOST_UNSENT:
                    break

    def _end_all(self) -> None:
        for feed in list(self._feeds):
            feed.end(DRAINING)
        if not self._feeds:
            self._gone.set()

    def _abort_all(self) -> None:
        for feed in list(self._feeds):
            feed.abort(UNAVAILABLE)
