"""One round of claims: what waits in the broker lands as far as it is needed, and what may be handed out is claimed."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bridges.errors import BridgeError
from gateway.core.burial import Burial
from gateway.core.errors import Busy
from gateway.core.fifo.blocked import BLOCKED
from gateway.core.fifo.lines import Caller, Line
from gateway.core.fifo.sharing import looked_at, not_after, share_out
from gateway.core.fifo.tenure import Tenure
from gateway.core.landing import LANDING_BATCH, Landing
from gateway.core.queues.info import QueueInfo
from gateway.core.sealing import Sealing
from storage.model import Claim, Message

LOG = logging.getLogger(__name__)

#: Messages that one round lands, and no more, to find some of groups that are not blocked.
LANDED_IN_A_ROUND = 500

#: Landed messages of a queue with which nothing more lands for claims while groups are blocked: messages of other
#: groups that are behind so many wait. Seconds for which the number is not counted again.
MOST_LANDED = 10_000
COUNTED_FOR = 1.0


class HeldElsewhere(Busy):
    """Messages wait in the broker, and it gives them to nobody else than a gateway that has some of them in its hands.

    Gateways hold messages for moments; one that was stopped does until the broker gives up its connection.
    """

    def __init__(self) -> None:
        super().__init__("another gateway has messages of this queue in its hands; try again")


@dataclass(slots=True)
class Outlook:
    """What the last round of a queue has left: it only saves calls.

    ``is_short``: more than what has landed was wanted; ``is_idle``: there was nothing at all. ``is_crowded``: with
    MOST_LANDED messages, as counted at ``counted`` (monotonic seconds).
    """

    is_short: bool = True
    is_idle: bool = False
    is_crowded: bool = False
    counted: float = float("-inf")


@dataclass(slots=True)
class Found:
    """Messages that may be claimed, and dead ones that are to be buried. ``is_all``: there are no others just now."""

    messages: list[Message]
    burials: list[Burial]
    blocked: int
    is_all: bool


class Round:
    """Serves callers of one queue under a tenure, until ``until`` (monotonic seconds).

    If nobody else waits in the ``line`` the last claim ends the tenure.
    """

    def __init__(
        self, info: QueueInfo, line: Line, tenure: Tenure, landing: Landing, sealing: Sealing, outlook: Outlook,
        until: float,
    ):
        self._line = line
        #: What has been claimed to be buried when the tenure is over, with the messages.
        self.buried: list[tuple[Burial, list[Message]]] = []
        self._info = info
        self._tenure = tenure
        self._landing = landing
        self._sealing = sealing
        self._outlook = outlook
        self._until = until
        self._landed = 0
        self._has_ended = not info.reads.has_backlog
        self._is_held = self._missed = False
        self._failure: BridgeError | None = None

    def serve(self, callers: Sequence[Caller]) -> None:
        """Serve all callers. Raises LeaseLost; those that have their messages are served then."""
        left = list(callers)
        found = None
        while left and time.monotonic() < self._until and not self._tenure.is_over:
            found = self._find(left)
            shares = share_out(found.messages, [caller.limit for caller in left])
            wants = [(caller, share) for caller, share in zip(left, shares, strict=True) if share]
            claims = [(caller.claim(), share) for caller, share in wants]
            claims += [(burial.hold, burial.dead) for burial in found.burials]
            if not claims:
                break
            taken = self._claim(claims, is_last=found.is_all or len(wants) == len(left))
            for (caller, _), got in zip(wants, taken, strict=False):
                if got:
                    caller.serve(got)
            self.buried += zip(found.burials, taken[len(wants):], strict=True)
            left = [caller for caller in left if not caller.is_served]
            self._missed = not all(taken)
            if found.is_all and not self._missed:
                break
        self._outlook.is_short = self._failure is None and (found is None or found.is_all)
        self._outlook.is_idle = found is not None and not (found.messages or found.burials or found.blocked)
        for caller in left:
            self._refuse(caller)

    def _claim(self, claims: Sequence[tuple[Claim, Sequence[Message]]], is_last: bool) -> list[list[Message]]:
        """Claim messages; see GroupingStore. ``is_last``: nothing else is to be done for these callers."""
        tenure = self._tenure
        ends = is_last and not self._line.waiting
        with tenure.writing():
            taken: list[list[Message]] = self._info.pool.store.landed.claim_in_groups(
                self._info.key, tenure.owner, claims, tenure.lease.last if ends else None
            )
        tenure.is_over = ends
        return taken

    def _refuse(self, caller: Caller) -> None:
        """Say why there is nothing for a caller."""
        if self._failure is not None:
            caller.serve(error=self._failure)
        elif self._is_held:
            caller.serve(error=HeldElsewhere())
        elif time.monotonic() >= self._until:
            caller.serve(error=Busy("messages of this queue are being landed for others; try again"))
        else:
            # What comes after those that are buried may be had soon; or what was found has been deleted meanwhile.
            caller.serve(come_again=bool(self.buried) or self._missed)

    def _find(self, callers: Sequence[Caller]) -> Found:
        """What may be claimed; lands more of the backlog if that is not enough."""
        limits = [caller.limit for caller in callers]
        if self._outlook.is_short and not self._outlook.is_crowded:
            self._land()
        while True:
            found = self._look(looked_at(limits), callers)
            if not found.is_all:
                return found
            shares = share_out(found.messages, limits)
            if all(len(share) == limit for share, limit in zip(shares, limits, strict=True)):
                return found
            if self._landed % LANDING_BATCH and all(shares):
                return found  # the last batch was not full, so probably nothing is left
            if self._is_crowded(found) or not self._land():
                return found

    def _look(self, limit: int, callers: Sequence[Caller]) -> Found:
        """Up to about ``limit`` landed messages that may be claimed."""
        store = self._info.pool.store
        groups = self._sealing.in_groups(self._info, limit)
        BLOCKED.see(self._info.key, groups.blocked, groups.blocked_since, store.now())
        burials: list[Burial] = []
        allowed = callers[0].sort_out(self._info, groups.messages, burials)
        if len(allowed) < len(groups.messages):
            kept = {message.id for message in allowed}
            stopping = {message.id for message in groups.messages} - kept
            allowed = not_after(groups.messages, stopping)
        self._tenure.renew_if_due()
        return Found(allowed, burials, groups.blocked, is_all=len(groups.messages) < limit)

    def _is_crowded(self, found: Found) -> bool:
        """Have so many messages landed that cannot be claimed now that no more are to land?"""
        outlook, now = self._outlook, time.monotonic()
        if not found.blocked:
            outlook.is_crowded = False
        elif now - outlook.counted > COUNTED_FOR:
            stats = self._info.pool.store.landed.stats(self._info.key)
            outlook.is_crowded = stats.free + stats.claimed + stats.delayed >= MOST_LANDED
            outlook.counted = now
        return outlook.is_crowded

    def _land(self) -> bool:
        """Land a batch, more than what is wanted, for those who come next; False if there is nothing or not now."""
        if self._has_ended or self._landed >= LANDED_IN_A_ROUND or time.monotonic() > self._until:
            return False
        bridge, broker = self._info.bridge, self._info.broker
        try:
            fetched = 0
            if bridge.depth(broker):
                with self._tenure.writing():
                    fetched, _ = self._landing.land_next(self._info, self._tenure.lease, LANDING_BATCH)
                self._is_held = not fetched and bridge.depth(broker) > 0
        except BridgeError as error:
            LOG.warning("queue %s: claims without the backlog: %s", self._info.key, error)
            self._failure = error
            fetched = 0
        self._landed += fetched
        self._has_ended = not fetched
        return fetched > 0
