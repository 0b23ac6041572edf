"""Putting messages at the end of a queue, wherever its backlog is."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from bridges.base import Bridge
from bridges.errors import QueueMissing
from gateway.core.envelopes import envelope_of
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.remembering import KNOWN_FOR
from storage.base import SideStore
from storage.model import Message

#: Queues whose newest post this process remembers, for statistics.
REMEMBERED_POSTS = 10_000

#: Seconds from when a queue was looked for till a publish to it must be confirmed. Later the queue may have left its
#: pool, and the broker's queue may have been emptied for the last time and deleted.
ON_TIME = KNOWN_FOR + 0.3


class Publishing:
    """The way into a bridge. ``is_elsewhere`` asks the catalogue whether a queue has left the pool."""

    def __init__(self, bridge: Bridge, store: SideStore, is_elsewhere: Callable[[QueueInfo], bool]):
        self._bridge = bridge
        self._store = store
        self._is_elsewhere = is_elsewhere
        self._newest: OrderedDict[str, Message] = OrderedDict()
        self._newest_lock = threading.Lock()

    def publish(self, info: QueueInfo, messages: Sequence[Message]) -> None:
        """Put messages at the end of a queue: into the broker, or without one into the side-store.

        The same write puts them into the delivery queues of subscriptions. Returns when all are safe. Raises
        QueueMissing or QueueGone when the queue was deleted by another gateway, lost by the broker, or has moved to
        another pool: see Directory.restore. Nobody reads then what may have been put anywhere, and the caller may
        publish the same messages there.
        """
        if not self._bridge.has_backlog:
            land(self._store, info, messages)
            _tell(info, messages)
            return
        envelopes = [envelope_of(message) for message in messages]
        if info.is_topic:
            self._bridge.publish_copies(info.broker, envelopes)
            _tell(info, messages)
            return
        if info.notifies:
            self._bridge.publish(info.broker, envelopes, copied=True)
        else:
            self._bridge.publish(info.broker, envelopes)
        if time.monotonic() - info.read_at > ON_TIME and self._is_elsewhere(info):
            raise QueueMissing(f"queue {info.name} has moved to another pool")
        with self._newest_lock:
            self._newest[info.key] = replace(messages[-1], body=b"")  # statistics show none
            self._newest.move_to_end(info.key)
            if len(self._newest) > REMEMBERED_POSTS:
                self._newest.popitem(last=False)
        _tell(info, messages)

    def newest(self, info: QueueInfo) -> Message | None:
        """The message of the queue that this process has published last, if it lives."""
        with self._newest_lock:
            message = self._newest.get(info.key)
        return message if message and message.expires > self._store.now() else None

    def forget(self, key: str) -> None:
        """The messages of the queue with this key are gone."""
        with self._newest_lock:
            self._newest.pop(key, None)


def _tell(info: QueueInfo, messages: Sequence[Message]) -> None:
    """Tell those who wait of messages that are safe now."""
    arrivals = info.pool.arrivals
    if arrivals.is_idle:
        return
    if not info.is_topic:
        parts = {message.group for message in messages} if info.settings.fifo else messages
        arrivals.tell(info.project, info.name, len(parts))
    if info.notifies or info.is_topic:
        arrivals.tell_copied(info.project)


def land(store: SideStore, info: QueueInfo, messages: Sequence[Message]) -> None:
    """Put messages into the side-store: for a queue and its subscriptions, or for the subscriptions of a topic alone.

    Raises QueueGone.
    """
    store.landed.append(info.key, messages)
    if info.is_topic:  # nobody reads there: what a crash leaves goes with its TTL
        store.landed.delete_unclaimed(info.key, [message.id for message in messages])
