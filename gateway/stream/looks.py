"""Bounded looks at the queues that somebody waits for: what other gateways and native producers do is not told here.

All queues of a process share a budget of looks at the catalogue and the broker, and each side-store is asked for all of
its queues at once. Looks are made by the loop's threads, one at a time for each pool and each side-store, so that those
which are slow delay their own queues alone.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any
from weakref import WeakSet

from bridges.errors import BridgeError, BridgeUnavailable
from gateway.core.errors import CoreError
from gateway.core.glances import Glances
from gateway.stream.loop import StreamLoop
from gateway.stream.watched import WatchedQueue
from storage.errors import StoreError, StoreUnavailable

LOG = logging.getLogger(__name__)

#: Seconds between two looks at any queues, which makes 40 in a second, and between two at the same queue.
GAP, INTERVAL = 0.025, 0.04

#: Seconds between two looks at a queue without a broker: they only show whether it is still the same queue.
INTERVAL_WITHOUT_BROKER = 1.0

#: Seconds between two questions to a side-store, and the most queues that one question is about. After a round of
#: questions about all queues it rests so many times as long as the round took, or so many seconds for each queue if
#: that is longer: to go through the answers takes CPU of this process.
ASKED_EVERY, AT_ONCE, REST, REST_OF_EACH = 0.1, 500, 4, 0.0005

#: Seconds after which something that has failed is tried again, for the first time and later. Those who wait are told
#: when it fails a second time: a connection may have been lost, or a pool may have been slow for a moment.
SOON, AGAIN = 0.3, 1.0

#: When a queue is due that is looked at just now.
NEVER = float("inf")

#: What fails for a while.
PASSING = (BridgeError, CoreError, StoreError)

#: What fails for all queues of a pool.
OF_ALL = (BridgeUnavailable, StoreUnavailable)


class Place:
    """A pool: its queues by when they are due. One of the places is that of queues whose pool is not known yet."""

    __slots__ = ("due", "has_failed", "is_busy", "rests_until")

    def __init__(self) -> None:
        self.due: list[tuple[float, int, WatchedQueue]] = []
        #: Has the last look failed, for all queues of the pool? Then there is none before a time (monotonic seconds).
        self.has_failed = False
        self.rests_until = 0.0
        self.is_busy = False

    def next_due(self) -> float | None:
        """When the next look is due (monotonic seconds); None if there is none."""
        while self.due and not (self.due[0][2].is_watched and self.due[0][2].due == self.due[0][0]):
            heapq.heappop(self.due)  # nobody waits any more, or it is due at another time
        return max(self.due[0][0], self.rests_until) if self.due else None


class Looks:
    """Looks at ``queues``, a collection that changes. All methods belong to the loop's thread."""

    def __init__(self, glances: Glances, streams: StreamLoop, queues: Iterable[WatchedQueue]):
        self._glances = glances
        self._streams = streams
        self._queues = queues
        #: By name of the pool, in the order in which they are asked.
        self._places: dict[str, Place] = {}
        self._order: deque[str] = deque()
        self._number = count()
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.TimerHandle | None = None
        #: Side-stores that are being asked, or rest; and those whose last question has failed.
        self._asked: set[Any] = set()
        self._failing: WeakSet[Any] = WeakSet()
        self._has_ended = False

    def add(self, queue: WatchedQueue) -> None:
        """Look at a queue from now on, as long as somebody waits for it."""
        self._plan(queue, time.monotonic())
        if self._asking is None:
            self._ask_later()

    def hint(self, queue: WatchedQueue) -> None:
        """Look at a queue as soon as the budget allows."""
        self._plan(queue, time.monotonic())

    def end(self) -> None:
        """Look no more."""
        self._has_ended = True
        for timer in (self._timer, self._asking):
            if timer is not None:
                timer.cancel()

    # -- the catalogue and the broker, queue by queue -----------------------------------------------------------

    def _plan(self, queue: WatchedQueue, due: float) -> None:
        name = queue.info.pool.name if queue.info is not None else ""
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = Place()
            self._order.append(name)
        queue.due = due
        heapq.heappush(place.due, (due, next(self._number), queue))
        self._schedule()

    def _schedule(self) -> None:
        """Set the timer to the next look that can be made."""
        dues = [due for place in self._able() if (due := place.next_due()) is not None]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if dues and not self._has_ended:
            loop = asyncio.get_running_loop()
            delay = max(min(dues), self._last + GAP) - time.monotonic()
            self._timer = loop.call_later(max(0.0, delay), self._look_at_next)

    def _able(self) -> list[Place]:
        """The places that may be looked at, in turn. Of those that fail one at a time: they hold a thread for long."""
        places = [self._places[name] for name in self._order]
        is_trying = any(place.is_busy and place.has_failed for place in places)
        return [place for place in places if not place.is_busy and not (place.has_failed and is_trying)]

    def _look_at_next(self) -> None:
        now = time.monotonic()
        self._timer = None
        self._order.rotate(-1)
        for place in self._able():
            due = place.next_due()
            if due is not None and due <= now:
                _, _, queue = heapq.heappop(place.due)
                queue.due = NEVER
                place.is_busy = True
                self._last = now
                self._streams.start(self._look(place, queue))
                break
        self._schedule()

    async def _look(self, place: Place, queue: WatchedQueue) -> None:
        key = queue.interest.key
        pause = AGAIN
        try:
            info, depth = await self._run(self._glances.in_broker, *key)
        except OF_ALL as error:
            if place.has_failed:
                self._fail([queue, *(other for _, _, other in place.due)], error)
            else:
                pause = SOON
            place.has_failed = True
            place.rests_until = time.monotonic() + pause
        except PASSING as error:
            self._fail([queue], error)
        except Exception:
            LOG.exception("looking at queue %s/%s, which somebody waits for, has failed", *key)
        else:
            place.has_failed = False
            queue.see_broker(info, depth, time.monotonic())
            pause = INTERVAL if info is None or info.reads.has_backlog else INTERVAL_WITHOUT_BROKER
        finally:
            place.is_busy = False
            if queue.is_watched and not self._has_ended:
                due = max(time.monotonic() + pause, queue.rests_until)
                self._plan(queue, min(due, queue.due))  # it may have been hinted at meanwhile
            else:
                self._schedule()

    @staticmethod
    def _fail(queues: Iterable[WatchedQueue], error: Exception) -> None:
        """Tell those who wait for the queues."""
        failed = set(queues)
        LOG.warning("%d queues that somebody waits for can't be looked at: %s", len(failed), error)
        now = time.monotonic()
        for queue in failed:
            queue.failed(error, now)

    # -- side-stores, all queues at once ------------------------------------------------------------------------

    def _ask_later(self) -> None:
        self._asking = asyncio.get_running_loop().call_later(ASKED_EVERY, self._ask)

    def _ask(self) -> None:
        """Ask each side-store that does not rest."""
        now = time.monotonic()
        stores: dict[Any, list[WatchedQueue]] = {}
        is_watching = False
        for queue in self._queues:
            is_watching = True
            if queue.info is not None and queue.rests_until <= now:
                stores.setdefault(queue.info.pool.store, []).append(queue)
        for store, queues in stores.items():
            if store not in self._asked:
                self._asked.add(store)
                self._streams.start(self._ask_store(store, queues))
        self._asking = None
        if is_watching and not self._has_ended:
            self._ask_later()

    async def _ask_store(self, store: Any, queues: list[WatchedQueue]) -> None:
        began = time.monotonic()
        try:
            for first in range(0, len(queues), AT_ONCE):
                await self._ask_about(store, queues[first:first + AT_ONCE])
        except PASSING as error:
            pause = SOON
            if store in self._failing:
                self._fail(queues, error)
                pause = AGAIN
            self._failing.add(store)
        except Exception:
            LOG.exception("looking at queues that somebody waits for has failed")
            pause = AGAIN
        else:
            self._failing.discard(store)
            pause = max(REST * (time.monotonic() - began), REST_OF_EACH * len(queues))
        await asyncio.sleep(pause)
        self._asked.discard(store)

    async def _ask_about(self, store: Any, queues: list[WatchedQueue]) -> None:
        """Raises what asking raises."""
        found = [
            (queue, queue.info) for queue in queues
            if queue.is_watched and queue.info is not None and queue.info.pool.store is store
        ]
        for with_edges in (True, False):  # for those who list, or for none of them
            pairs = [pair for pair in found if pair[0].has_listers is with_edges]
            if not pairs:
                continue
            landed = await self._run(self._glances.landed, [info for _, info in pairs], with_edges)
            now = time.monotonic()
            for queue, info in pairs:
                if queue.info is info and queue.is_watched:
                    queue.see_landed(landed[info.key], now)

    async def _run(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._streams.hands, call, *args)
