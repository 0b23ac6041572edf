"""Reads a queue for all feeds that show the same of it: those at the same place share what is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.core.errors import Busy, CoreError
from gateway.stream.feed import DELETED, REFUSED, UNAVAILABLE, Feed
from gateway.stream.lanes import Lanes
from gateway.stream.page import Page
from gateway.stream.watches import Watch
from gateway.web.errors import answer

if TYPE_CHECKING:  # each knows the other
    from gateway.stream.feeds import FeedKey

#: Seconds for which a queue that can't be read is tried, before its feeds end.
TRYING = 5.0

#: Seconds between two tries, at first and at most.
PAUSES = 0.1, 1.0

#: Reads a page after a position: the page, and the name of the pool that it is from. Blocks. Raises what calls raise.
Read = Callable[["FeedKey", int], tuple[Page, str]]


class Reader:
    """The feeds of a queue with the same parameters. All of it is the loop's thread's, but for what reads.

    One page is read at a time. Feeds that want one wait in line by their positions, so one that has far to go does not
    keep the others from what is new.
    """

    def __init__(self, key: FeedKey, pool: str, read: Read, lanes: Lanes, empty: Callable[[Reader], None]):
        """``pool``: name of the queue's pool, empty if there is no queue. ``empty``: called when no feed is left."""
        self.feeds: set[Feed] = set()
        self.watch: Watch | None = None
        self._key = key
        self._read = read
        self._lanes = lanes
        self._empty = empty
        #: Feeds that want a page, by their positions, in the order in which the positions were first wanted.
        self._hungry: dict[int, set[Feed]] = {}
        self._reading = False
        #: How often it was woken: feeds at the end of the queue as it was before must look again.
        self._wakes = 0
        self._queue_key: str | None = None
        self._pool = pool
        self._failing_since: float | None = None
        self._pause = PAUSES[0]

    def join(self, feed: Feed) -> None:
        """Feed it, from its position on."""
        self.feeds.add(feed)
        feed.reader = self
        self.want(feed)

    def leave(self, feed: Feed) -> None:
        """Feed it no more."""
        self.feeds.discard(feed)
        feed.reader = None
        together = self._hungry.get(feed.position)
        if together is not None:
            together.discard(feed)
            if not together:
                del self._hungry[feed.position]
        if not self.feeds:
            if self.watch is not None:
                self.watch.close()
            self._empty(self)

    def woken(self) -> None:
        """There may be messages that no feed has seen."""
        self._wakes += 1
        for feed in self.feeds:
            self.want(feed)

    def want(self, feed: Feed) -> None:
        """Give a feed the next page, unless its client has not taken the one before."""
        if not feed.is_paused:
            self._hungry.setdefault(feed.position, set()).add(feed)
            self._go_on()

    def _go_on(self) -> None:
        if not self._reading and self._hungry:
            self._reading = True
            position = next(iter(self._hungry))
            self._lanes.do(self._pool, partial(self._try, position), partial(self._done, position, self._wakes))

    def _try(self, position: int) -> tuple[Page, str] | Exception:
        """What comes of reading; a thread calls."""
        try:
            return self._read(self._key, position)
        except Exception as error:
            return error

    def _done(self, position: int, wakes: int, result: tuple[Page, str] | Exception) -> None:
        self._reading = False
        if isinstance(result, Exception):
            self._failed(result)
            return
        self._failing_since, self._pause = None, PAUSES[0]
        page, self._pool = result
        if self._queue_key is not None and page.key != self._queue_key:
            self.end(DELETED)
            return
        self._queue_key = page.key
        if self.watch is not None:
            self.watch.looked(len(page) > 0)
        feeds = self._hungry.pop(position, set())
        for feed in feeds:
            if feed.is_paused:
                continue
            if len(page):
                feed.send(page)
            if not page.is_end or wakes != self._wakes:
                self.want(feed)
        self._go_on()

    def _failed(self, error: Exception) -> None:
        """Try again for a while, unless that is of no use; then tell the feeds why there is nothing more."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        is_passing = isinstance(error, Busy) or not isinstance(error, CoreError)
        if is_passing and now - self._failing_since < TRYING:
            self._reading = True  # meanwhile nobody else tries
            asyncio.get_running_loop().call_later(self._pause, self._try_again)
            self._pause = min(2 * self._pause, PAUSES[1])
            return
        status, document, _ = answer(error)
        self.end(REFUSED if status < 500 else UNAVAILABLE, **document)

    def _try_again(self) -> None:
        self._reading = False
        self._go_on()

    def end(self, reason: str, **more: Any) -> None:
        """End all feeds."""
        for feed in list(self.feeds):
            feed.end(reason, **more)
