"""Reading messages: pages, by their ids, and how many there are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from gateway.core.demand import Count, Selection
from gateway.core.errors import Busy
from gateway.core.landing import SETTLING
from gateway.core.messages.markers import MAX_POSITION, position_of
from gateway.core.messages.peeking import Peeking
from gateway.core.messages.seeking import SOUGHT_AT_MOST, Seeking
from gateway.core.queues.directory import Directory
from gateway.core.queues.info import QueueInfo, Reads
from gateway.core.sealing import SKIPPED, Sealing
from storage.model import Message, Stats


class Reading:
    """Reads queues; what waits in the broker lands as it is read."""

    def __init__(self, directory: Directory, sealing: Sealing, seeking: Seeking):
        self._directory = directory
        self._sealing = sealing
        self._seeking = seeking
        self._peeking = Peeking(sealing)

    def list(
        self, info: QueueInfo, marker: str | None, limit: int, not_from: str | None, claimed: bool, delayed: bool
    ) -> Sequence[Message]:
        """A page of living messages after ``marker``, oldest first, landing more from the backlog as needed.

        The rest says which, see Selection.
        """
        selection = Selection(limit, not_from, claimed, delayed)
        if info.reads is Reads.FOREIGN_QUEUE_PEEKED:
            self._directory.ensure_source(info)
            return self._peeking.list(info, marker, selection)
        after = position_of(info, marker)
        if after is None:
            return []
        self._directory.ensure_source(info)
        landing = info.pool.landing.is_landing(info)
        page = self._sealing.page(info, selection, after)
        if len(page) == limit or not info.reads.lands or after >= MAX_POSITION:
            return page
        # To ask for the depth first spares those who poll an empty queue the lease. A message that another gateway is
        # just landing is missed here, but not for good: its position is after this page.
        if not info.bridge.depth(info.broker):
            if landing or info.pool.landing.is_landing(info):
                info.pool.landing.await_others(info)
                return self._sealing.page(info, selection, after)
        else:
            filling = _Page(info, self._sealing, selection, after, page)
            complete = info.pool.landing.land_free(info, filling, to_the_end=False)
            page = filling.page
            if not page and not complete:
                raise Busy("the messages in front of the wanted ones are still being landed; try again")
        return page[:limit]

    def get(self, info: QueueInfo, ids: Sequence[str]) -> Sequence[Message]:
        """Those of the messages that live, in the order asked for."""
        found = {message.id: message for message in info.pool.store.landed.get_messages(info.key, ids)}
        missing = [id_ for id_ in ids if id_ not in found]
        if missing:
            landed, unresolved = self._seeking.seek(info, missing, SOUGHT_AT_MOST)
            found |= landed
            if unresolved:
                raise Busy("the messages in front of the wanted one are still being landed; try again")
            if self._seeking.may_wait(info, missing):
                # Another gateway may have had one in its hands, on the way from the broker to the side-store.
                time.sleep(SETTLING)
                found |= {message.id: message for message in info.pool.store.landed.get_messages(info.key, missing)}
        return self._sealing.found(info, [found[id_] for id_ in dict.fromkeys(ids) if id_ in found])

    def stats(self, info: QueueInfo) -> tuple[Stats, int]:
        """Counts and edges of a queue, and how many wait in the broker.

        Of the backlog only this gateway's own posts are known, so the newest message is the newest it knows of; the
        oldest is landed if it has to be.
        """
        self._directory.ensure_source(info)
        landed, waiting = self._counts(info)
        if not waiting:
            return landed, 0
        if not info.reads.lands:
            return landed, waiting  # to look at somebody else's queue has a price, see docs/bridging.md
        if landed.oldest is None:
            info.pool.landing.land_free(info, Count(1))
            landed, waiting = self._counts(info)
        newest = landed.newest
        own = info.pool.publishing.newest(info)
        if waiting and own and (newest is None or newest.posted <= own.posted):
            newest = own
        return replace(landed, newest=newest), waiting

    def _counts(self, info: QueueInfo) -> tuple[Stats, int]:
        """What has landed of the queue, and about how many messages wait in the broker."""
        waiting = info.bridge.depth(info.broker) if info.reads.has_backlog else 0
        return info.pool.store.landed.stats(info.key), waiting


class _Page:
    """A demand for as many messages as a ``page`` after a position lacks."""

    def __init__(self, info: QueueInfo, sealing: Sealing, selection: Selection, after: int, page: list[Message]):
        self.page = page
        self._info = info
        self._sealing = sealing
        self._selection = selection
        self._after = after
        self._skipped = 0

    def look(self) -> int:
        """See Demand."""
        self.page = self._sealing.page(self._info, self._selection, self._after)
        return self._missing()

    def take(self, landed: Sequence[Message]) -> int:
        """See Demand."""
        unsealed = self._sealing.unsealed(self._info, landed)
        self._skipped += len(landed) - len(unsealed)
        self.page += [m for m in unsealed if m.client != self._selection.not_from and m.seq > self._after]
        return self._missing()

    def _missing(self) -> int:
        return self._selection.limit - len(self.page) if self._skipped < SKIPPED else 0
