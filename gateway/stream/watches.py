"""Watches: who waits for messages of a queue is woken when there may be some, without holding a thread.

By what happens in this process at once (gateway.core.arrivals), else by a bounded look (looks.py). A call may be a
false alarm; no message stays unnoticed for longer than that look takes.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.arrivals import Interest, Key
from gateway.core.core import Core
from gateway.stream.looks import Looks
from gateway.stream.loop import StreamLoop
from gateway.stream.watched import Watch, WatchedQueue


class Watches:
    """One for a Gateway. Everything but the constructor belongs to the loop's thread."""

    def __init__(self, core: Core, streams: StreamLoop):
        self._arrivals = core.arrivals
        self._queues: dict[Key, WatchedQueue] = {}
        self._remembered = core.glances.remembered
        #: Has anybody ever waited?
        self.has_begun = False
        self._looks = Looks(core.glances, streams, self._queues.values())
        core.arrivals.wake = lambda interest: streams.call(self._told, interest)

    def watch(self, project: str, queue: str, woken: Callable[[], None], *, consumes: bool) -> Watch:
        """Have ``woken`` called when messages may be had in a queue, which need not exist, until the watch is closed.

        Look once more after this, or listen before you look (Arrivals.listen) and compare ``told``: what came before is
        not told. Of those who have ``consumes`` (claims, pops) about as many are called as there are messages, first
        those who have waited longest, and each says with ``Watch.looked`` what came of it. All others (lists, feeds)
        are called each time, and once soon after this if the queue is not empty. ``woken`` must not block.

        If looking at the queue fails, ``woken`` is called with the error in ``Watch.error``.
        """
        self.has_begun = True
        key = project, queue
        watched = self._queues.get(key)
        if watched is None:
            watched = self._queues[key] = WatchedQueue(self._arrivals.listen(project, queue), self._ended)
            watched.interest.take()  # from now on it is told
            watched.info = self._remembered(project, queue)
            watch = self._added(watched, woken, consumes)
            self._looks.add(watched)
            return watch
        return self._added(watched, woken, consumes)

    def close(self) -> None:
        """Look no more."""
        self._looks.end()

    @staticmethod
    def _added(watched: WatchedQueue, woken: Callable[[], None], consumes: bool) -> Watch:
        watch = Watch(watched, woken, consumes)
        watched.add(watch)
        return watch

    def _told(self, interest: Interest) -> None:
        watched = self._queues.get(interest.key)
        if watched is not None and watched.told():
            self._looks.hint(watched)

    def _ended(self, watched: WatchedQueue) -> None:
        if self._queues.get(watched.interest.key) is watched:
            del self._queues[watched.interest.key]
            self._arrivals.leave(watched.interest)


__all__ = ["Watch", "Watches"]
