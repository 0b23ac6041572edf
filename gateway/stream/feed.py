"""A live feed: one client's connection, on which messages are sent as events."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from gateway.core.messages.feeding import FeedStart
from gateway.observe import metrics
from gateway.stream.events import KEEP_ALIVE, end_event, head
from gateway.stream.page import Page

if TYPE_CHECKING:  # each knows the other
    from gateway.stream.feeds import FeedKey, Feeds
    from gateway.stream.reader import Reader

#: Seconds that a client has to take the end of a feed.
ENDING = 2.0

#: Bytes that a client may send after its request, all of which are dropped.
MOST_IGNORED = 64 * 1024

#: Reasons for the end of a feed, as its last event and the metric have them.
EXPIRED, DELETED, UNAVAILABLE, REFUSED, DRAINING = "expired", "deleted", "unavailable", "refused", "draining"

#: Reasons that only the metric has: there is nobody to be told.
CLIENT, SLOW, TOO_MUCH = "client", "slow", "too_much"

#: The option of Linux that bounds, in milliseconds, how long what was sent may be without an acknowledgement.
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


class Feed(asyncio.Protocol):
    """Sends the pages that its reader has for it, each when the client has taken the one before.

    It is small, as there may be ten thousand. ``not_from``: the client whose messages it does not show; ``ends_at``:
    monotonic seconds.
    """

    __slots__ = (
        "key", "pool", "position", "not_from", "ends_at", "reader", "turn", "is_paused", "is_ending", "stalled_since",
        "unsent", "_feeds", "_headers", "_closed", "_transport", "_ignored", "_reason",
    )

    def __init__(
        self, feeds: Feeds, key: FeedKey, start: FeedStart, not_from: str | None, ends_at: float,
        headers: list[tuple[str, str]], closed: Callable[[], None],
    ):
        """``closed``: called once the connection has ended."""
        self.key = key
        self.pool = start.pool
        #: The landing position of the last message sent, or where it has begun.
        self.position = start.position
        self.not_from = not_from
        self.ends_at = ends_at
        self.reader: Reader | None = None
        self.turn = 0
        #: Is the client slower than what is sent to it?
        self.is_paused = False
        self.is_ending = False
        #: When the client has last taken something, and what it had left then, in bytes; while it is slow.
        self.stalled_since = 0.0
        self.unsent = 0
        self._feeds = feeds
        self._headers: list[tuple[str, str]] | None = headers
        self._closed: Callable[[], None] | None = closed
        self._transport: asyncio.Transport | None = None
        self._ignored = 0
        self._reason = CLIENT

    # -- what the loop calls ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Whatever the kernel does not take at once pauses the feed, so that no more than a page is kept.
        self._transport.set_write_buffer_limits(high=0)
        self._bound_silence()
        headers, self._headers = self._headers or [], None
        self._write(head(headers))
        metrics.FEEDS.inc()
        self._feeds.join(self)

    def connection_lost(self, exc: Exception | None) -> None:
        closed, self._closed, self._transport = self._closed, None, None
        if closed is None:
            return
        if isinstance(exc, TimeoutError):  # see _bound_silence
            self._reason = SLOW
        metrics.FEEDS.dec()
        metrics.FEED_ENDS.labels(self._reason).inc()
        self._feeds.leave(self)
        closed()

    def eof_received(self) -> bool:
        """The client has ended its side: it is gone."""
        return False

    def data_received(self, data: bytes) -> None:
        """A client has nothing to say after its request."""
        self._ignored += len(data)
        if self._ignored > MOST_IGNORED:
            self.abort(CLIENT)

    def pause_writing(self) -> None:
        """The client is slower than what is sent to it."""
        self.is_paused = True
        self.stalled_since = time.monotonic()
        self.unsent = self.buffered
        self._feeds.stalled.add(self)

    def resume_writing(self) -> None:
        """The client has taken all."""
        self.is_paused = False
        self._feeds.stalled.discard(self)
        if not self.is_ending and self.reader is not None:
            self.reader.want(self)

    def due(self, now: float) -> None:
        """See Timed: keep the connection alive, or end it."""
        if self.is_ending:
            self.abort(self._reason)
        elif now >= self.ends_at:
            self.end(EXPIRED)
        else:
            if not self.is_paused:
                self._write(KEEP_ALIVE)
            self._feeds.schedule(self, now)

    # -- what the reader and the feeds call -----------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        """Bytes that the client has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, page: Page) -> None:
        """Send what of a page is for this feed."""
        data, count = page.for_client(self.not_from)
        self.position = page.last
        if data:
            metrics.FEED_EVENTS.inc(count)
            self._write(data)

    def end(self, reason: str, **more: object) -> None:
        """Tell the client why the feed ends, and end it. The client may open it again where it was."""
        if self.is_ending or self._transport is None:
            return
        self.is_ending, self._reason = True, reason
        self._feeds.part(self)
        self._write(end_event(reason, more, forget=reason == DELETED))
        self._transport.close()
        self._feeds.wheel.set(self, time.monotonic() + ENDING)

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            metrics.FEED_BYTES.inc(len(data))
            self._transport.write(data)

    def _bound_silence(self) -> None:
        """A client whose machine has vanished acknowledges nothing."""
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if _USER_TIMEOUT is None or sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(self._feeds.settings.client_timeout * 1000))
