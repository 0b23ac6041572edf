"""One round of claims: what waits in the broker lands as far as it is needed, and what may be handed out is claimed."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bridges.errors import BridgeError
from gateway.core.batches import Lander
from gateway.core.burial import Burial
from gateway.core.errors import Busy
from gateway.core.fifo.blocked import BLOCKED
from gateway.core.fifo.direct import DirectLander
from gateway.core.fifo.lines import Caller, Line
from gateway.core.fifo.sharing import looked_at, not_after, share_out
from gateway.core.fifo.tenure import Tenure
from gateway.core.landing import LANDING_BATCH, Landing
from gateway.core.queues.info import QueueInfo
from gateway.core.sealing import Sealing
from storage.model import Message

LOG = logging.getLogger(__name__)

#: Messages that one round takes out of the broker, and no more, to find some of groups that are not blocked.
FETCHED_IN_A_ROUND = 500

#: Landed messages of a queue with which nothing more lands for claims while groups are blocked: messages of other
#: groups that are behind so many wait. Seconds for which the number is not counted again.
MOST_LANDED = 10_000
COUNTED_FOR = 1.0

#: Gateways have messages in their hands for moments; one that was stopped has until the broker gives up its connection.
HELD = "another gateway has messages of this queue in its hands; try again"


@dataclass(slots=True)
class Outlook:
    """What the last round of a queue has left: it only saves calls.

    ``is_idle``: there was nothing at all. ``is_fed``: something came out of the broker. ``is_crowded``: with
    MOST_LANDED messages, as counted at ``counted`` (monotonic seconds).
    """

    is_idle: bool = False
    is_fed: bool = False
    is_crowded: bool = False
    counted: float = float("-inf")


@dataclass(slots=True)
class Found:
    """Messages that may be claimed, and dead ones that are to be buried.

    ``blocked``, ``stops``: see InGroups. ``is_all``: no other landed message may be claimed now.
    """

    messages: list[Message]
    burials: list[Burial]
    blocked: int
    stops: Collection[str]
    is_all: bool


class Round:
    """Serves callers of one queue under a tenure, until ``until`` (monotonic seconds).

    Those who come into the ``line`` meanwhile get what is left, in the same write. If nobody waits then, the last claim
    ends the tenure.
    """

    def __init__(
        self, info: QueueInfo, line: Line, tenure: Tenure, landing: Landing, sealing: Sealing, outlook: Outlook,
        until: float,
    ):
        #: What has been claimed to be buried when the tenure is over, with the messages.
        self.buried: list[tuple[Burial, list[Message]]] = []
        self._line = line
        self._info = info
        self._tenure = tenure
        self._landing = landing
        self._sealing = sealing
        self._outlook = outlook
        self._until = until
        #: Messages that have come out of the broker; is nothing left there, or is that all for now?
        self._fetched = 0
        self._has_ended = not info.reads.has_backlog
        self._is_held = self._missed = False
        self._failure: BridgeError | None = None

    def serve(self, callers: Sequence[Caller]) -> None:
        """Serve all callers. Raises LeaseLost; those that have their messages are served then."""
        found = None
        while (left := waiting(callers)) and time.monotonic() < self._until and not self._tenure.is_over:
            found = self._look(left)
            if self._is_short(found, left) and self._land(found, left):
                continue
            if not self._claim(found, left):
                break
        if found is not None:
            self._outlook.is_idle = not (found.messages or found.burials or found.blocked or self._fetched)
        for caller in waiting(callers):
            self._refuse(caller)

    def _refuse(self, caller: Caller) -> None:
        """Say why there is nothing for a caller."""
        if self._failure is not None:
            caller.serve(error=self._failure)
        elif self._is_held:
            caller.serve(error=Busy(HELD), come_again=True)
        elif time.monotonic() >= self._until:
            caller.serve(error=Busy("messages of this queue are being landed for others; try again"))
        else:
            # What comes after those that are buried may be had soon; or what was found has been deleted meanwhile.
            caller.serve(come_again=bool(self.buried) or self._missed)

    # -- what has landed ----------------------------------------------------------------------------------------

    def _look(self, callers: Sequence[Caller]) -> Found:
        """Landed messages that may be claimed, more than the callers want if there are as many."""
        limit = looked_at([caller.limit for caller in callers])
        groups = self._sealing.in_groups(self._info, limit)
        BLOCKED.see(self._info.key, groups.blocked, groups.blocked_since, self._info.pool.store.now())
        burials: list[Burial] = []
        allowed = callers[0].sort_out(self._info, groups.messages, burials)
        if len(allowed) < len(groups.messages):
            kept = {message.id for message in allowed}
            stopping = {message.id for message in groups.messages} - kept
            allowed = not_after(groups.messages, stopping)
        self._tenure.renew_if_due()
        return Found(allowed, burials, groups.blocked, groups.stops, is_all=len(groups.messages) < limit)

    def _claim(self, found: Found, callers: Sequence[Caller]) -> bool:
        """Claim what was found; True if another look may find more."""
        if not found.messages and not found.burials:
            return False
        with self._line.late(callers) as late:
            return self._claim_for(found, callers, late.take())

    def _claim_for(self, found: Found, callers: Sequence[Caller], late: Sequence[Caller]) -> bool:
        """As _claim, also for those that have come too late to look for them; they may get nothing."""
        shares = share_out(found.messages, [caller.limit for caller in (*callers, *late)])
        wants = [(caller, share) for caller, share in zip((*callers, *late), shares, strict=True) if share]
        claims = [(caller.claim(), share) for caller, share in wants]
        claims += [(burial.hold, burial.dead) for burial in found.burials]
        tenure = self._tenure
        ends = (found.is_all or all(shares[:len(callers)])) and all(shares[len(callers):]) and not len(self._line)
        with tenure.writing():
            taken: list[list[Message]] = self._info.pool.store.landed.claim_in_groups(
                self._info.key, tenure.owner, claims, tenure.lease.last if ends else None
            )
        tenure.is_over = ends
        for (caller, _), got in zip(wants, taken, strict=False):
            if got:
                caller.serve(got)
        self.buried += zip(found.burials, taken[len(wants):], strict=True)
        self._missed = not all(taken)
        return self._missed or not found.is_all

    # -- what waits in the broker -------------------------------------------------------------------------------

    def _is_short(self, found: Found, callers: Sequence[Caller]) -> bool:
        """Must more land for the callers?"""
        if self._has_ended or not found.is_all or self._fetched >= FETCHED_IN_A_ROUND:
            return False
        limits = [caller.limit for caller in callers]
        shares = share_out(found.messages, limits)
        if all(len(share) == limit for share, limit in zip(shares, limits, strict=True)):
            return False
        if all(shares) and self._fetched % LANDING_BATCH:
            return False  # the last batch was not full: probably nothing is left
        return not self._is_crowded(found)

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

    def _land(self, found: Found, callers: Sequence[Caller]) -> bool:
        """Land a batch, more than what is wanted, for those who come next; False if there is nothing."""
        if found.messages or found.burials:
            fetched, _ = self._land_next(self._tenure.lease)
        else:
            with self._line.late(callers) as late:
                lander = DirectLander(self._tenure.lease, callers, late, found.stops)
                fetched, landed = self._land_next(lander)
                for caller, claim in lander.claims:
                    if got := [message for message in landed if message.claim == claim.id]:
                        caller.serve(got)
        self._fetched += fetched
        # A batch that is not full had all that waited, but if it was for nobody here there may still be more after it.
        self._has_ended = fetched < LANDING_BATCH and (fetched == 0 or len(waiting(callers)) < len(callers))
        return fetched > 0

    def _land_next(self, lander: Lander) -> tuple[int, list[Message]]:
        bridge, broker = self._info.bridge, self._info.broker
        try:
            if not self._outlook.is_fed and bridge.is_drained(broker):
                return 0, []
            with self._tenure.writing():
                fetched, landed = self._landing.land_next(self._info, self._tenure.lease, LANDING_BATCH, lander)
            self._outlook.is_fed = fetched > 0
            self._is_held = not fetched and not bridge.is_drained(broker)
            return fetched, landed
        except BridgeError as error:
            LOG.warning("queue %s: claims without the backlog: %s", self._info.key, error)
            self._failure = error
            return 0, []


def waiting(callers: Sequence[Caller]) -> list[Caller]:
    """Those that have not been served yet."""
    return [caller for caller in callers if not caller.is_served]
