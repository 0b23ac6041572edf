"""Readers of live feeds under faults: each follows a queue, and opens its feed again wherever it has been cut off."""

from __future__ import annotations

import contextlib
from typing import Any

from functional.faults.clients import RETRY_PAUSE, Client, seen_in
from functional.faults.history import LIST, Call, Seen
from functional.feed_client import Event, FeedClient

#: Seconds between two signs of life of a feed in a run, and seconds of silence after which a client gives it up.
KEEP_ALIVE = 1.0
SILENCE = 8.0

#: Seconds before an event arrives within which a gateway has read its message.
READ_BEFORE = 1.0


class Follower(Client):
    """Has a feed all the time, and does not lose its place. What it is told is recorded as the walk of a lister.

    Each event is a list of one message, a comment one of none: when nothing more is posted, a comment says that all has
    been seen. An end without an event that says so is a call without an answer.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last: str | None = None

    def turn(self) -> None:
        opened = self.history.now()
        headers = {
            "Client-ID": self._api.client_id, "X-Project-ID": self._api.project, "Accept": "text/event-stream",
        } | ({"Last-Event-ID": self._last} if self._last else {})
        port = self._gateways[0].port
        try:
            feed = FeedClient(port, f"{self._path}/messages?echo=true", headers, timeout=SILENCE)
            with contextlib.closing(feed):
                self._follow(feed, opened)
        except (OSError, EOFError) as error:
            self._record(opened, None, error=f"{type(error).__name__}: {error}"[:200])
        if not self.stop.is_set():
            self._go_to_next()
            self.stop.wait(RETRY_PAUSE)

    def _follow(self, feed: FeedClient, opened: float) -> None:
        """Read events until the feed ends with one that says so."""
        if feed.status != 200:
            self._record(opened, feed.status, error=str(feed.json())[:300])
            return
        while not self.stop.is_set():
            event = feed.next_or_comment()
            now = self.history.now()
            if event is None:
                self._record(now, 200)
            elif event.name == "message":
                self._record(max(opened, now - READ_BEFORE), 200, seen_in([event.value]))
                self._last = event.id
            else:
                self._record(now, _status(event), error=event.data[:300])
                return

    def _record(self, invoked: float, status: int | None, seen: list[Seen] | None = None, **more: Any) -> None:
        call = Call(LIST, self.name, self._gateways[0].name, self.queue, invoked, walk=self.name, **more)
        call.returned, call.status, call.seen = self.history.now(), status, seen or []
        self.history.add(call)


def _status(event: Event) -> int:
    """What a list would have been answered where a feed ends so."""
    return 503 if event.name == "end" and event.value["reason"] in ("draining", "unavailable", "expired") else 500
