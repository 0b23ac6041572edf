"""Putting messages at the end of a queue, wherever its backlog is."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from bridges.base import Bridge
from gateway.core.envelopes import envelope_of
from gateway.core.queues.info import QueueInfo
from storage.base import SideStore
from storage.model import Message

#: Queues whose newest post this process remembers, for statistics.
REMEMBERED_POSTS = 10_000


class Publishing:
    """The way into a bridge."""

    def __init__(self, bridge: Bridge, store: SideStore):
        self._bridge = bridge
        self._store = store
        self._newest: OrderedDict[str, Message] = OrderedDict()
        self._newest_lock = threading.Lock()

    def publish(self, info: QueueInfo, messages: Sequence[Message]) -> None:
        """Put messages at the end of a queue: into the broker, or without one into the side-store.

        Returns when they are safe there. Raises QueueMissing or QueueGone, and puts nothing anywhere then, when the
        queue was deleted by another gateway or lost by the broker: see Directory.restore.
        """
        if not self._bridge.has_backlog:
            self._store.landed.append(info.key, messages)
            return
        self._bridge.publish(info.broker, [envelope_of(message) for message in messages])
        with self._newest_lock:
            self._newest[info.key] = replace(messages[-1], body=b"")  # statistics show none
            self._newest.move_to_end(info.key)
            if len(self._newest) > REMEMBERED_POSTS:
                self._newest.popitem(last=False)

    def newest(self, info: QueueInfo) -> Message | None:
        """The message of the queue that this process has published last, if it lives."""
        with self._newest_lock:
            message = self._newest.get(info.key)
        return message if message and message.expires > self._store.now() else None

    def forget(self, key: str) -> None:
        """The messages of the queue with this key are gone."""
        with self._newest_lock:
            self._newest.pop(key, None)
