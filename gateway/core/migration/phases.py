"""What is done in each phase of a move. See gateway.core.migration."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from gateway.core.demand import Count
from gateway.core.errors import Busy
from gateway.core.migration.fences import is_certainly_empty
from gateway.core.migration.landed_mover import LandedMover, last_position
from gateway.core.migration.move import DRAINING, LANDED, SETTLING, SWITCHING, WAITING, Move
from gateway.core.migration.subscriptions import MovingSubscriptions
from gateway.core.migration.views import turns
from gateway.core.pools.pool import Pool
from gateway.core.pools.registry import Pools
from gateway.core.publishing import ON_TIME
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.known import KnownQueues
from gateway.core.queues.lock import Lock, locked_queue
from gateway.core.queues.remembering import KNOWN_FOR
from storage.base import SideStore
from storage.errors import QueueGone
from storage.model import Queue, split_name

LOG = logging.getLogger(__name__)

#: Seconds from now at which a change counts for all gateways: their memory, and time to write it down.
AGREED_IN = KNOWN_FOR + 0.9

#: Seconds between two looks at a queue that just waits.
LOOKS = 0.1

#: Messages that land in one go: others have their turn in between.
LANDED_AT_ONCE = 200

#: Seconds that others have in between.
OTHERS = 0.01

#: Messages left in the old broker with which posts may wait until they have landed.
FEW = 200

#: Seconds that a gateway which lives holds a batch at most, besides the timeouts of its broker and its side-store.
HELD_FOR = 5.0

#: Seconds between two records that a message was seen in the old broker.
SEEN_EVERY = 1.0

#: Seconds of the queue's lock that each change of a place and of the record needs.
CHANGING = 10.0


class Moved(Exception):
    """The record of the move has been changed by somebody else, or the queue is gone."""


class Later(Exception):
    """There is nothing to do but to wait; look again in some seconds."""


class Record(Protocol):
    """The record of a move, as the process has it that does the work."""

    def hold(self) -> None:
        """Keep the right to do the work. Raises Moved when it is lost or the process closes."""

    def read(self) -> tuple[Queue | None, Move | None]:
        """The queue's document and its move, as they are now."""

    def change(self, move: Move, changed: Move | None, pool: str | None = None) -> Move | None:
        """Replace the record. Raises Moved if it is not what we know."""

    def progress(self, move: Move, count: int) -> Move:
        """Record that so many more messages have moved, from time to time."""

    def wait(self, seconds: float) -> None:
        """Wait, unless the process closes."""


class Phases:
    """The work on one queue, whose name is ``q``. Each step can be repeated, by another process too."""

    def __init__(
        self, record: Record, store: SideStore, pools: Pools, known: KnownQueues, subscriptions: MovingSubscriptions,
        q: str,
    ):
        self._record = record
        self._subscriptions = subscriptions
        self._store = store
        self._pools = pools
        self._known = known
        self._q = q

    def work(self) -> None:
        """All that is left to be done. Raises Moved, and Later."""
        phases: dict[str, Callable[[QueueInfo, Move, Pool, Pool], object]] = {
            WAITING: self._begin, LANDED: self._move_landed, DRAINING: self._drain, SWITCHING: self._switch,
            SETTLING: self._settle,
        }
        while True:
            self._record.hold()
            found, move = self._record.read()
            if found is None or move is None:
                return
            source, target = self._pools.get(move.source), self._pools.get(move.target)
            info = self._known.describe(*split_name(self._q), found, time.monotonic())
            phases[move.phase](info, move, source, target)

    def _begin(self, info: QueueInfo, move: Move, source: Pool, target: Pool) -> None:
        if source.lands_with(target):
            self._change_broker(info, move, source, target)
            return
        last = last_position(source.store.landed, info.key)
        with self._changing(move) as (lock, now):
            copies = self._subscriptions.open(source, target)
            target.store.landed.open_queue(info.key, last, copies)
            try:
                self._record.change(now, now.changed(phase=LANDED, switch=self._agreed()))
            except Moved:  # it was cancelled, and nothing has landed there
                lock.check(CHANGING)
                target.store.landed.remove_queue(info.key)
                self._subscriptions.close(target)
                raise

    def _move_landed(self, info: QueueInfo, move: Move, source: Pool, target: Pool) -> None:
        self._await(move.switch + int(ON_TIME * 1000))
        mover = LandedMover(
            source.store.landed, target.store.landed, self._record.hold, lambda key: turns(self._store, key).alone()
        )
        mover.close([info.key])
        if not source.bridge.has_backlog:
            self._follow(move, source, target)
        for count in mover.move(info.key):
            move = self._record.progress(move, count)
            time.sleep(OTHERS)
        self._change_broker(info, move, source, target)

    def _change_broker(self, info: QueueInfo, move: Move, source: Pool, target: Pool) -> None:
        """Begin with the brokers, now that messages land in the new side-store."""
        with self._changing(move) as (lock, now):
            if move.phase == LANDED:
                source.store.landed.remove_queue(info.key)
            if not source.bridge.has_backlog and not target.bridge.has_backlog:
                self._arrive(now, target)
                return
            if not target.bridge.has_backlog:
                self._record.change(now, now.changed(phase=DRAINING, moved=move.moved))
                return
            target.bridge.create(info.broker, **info.ordering)
            self._subscriptions.bind(info, target)
            try:
                self._record.change(now, now.changed(phase=SWITCHING, switch=self._agreed(), moved=move.moved))
            except Moved:  # it was cancelled, and nothing has been posted there
                lock.check(CHANGING)
                target.bridge.delete(info.broker)
                self._subscriptions.delete(target)
                raise

    def _drain(self, info: QueueInfo, move: Move, source: Pool, target: Pool) -> None:
        self._follow(move, source, target)
        while True:
            queues = self._left(info, source, target)
            if sum(source.bridge.depth(queue.broker) for queue in queues) <= FEW:
                break
            for queue in queues:
                landed, _ = self._land(queue)
                move = self._record.progress(move, landed)
        with self._changing(move) as (_, now):
            self._record.change(now, now.changed(phase=SWITCHING, switch=self._agreed(), moved=move.moved))

    def _switch(self, info: QueueInfo, move: Move, source: Pool, target: Pool) -> None:
        end = move.switch + int(ON_TIME * 1000)
        if not source.bridge.has_backlog:
            self._await(end)
            self._follow(move, source, target)
            with self._changing(move) as (_, now):
                self._arrive(now, target)
            return
        self._follow(move, source, target)
        while True:
            is_late, landed, is_empty = self._store.now() >= end, 0, False
            own, *copies = self._left(info, source, target)
            for queue in copies:
                if source.bridge.depth(queue.broker):
                    landed += self._land(queue)[0]
            if is_late or source.bridge.depth(own.broker):
                count, is_empty = self._land(own)
                landed += count
            move = self._record.progress(move, landed)
            if is_late and is_empty and not landed and (not own.settings.fifo or is_certainly_empty(own)):
                break
            if not landed:
                self._record.wait(LOOKS)
        now = self._now(move)
        self._record.change(
            now, now.changed(phase=SETTLING, settling_since=self._store.now(), moved=move.moved)
        )

    def _settle(self, info: QueueInfo, move: Move, source: Pool, target: Pool) -> None:
        if self._subscriptions.are_moving():
            move = self._end_backlogs(info, move, source, target)
        if not move.is_left:
            move = self._await_returns(info, move, source, target)
            now = self._now(move)
            self._record.change(now, now.changed(is_left=True, moved=move.moved))
            return
        # Late posts that were told that the queue is still here have come before; see Publishing.
        if not self._are_empty(info, source, target):
            raise Later
        with self._changing(move) as (_, now):
            source.bridge.delete(info.broker)
            self._subscriptions.delete(source)
            self._arrive(now, target)

    def _end_backlogs(self, info: QueueInfo, move: Move, source: Pool, target: Pool) -> Move:
        """Land all that waits on the old broker for subscriptions: posts go elsewhere. The move with our count."""
        left = self._subscriptions.left(info, source, target)
        for queue in sorted(left, key=lambda queue: int(source.bridge.depth(queue.broker))):
            is_empty = False
            while not is_empty:
                landed, is_empty = self._land(queue)
                move = self._record.progress(move, landed)
            self._subscriptions.arrive(queue.key)
        self._subscriptions.arrive()
        return move

    def _await_returns(self, info: QueueInfo, move: Move, source: Pool, target: Pool) -> Move:
        """Land what comes back to the old broker; the move with our count of messages.

        Raises Later as long as somebody can give back more.
        """
        held_for = HELD_FOR + source.bridge.timeout + 2 * target.store.timeout
        patience = SEEN_EVERY + source.bridge.gives_back_after + held_for
        while True:
            queues = self._left(info, source, target)
            in_hand = [source.bridge.in_hand(queue.broker) for queue in queues]
            waiting = [queue for queue in queues if source.bridge.depth(queue.broker)]
            if waiting:  # recorded first: whoever takes over must know
                move = self._seen(move)
            is_quiet = self._store.now() - move.settling_since > patience * 1000
            is_over = all(count == 0 or (count is None and is_quiet) for count in in_hand)
            landed = [self._land(queue) for queue in (queues if is_over else waiting)]
            if count := sum(count for count, _ in landed):
                move = self._seen(self._record.progress(move, count))
            elif is_over and all(is_empty for _, is_empty in landed):
                return move
            else:
                raise Later

    def _seen(self, move: Move) -> Move:
        """The move, with the record that the old broker has a message now; to a second or so."""
        if self._store.now() - move.settling_since < SEEN_EVERY * 1000:
            return move
        now = self._now(move)
        seen = now.changed(settling_since=self._store.now(), moved=move.moved)
        self._record.change(now, seen)
        return seen

    def _are_empty(self, info: QueueInfo, source: Pool, target: Pool) -> bool:
        """Has the old broker no message of the queue, as far as it tells? What waits there lands."""
        bridge = source.bridge
        return all(
            self._land(queue)[1] and not bridge.depth(queue.broker) and not bridge.in_hand(queue.broker)
            for queue in self._left(info, source, target)
        )

    def _follow(self, move: Move, source: Pool, target: Pool) -> None:
        """Take the subscriptions along; posts may still feed their delivery queues on the old broker."""
        self._subscriptions.follow(source, target, lambda: self._changing(move))

    def _arrive(self, move: Move, target: Pool) -> None:
        self._subscriptions.arrive()
        self._subscriptions.call(target)
        self._record.change(move, None, move.target)
        self._subscriptions.join()
        LOG.info("queue %s has moved from pool %s to pool %s", self._q, move.source, move.target)

    # -- pieces -------------------------------------------------------------------------------------------------

    def _left(self, info: QueueInfo, source: Pool, target: Pool) -> list[QueueInfo]:
        """All that the queue has on the old broker, as queues: its own, and those of its subscriptions."""
        old: Any = source.bridge
        return [replace(info, bridge=old), *self._subscriptions.left(info, source, target)]

    def _land(self, info: QueueInfo) -> tuple[int, bool]:
        """Land some of an old broker's backlog: how many messages, and whether nothing waits there any more."""
        count = Count(LANDED_AT_ONCE)
        try:
            is_done = info.pool.landing.land_free(info, count)
        except QueueGone:
            raise Moved from None
        except Busy:  # others read the queue; there is no hurry
            return 0, False
        time.sleep(OTHERS)
        return LANDED_AT_ONCE - count.left, is_done and count.left > 0

    def _now(self, move: Move) -> Move:
        """The move as it is recorded. Raises Moved if it has gone on without us."""
        self._record.hold()
        _, recorded = self._record.read()
        if recorded is None or (recorded.id, recorded.phase, recorded.is_left) != (move.id, move.phase, move.is_left):
            raise Moved
        return recorded

    @contextmanager
    def _changing(self, move: Move) -> Iterator[tuple[Lock, Move]]:
        """While this lasts nobody creates or deletes the queue, and no other mover changes its places.

        Without it what is created for a queue that is just being deleted would stay. Yields the lock and the move as
        it is recorded. Raises Moved.
        """
        with locked_queue(self._store, self._q) as lock:
            now = self._now(move)
            lock.check(CHANGING)
            yield lock, now

    def _agreed(self) -> int:
        """A time that all gateways will know of before (ms since the epoch)."""
        now: int = self._store.now()
        return now + int(AGREED_IN * 1000)

    def _await(self, until: int) -> None:
        """Wait for a time (ms since the epoch)."""
        while (left := until - self._store.now()) > 0:
            self._record.hold()
            self._record.wait(min(LOOKS, left / 1000))
