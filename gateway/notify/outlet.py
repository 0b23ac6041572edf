"""One subscription as it is served: what waits, what is under way, and what becomes of each message."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from gateway.core.subscriptions.record import Subscription
from gateway.notify.admission import Admission
from gateway.notify.clock import elapsed
from gateway.notify.delivering import Delivering
from gateway.notify.fates import Fates
from gateway.notify.item import Item
from gateway.notify.pace import Pace
from gateway.notify.tasks import PASSING, Tasks
from gateway.notify.terms import SourceTerms, Terms

if TYPE_CHECKING:
    from gateway.notify.intake import Intake
    from gateway.notify.works import Works

LOG = logging.getLogger(__name__)

#: If nothing may begin for more seconds than this, what the broker has handed out goes back to it: brokers close
#: connections whose messages stay unacknowledged for long.
LONG_WAIT = 10.0

#: Messages that are taken at once where a filter may leave few of them.
FILTERED = 10


class Outlet:
    """Serves a subscription. All methods belong to the thread of the loop."""

    def __init__(self, works: Works, intake: Intake, subscription: Subscription, source: SourceTerms, fates: Fates):
        self._works = works
        self.intake = intake
        #: Where the broker has what waits: it does not change.
        self.queue = subscription.vhost, subscription.copy
        self.subscription = subscription
        self.source = source
        self.fates = fates
        self.admission = Admission(works, self)
        self._delivering = Delivering(works, self)
        self.terms = Terms.of(subscription, works.settings)
        status = fates.ledger.status
        self.pace = Pace(self.terms.most, self.terms.rate)
        self.pace.resume(status.row, status.window, (status.resting_until - works.now()) / 1000)
        #: The two kinds of what waits to begin: taken from the side-store, handed out by the broker.
        self._claimed: deque[Item] = deque()
        self._fresh: deque[Item] = deque()
        self._tasks = Tasks(subscription.name, self._ended)
        self.start = self._tasks.start
        self._timer: asyncio.TimerHandle | None = None
        self._taking = False
        #: In strict order: is it known that nothing older waits in the side-store?
        self._nothing_landed = False
        #: May there be something in the side-store that nobody waits for?
        self._look = True
        #: The receiver wants no more, and the record does not say so yet. Somebody counts what waits. It is to end.
        self._halted = self.is_counted = self.is_ending = False

    # -- what others ask ----------------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """Its key in the side-store."""
        return self.subscription.key

    @property
    def is_idle(self) -> bool:
        """Is nothing under way?"""
        return not (self._tasks or self._taking or self.is_counted)

    @property
    def is_strict(self) -> bool:
        """Is one message after the other delivered, in order?"""
        return self.terms.most == 1

    @property
    def consumes(self) -> bool:
        """Should the broker hand out messages for it?"""
        return (
            self.subscription.is_fed and self._delivers and not self.is_ending and self.pace.wait() < LONG_WAIT
        )

    @property
    def reserve(self) -> int:
        """How many messages the broker hands out at a time: the next ones are here when those under way are settled."""
        return 1 if self.is_strict else 2 * self.terms.most

    @property
    def wants(self) -> bool:
        """Is there room for what waits in the side-store?"""
        return not self._taking and self._room > 0 and (self._delivers or self._asks)

    @property
    def must_look(self) -> bool:
        """Does it wait to know whether something older is in the side-store?"""
        return self.is_strict and bool(self._fresh) and not self._nothing_landed

    @property
    def _room(self) -> int:
        return 0 if self.is_ending or self.pace.wait() > 0 else max(0, self.pace.room - len(self._claimed))

    @property
    def _delivers(self) -> bool:
        return self.subscription.delivers and not self._halted and not self._is_over

    @property
    def _asks(self) -> bool:
        return self.subscription.asks and not self._is_over

    @property
    def _is_over(self) -> bool:
        return self.subscription.has_expired(self._works.now())

    def counts(self) -> dict[str, Any]:
        """Fields of the status that describe this moment."""
        oldest = min((item.message.posted for item in (*self._claimed, *self._fresh)), default=0)
        pace = self.pace
        return {"window": pace.window, "in_flight": pace.in_flight, "rate": self.terms.rate, "oldest": oldest}

    # -- what changes -------------------------------------------------------------------------------------------

    def update(self, subscription: Subscription) -> None:
        """The subscription as it is now."""
        before, self.subscription = self.subscription, subscription
        if subscription.version != before.version:
            self._halted = False
            self.terms = Terms.of(subscription, self._works.settings)
            self.pace.limit(self.terms.most, self.terms.rate)
            self._nothing_landed, self._look = False, True
            if subscription.delivers and subscription.since != before.since:
                self.pace.restart()
                self.fates.ledger.restarted()
        for item in [item for item in self._claimed if not self._may_go(item)]:
            self._claimed.remove(item)
            self.start(self._delivering.give_back(item))
        self.go_on()

    def end(self) -> None:
        """Begin nothing more. What is under way may end; see is_idle, and close after that."""
        self.is_ending = True
        self.go_on()

    def halt(self) -> None:
        """Deliver nothing more until the record changes, which does not say so yet."""
        self._halted = True

    def has_landed(self) -> None:
        """A message of it is in the side-store now, or about to be free there."""
        self._nothing_landed, self._look = False, True

    def abandon(self) -> None:
        """Give up what is under way."""
        self._tasks.cancel()

    async def close(self) -> None:
        """Close the connections. Nothing may be under way."""
        if self._timer is not None:
            self._timer.cancel()
        await self._delivering.close()

    # -- what comes ---------------------------------------------------------------------------------------------

    async def take(self) -> None:
        """Get what waits in the side-store and is due."""
        if not self.wants:
            return
        self._taking, self._look = True, False
        try:
            items = await self._taken()
            self._look = bool(items)  # there may be more
            for item in items:
                self.admission.admit(item)
        except PASSING as error:
            LOG.warning("subscription %s: what waits can't be read: %s", self.subscription.name, error)
        finally:
            self._taking = False
        self.go_on()

    async def _taken(self) -> list[Item]:
        retries = self.fates.retries
        if not self._delivers:
            return await self._works.run(retries.take_requests)
        if self.is_strict:
            if self.pace.in_flight:
                return []
            items, self._nothing_landed = await self._works.run(retries.take_first)
            return items
        limit = self._room if self.terms.filter is None else max(self._room, FILTERED)
        return await self._works.run(retries.take, limit)

    def enqueue(self, item: Item) -> None:
        """A message may go out when the outlet goes on; see gateway.notify.admission."""
        (self._claimed if item.claim else self._fresh).append(item)

    # -- what goes ----------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Begin as many deliveries as may begin now."""
        if self.intake.adjust(self):
            self._fresh.clear()  # they have gone back to the broker
        while self.is_ending and self._claimed:
            self.start(self._delivering.give_back(self._claimed.popleft()))
        self._begin()

    def _begin(self) -> None:
        while (item := self._take_next()) is not None:
            self.start(self._delivering.deliver(item), self._following)

    def _take_next(self) -> Item | None:
        """What may go out now: its delivery has begun."""
        if self.is_ending or not self.pace.room or not (waiting := self._next()) or not self._is_open:
            return None
        if (wait := self.pace.wait()) > 0:
            self._look_again(wait)
            return None
        self.pace.begin()
        return waiting.popleft()

    def _following(self) -> Awaitable[None] | None:
        """What the task of a delivery that has ended does next."""
        item = self._take_next()
        if item is None:
            return None
        self._begin()  # there may be room for one more
        self._look_if_wanted()
        return self._delivering.deliver(item)

    @property
    def _is_open(self) -> bool:
        return self._works.is_open(self.subscription)

    def _may_go(self, item: Item) -> bool:
        """Does the state of the subscription allow it?"""
        if item.is_request:
            return self.subscription.may_ask(item.kind) and not self._is_over
        return self._delivers

    def _next(self) -> deque[Item] | None:
        """Where the next one waits: retries go first, and in strict order nothing passes them."""
        if self._claimed:
            return self._claimed
        if self._fresh and self._delivers and not (self.is_strict and (self._taking or not self._nothing_landed)):
            return self._fresh
        return None

    def _look_again(self, wait: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait, self.go_on)

    def may_begin(self, item: Item) -> bool:
        """May an attempt for it begin, now that its turn has come?"""
        return (
            not self.is_ending and self._is_open and self._may_go(item)
            and self._works.now() < self.terms.deadline(item) and elapsed() < item.good_until
        )

    def _ended(self) -> None:
        if not self.is_ending:
            self.go_on()
            self._look_if_wanted()

    def _look_if_wanted(self) -> None:
        if self._look and self.wants:
            self.intake.look_at(self)
