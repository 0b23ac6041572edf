"""Glances: may messages of a queue be had? They move nothing, so they may be wrong; whoever claims will know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.queues.info import QueueInfo
from gateway.core.queues.known import KnownQueues


class Landed(NamedTuple):
    """What has landed of a queue: is any of it free, is any hidden, and the position of the last message (0: none)."""

    is_free: bool
    is_hidden: bool = False
    last: int = 0


class Glances:
    """Looks at queues for those who wait. The methods block for the time of one or two calls."""

    def __init__(self, known: KnownQueues):
        #: The queue if this process has found it a moment ago, else None; it does not block.
        self.remembered = known.remembered
        self._known = known

    def in_broker(self, project: str, name: str) -> tuple[QueueInfo | None, int]:
        """The queue, None if there is none, and about how many messages wait for it in the broker.

        Raises what finding the queue and asking the broker raise.
        """
        info = self._known.find(project, name)
        if info is None or not info.reads.has_backlog:
            return info, 0
        return info, info.bridge.depth(info.broker)

    @staticmethod
    def landed(infos: Sequence[QueueInfo], with_edges: bool) -> dict[str, Landed]:
        """By key, what has landed of up to some hundred queues whose messages are in the same side-store.

        ``with_edges``: what is hidden and which message is the last, too; it takes a call more. Raises StoreError and
        Busy.
        """
        landed = infos[0].pool.store.landed
        keys = [info.key for info in infos]
        free = set(landed.ready(keys))
        if not with_edges:
            return {key: Landed(key in free) for key in keys}
        edges, now = landed.edges(keys), infos[0].pool.store.now()
        return {
            key: Landed(key in free, hidden_until > now, last)
            for key in keys
            for last, hidden_until in (edges.get(key, (0, 0)),)
        }
