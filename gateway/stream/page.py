"""A page of messages as events, made once for all feeds that get it."""

from __future__ import annotations

from collections.abc import Sequence


class Page:
    """``events`` of messages with the clients that posted them; ``last``: the landing position of the last one.

    ``key``: that of the queue, None if there is none. ``is_end``: was there nothing after it when it was read?
    """

    __slots__ = ("key", "last", "is_end", "_clients", "_events", "_all")

    def __init__(self, key: str | None, events: Sequence[tuple[str, bytes]], last: int, is_end: bool):
        self.key = key
        self.last = last
        self.is_end = is_end
        self._events = events
        self._clients = {client for client, _ in events}
        self._all = b"".join([event for _, event in events])

    def __len__(self) -> int:
        return len(self._events)

    def for_client(self, not_from: str | None) -> tuple[bytes, int]:
        """The events without those of messages that a client has posted, and how many they are."""
        if not_from not in self._clients:
            return self._all, len(self._events)
        left = [event for client, event in self._events if client != not_from]
        return b"".join(left), len(left)
