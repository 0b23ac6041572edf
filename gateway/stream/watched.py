"""A queue that somebody waits for: who they are, and whom to wake when there is something."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gateway.core.arrivals import Interest
from gateway.core.glances import Landed
from gateway.core.queues.info import QueueInfo

#: Seconds between two times that looks wake those who found nothing the last time: at first, doubled each time, and at
#: most.
FIRST_PAUSE, LONGEST_PAUSE = 0.04, 1.0

#: Seconds after which listers look again while messages are claimed or delayed: another gateway may release some.
HIDDEN_PAUSE = 2.0

#: Most consumers that one look wakes: each of them may take several messages, and wakes another one if there are more.
MOST_AT_ONCE = 100

#: States of a watch of somebody who takes messages: to be woken, woken and not back yet, ended.
IDLE, CALLED, CLOSED = range(3)


class Watch:
    """A place among those who wait for messages of a queue. Everything belongs to the loop's thread.

    ``error``: set while ``woken`` is called because looking at the queue has failed; None if there may be messages.
    """

    __slots__ = ("consumes", "error", "state", "woken", "_queue")

    def __init__(self, queue: WatchedQueue, woken: Callable[[], None], consumes: bool):
        self.consumes = consumes
        self.error: Exception | None = None
        self.state = IDLE
        self.woken = woken
        self._queue = queue

    def looked(self, found: bool, more: bool = False) -> None:
        """Say what came of a call of ``woken``. ``more``: there may be more than was taken.

        Who consumes must say it, and is not woken again before. Others may: it tells false alarms from true ones.
        """
        if self.state != CLOSED:
            self._queue.looked(self, found, more)

    def is_empty(self, since: float) -> bool:
        """Have looks after this time (monotonic seconds) shown that there is nothing?"""
        return self._queue.is_empty(since)

    def close(self) -> None:
        """Wait no longer. A call that has not been used is passed on. It may be repeated."""
        if self.state != CLOSED:
            self._queue.remove(self)


class Pace:
    """How soon looks may wake the same ones again: less and less often, until somebody finds something."""

    __slots__ = ("until", "_pause")

    def __init__(self) -> None:
        #: Monotonic seconds.
        self.until = 0.0
        self._pause = 0.0

    def woke(self, now: float) -> None:
        """Somebody was woken, perhaps in vain."""
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
        self.until = now + self._pause

    def reset(self) -> None:
        """It was not in vain, or there is nothing any more that could wake somebody."""
        self.until = self._pause = 0.0


class WatchedQueue:
    """Everything belongs to the loop's thread. ``ended`` is called when nobody waits any more."""

    def __init__(self, interest: Interest, ended: Callable[[WatchedQueue], None]):
        self.interest = interest
        #: As it was found by the last look; None while that is not known, or there is no such queue.
        self.info: QueueInfo | None = None
        #: When the next look at it is due (monotonic seconds).
        self.due = float("-inf")
        #: When looks at the broker and at the side-store have ended.
        self._saw_broker = self._saw_landed = float("-inf")
        self._ended = ended
        self._idle: OrderedDict[Watch, None] = OrderedDict()
        self._listers: dict[Watch, None] = {}
        #: Listers that may have missed what came before the first look.
        self._new: list[Watch] = []
        self._called = 0
        #: Messages that were told of when all who consume had been called already: they may have looked before.
        self._owed = 0
        self._depth = 0
        self._is_free = False
        self._landed: Landed | None = None
        self._last: int | None = None
        #: Is there something for listers of which they have not been told?
        self._is_news = False
        self._hidden_at = 0.0
        self._pace, self._lister_pace = Pace(), Pace()

    # -- who waits ----------------------------------------------------------------------------------------------

    @property
    def is_watched(self) -> bool:
        """Does anybody wait?"""
        return bool(self._idle or self._called or self._listers)

    @property
    def has_listers(self) -> bool:
        """Does anybody wait who takes nothing?"""
        return bool(self._listers)

    @property
    def rests_until(self) -> float:
        """Until then looks would wake nobody (monotonic seconds)."""
        paces = [self._pace] if self._idle or self._called else []
        if self._listers:
            paces.append(self._lister_pace)
        return min((pace.until for pace in paces), default=0.0)

    def is_empty(self, since: float) -> bool:
        """See Watch."""
        info = self.info
        has_broker = info is None or info.reads.has_backlog
        is_shown = (self._saw_broker > since or not has_broker) and (self._saw_landed > since or info is None)
        return is_shown and not (self._depth or self._is_free or self._is_news)

    @property
    def _is_at_rest(self) -> bool:
        """Would a look that finds what the last one has found change nothing?"""
        found = self._landed
        return not (
            found is None or found.is_free or found.is_hidden or self._depth or self._is_news or self._new
            or self._pace.until or self._lister_pace.until
        )

    def add(self, watch: Watch) -> None:
        """Somebody waits."""
        if watch.consumes:
            self._idle[watch] = None
        else:
            self._listers[watch] = None
            self._new.append(watch)

    def remove(self, watch: Watch) -> None:
        """See Watch.close."""
        was_called = watch.state == CALLED
        watch.state = CLOSED
        self._idle.pop(watch, None)
        self._listers.pop(watch, None)
        if was_called:
            self._called -= 1
            self.wake(1)
        self._owed = min(self._owed, self._called)
        if not self.is_watched:
            self._ended(self)

    def looked(self, watch: Watch, found: bool, more: bool) -> None:
        """See Watch.looked."""
        if found:
            (self._pace if watch.consumes else self._lister_pace).reset()
        if watch.state != CALLED:
            return
        self._called -= 1
        if found and more:
            self.wake(1)
        watch.state = IDLE
        self._idle[watch] = None
        if not found:
            self._idle.move_to_end(watch, last=False)  # it has waited for longer than others
            if self._owed:
                self._owed -= 1
                self.wake(1)

    # -- whom to wake -------------------------------------------------------------------------------------------

    def wake(self, number: int, error: Exception | None = None) -> int:
        """Wake up to so many of those who consume, first those who have waited longest; how many there were."""
        woken = 0
        while woken < number and self._idle:
            watch, _ = self._idle.popitem(last=False)
            watch.state = CALLED
            self._called += 1
            woken += 1
            watch.error = error
            watch.woken()
        return woken

    def _wake_listers(self, error: Exception | None = None) -> None:
        self._is_news = False
        self._new.clear()
        for watch in list(self._listers):
            watch.error = error
            watch.woken()

    def told(self) -> bool:
        """This process has told of messages: wake as many as there may be. True if a look should follow."""
        number, must_look = self.interest.take()
        if number:
            before = self._called
            left = number - self.wake(number)
            self._owed = min(before, self._owed + left)
            self._wake_listers()
        return must_look

    def failed(self, error: Exception, now: float) -> None:
        """Looking has failed: all meet the error."""
        if self.rests_until <= now:
            self._pace.woke(now)
            self._lister_pace.woke(now)
            self.wake(len(self._idle), error)
            self._wake_listers(error)

    def see_broker(self, info: QueueInfo | None, depth: int, now: float) -> None:
        """A look has found so many messages in the broker."""
        if info is None or self.info is None or info.key != self.info.key:
            self._landed, self._last, self._is_free = None, None, False
            if self.info is not None:  # it was deleted: listers may want to know
                self._is_news = True
        self.info = info
        self._saw_broker = now
        self._depth = depth
        self._alarm(now)

    def see_landed(self, landed: Landed, now: float) -> None:
        """A look has found these messages in the side-store."""
        self._saw_landed = now
        if landed == self._landed and self._is_at_rest:
            return
        self._landed = landed
        is_quiet = not self._is_news
        if self._listers:
            has_grown = self._last is not None and landed.last > self._last
            if has_grown or (landed.is_free and not self._is_free):
                self._is_news = True
            elif landed.is_hidden and now > self._hidden_at + HIDDEN_PAUSE:
                self._is_news, self._hidden_at = True, now
            self._last = max(landed.last, self._last or 0)
        self._is_free = landed.is_free
        self._alarm(now)
        if is_quiet and not (self._is_news or self._depth):
            self._lister_pace.reset()
        new, self._new = self._new, []
        if landed.last:
            for watch in new:
                if watch.state != CLOSED:
                    watch.error = None
                    watch.woken()

    def _alarm(self, now: float) -> None:
        """Wake those for whom the last looks have shown something."""
        if not self._depth and not self._is_free:
            self._pace.reset()
        elif self._pace.until <= now:
            number = max(self._depth - self._called, 0 if self._called else 1)
            if self.wake(min(number, MOST_AT_ONCE)):
                self._pace.woke(now)
        if self._listers and (self._depth or self._is_news) and self._lister_pace.until <= now:
            self._lister_pace.woke(now)
            self._wake_listers()
