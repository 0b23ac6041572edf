"""Finds free messages: claimers of a process that search a queue at the same moment get different ones, by one search.

If each searched alone, all would find the same oldest messages, one would get them, and the others would search again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from gateway.core.queues.info import QueueInfo
from gateway.core.sealing import Sealing
from storage.combining import Combiner, WaitedTooLong
from storage.model import Message

#: Claimers that share a search, and no more.
TOGETHER = 16

#: Seconds that a claimer waits for its turn to search. A search takes some milliseconds; if the side-store hangs, those
#: who wait here would hold threads of which the pool's guard knows nothing.
WAIT = 0.1

#: Queues of which is remembered that they have free messages.
QUEUES_REMEMBERED = 10_000

#: What is being claimed of most queues.
NO_IDS: frozenset[str] = frozenset()


class Found(NamedTuple):
    """What a claimer has found: ``free`` messages that no other claimer of this process is just claiming.

    ``leased``: was the landing lease held, see LandedStore.find_free; ``began``: when the search began (monotonic
    seconds).
    """

    free: list[Message]
    leased: bool
    began: float


class FreeMessages:
    """The free messages of a pool's queues, for claimers. Thread-safe.

    Claimers share searches of a queue while there are free messages. In a queue with a broker there are none, usually,
    and nobody has to wait for the search of somebody else.
    """

    def __init__(self, sealing: Sealing, wait: float = WAIT):
        """``wait``: see WAIT."""
        self._sealing = sealing
        self._shared: Combiner[tuple[QueueInfo, int], Found] = Combiner(self._find, wait, TOGETHER)
        #: Guards what is below. Sets of ids are replaced and never changed.
        self._mutex = threading.Lock()
        #: Keys of queues where the last search has found some.
        self._with_free: set[str] = set()
        #: By queue: ids of messages that claimers have found and are just claiming.
        self._claiming: dict[str, frozenset[str]] = {}

    def find(self, info: QueueInfo, limit: int) -> Found:
        """Up to ``limit`` messages, which no other claimer of this process gets to see before they are ``claimed``.

        The search begins after this call. Raises Busy, StoreError and QueueGone, as Sealing.free.
        """
        if info.key in self._with_free:
            try:
                return self._shared.do((info, limit), info.key)
            except WaitedTooLong:
                self._with_free.discard(info.key)  # others need not wait at all, until somebody finds messages
        return self._find([(info, limit)])[0]

    def claimed(self, key: str, found: Found) -> None:
        """The claimer has claimed what it found, or has failed to."""
        with self._mutex:
            left = self._claiming[key].difference([message.id for message in found.free])
            if left:
                self._claiming[key] = left
            else:
                del self._claiming[key]

    def _find(self, claimers: Sequence[tuple[QueueInfo, int]]) -> list[Found]:
        """Search once for all claimers."""
        info, limits = claimers[0][0], [limit for _, limit in claimers]
        wanted = sum(limits)
        while True:
            before = self._claiming.get(info.key, NO_IDS)
            asked = wanted + len(before)
            began = time.monotonic()
            free, leased = self._sealing.free(info, asked)
            if not free:
                self._with_free.discard(info.key)
                return [Found([], leased, began)] * len(claimers)
            ours = self._reserve(info.key, free, before, wanted, len(free) < asked)
            if ours is not None:
                rest = iter(ours)
                return [Found(list(islice(rest, limit)), leased, began) for limit in limits]

    def _reserve(
        self, key: str, free: Sequence[Message], before: frozenset[str], wanted: int, are_all: bool
    ) -> list[Message] | None:
        """Up to ``wanted`` of the messages found that nobody was claiming ``before`` the search or is claiming now.

        What was being claimed before may have been claimed meanwhile, and read before that. None if there are fewer
        than wanted and these were not all: more may follow, and it is not known whether the lease is held.
        """
        with self._mutex:
            claiming = self._claiming.get(key, NO_IDS)
            theirs = before | claiming
            ours = [message for message in free if message.id not in theirs]
            if len(ours) < wanted and not are_all:
                return None
            if len(self._with_free) >= QUEUES_REMEMBERED:
                self._with_free.clear()
            self._with_free.add(key)
            del ours[wanted:]
            if ours:
                self._claiming[key] = claiming.union([message.id for message in ours])
        return ours
