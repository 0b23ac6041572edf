"""Taking from FIFO queues: claims and pops of one process are served together, under the queue's landing lease."""

from __future__ import annotations

import threading
import time

from cachetools import LRUCache

from bridges.errors import BridgeError
from gateway.core.burial import SortOut
from gateway.core.errors import Busy, CoreError
from gateway.core.fifo.lines import TOGETHER, Caller, Line, Lines
from gateway.core.fifo.round import Outlook, Round, waiting
from gateway.core.landing import LANDING_BUDGET, Landing
from gateway.core.queues.info import QueueInfo
from gateway.core.sealing import Sealing
from storage.errors import LeaseLost, StoreError
from storage.model import Claim, Message

#: Seconds for which a claim that finds nothing looks again if something may come back soon: from another gateway's
#: hands, or when the messages before it have gone to the dead letters; and seconds between two looks.
PATIENCE, LOOK_AGAIN = 2.0, 0.05

BROKEN_OFF = "another request broke off what it did for this one too; try again"

#: Queues of which a process remembers how it has left them.
REMEMBERED = 10_000


class FifoTaking:
    """Takes messages of FIFO queues for claimers."""

    def __init__(self, landing: Landing, sealing: Sealing):
        self._landing = landing
        self._sealing = sealing
        self._lines = Lines(self._serve)
        self._outlooks: LRUCache[str, Outlook] = LRUCache(REMEMBERED)
        self._mutex = threading.Lock()

    def take(self, info: QueueInfo, claim: Claim, limit: int, sort_out: SortOut) -> list[Message]:
        """Claim up to ``limit`` messages, in order within each group, none of a group that is claimed already.

        When the broker fails, what has landed is the answer, unless that is nothing. Raises Busy when others keep the
        queue for too long.
        """
        if self._is_idle(info):
            return []
        asked = time.monotonic()
        while True:
            caller = Caller(claim, limit, sort_out, asked, LANDING_BUDGET)
            self._lines.join(info, caller)
            for burial, dead in caller.burials:
                burial.move(dead)
            if caller.come_again and time.monotonic() < asked + PATIENCE:
                if not caller.burials:
                    time.sleep(LOOK_AGAIN)
                continue
            if caller.error is not None:
                raise caller.error
            return caller.got

    def _outlook(self, info: QueueInfo) -> Outlook:
        with self._mutex:
            outlook = self._outlooks.get(info.key)
            if outlook is None:
                outlook = self._outlooks[info.key] = Outlook()
            return outlook

    def _is_idle(self, info: QueueInfo) -> bool:
        """Is there nothing in a queue that had nothing when this process looked last? That needs no lease.

        In this order: what another gateway has taken out of the broker meanwhile has landed, or it has the lease.
        """
        if not self._outlook(info).is_idle or self._landing.is_landing(info):
            return False
        try:
            if info.reads.has_backlog and not info.bridge.is_drained(info.broker):
                return False
        except BridgeError:
            return False
        free, leased = info.pool.store.landed.find_free(info.key, 1)
        return not free and not leased

    def _serve(self, info: QueueInfo, line: Line, leader: Caller, until: float) -> None:
        """See Lines. After a lease that is lost it begins again, with what is in the broker then."""
        callers: list[Caller] = []
        try:
            while True:
                if line.tenure is None:
                    line.tenure = self._landing.tenure(info, until)
                callers = callers or line.next(TOGETHER)  # those, too, who have come while it was waited for
                turn = Round(info, line, line.tenure, self._landing, self._sealing, self._outlook(info), until)
                try:
                    turn.serve(callers)
                except LeaseLost:  # when the time is over a round refuses those who are left
                    _leave(line)
                finally:
                    leader.burials += turn.buried
                callers = waiting(callers)
                if not callers:
                    return
        except BaseException as error:
            if isinstance(error, StoreError):
                _leave(line)
            # If others keep the queue, the next in the line may still get it in its time.
            for caller in waiting(callers) or line.next(1 if isinstance(error, CoreError) else TOGETHER):
                caller.serve(error=error if isinstance(error, Exception) else Busy(BROKEN_OFF))
            if not isinstance(error, Exception):
                raise


def _leave(line: Line) -> None:
    """End a tenure after a failure of the side-store."""
    tenure, line.tenure = line.tenure, None
    if tenure is not None:
        tenure.leave()
