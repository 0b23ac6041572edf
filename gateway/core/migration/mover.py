"""The mover: takes the queues that move through the phases of their moves. See gateway.core.migration."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from uuid import uuid4

from bridges.errors import BridgeError
from gateway.core.errors import CoreError
from gateway.core.migration.move import Move
from gateway.core.migration.phases import Later, Moved, Phases
from gateway.core.migration.subscriptions import MovingSubscriptions
from gateway.core.pools.registry import Pools
from gateway.core.queues.known import KnownQueues
from gateway.core.subscriptions.copies import Copies
from gateway.observe.metrics import MOVED
from storage.base import SideStore
from storage.errors import StoreError
from storage.model import Queue, split_name

LOG = logging.getLogger(__name__)

#: Seconds after which the work of a mover that has died is taken over.
TAKEN_OVER_AFTER = 10.0

#: Seconds between two records of how far a move has come.
RECORDED_EVERY = 1.0

#: Seconds to the next try after an error, at first and at last.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0


class Mover:
    """Moves one queue, in the thread that calls `run`. ``q`` is its name, as queue_key returns it."""

    def __init__(
        self, store: SideStore, pools: Pools, known: KnownQueues, copies: Copies, q: str, closing: threading.Event
    ):
        self._store = store
        self._known = known
        self._phases = Phases(self, store, pools, known, MovingSubscriptions(self, store, copies, q), q)
        self._q = q
        self._closing = closing
        self._owner = uuid4().hex
        self._lock = f"/move/{q}"
        self._renewed_at = 0.0
        self._recorded_at = 0.0

    def run(self, patiently: bool = True) -> None:
        """Work until the move is over, it just has to wait, somebody else does it, or the process closes.

        Raises nothing. ``patiently``: try again after an error.
        """
        pause = FIRST_PAUSE
        while not self._closing.is_set():
            try:
                if self._is_over_or_others():
                    return
                if patiently:
                    LOG.info("queue %s: this process does the work of its move", self._q)
                self._phases.work()
                return
            except Later:
                return
            except Moved:
                pass
            except (StoreError, BridgeError, CoreError) as error:
                LOG.warning("queue %s: its move to another pool is held up: %s", self._q, error)
                self._record_error(error)
            except Exception as error:  # one queue's trouble must not stop the others
                LOG.exception("queue %s: its move to another pool has failed", self._q)
                self._record_error(error)
            finally:
                self._give_up()
            if not patiently:
                return
            self._closing.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    # -- the lock -----------------------------------------------------------------------------------------------

    def _is_over_or_others(self) -> bool:
        if self.read()[1] is None:
            return True
        self._renewed_at = time.monotonic()
        return self._store.catalogue.lock(self._lock, self._owner, TAKEN_OVER_AFTER) is None

    def hold(self) -> None:
        """Keep the right to do the work. Raises Moved when it is lost or the process closes."""
        if self._closing.is_set():
            raise Moved
        now = time.monotonic()
        if now - self._renewed_at > TAKEN_OVER_AFTER / 4:
            if not self._store.catalogue.renew_lock(self._lock, self._owner, TAKEN_OVER_AFTER):
                raise Moved
            self._renewed_at = now

    def _give_up(self) -> None:
        try:
            self._store.catalogue.unlock(self._lock, self._owner)
        except StoreError as error:
            LOG.debug("lock %s: %s", self._lock, error)

    # -- the record ---------------------------------------------------------------------------------------------

    def read(self) -> tuple[Queue | None, Move | None]:
        """The queue's document and its move, as they are now."""
        found = self._store.catalogue.get_queue(self._q)
        return found, Move.read(found.move) if found is not None and found.move is not None else None

    def change(self, move: Move, changed: Move | None, pool: str | None = None) -> Move | None:
        """Replace the record. Raises Moved if it is not what we know."""
        record = changed.record() if changed is not None else None
        if not self._store.catalogue.change_move(self._q, move.record(), record, pool):
            raise Moved
        self._known.forget(*split_name(self._q))
        return changed

    def _record_error(self, error: Exception) -> None:
        try:
            _, move = self.read()
            if move is not None and move.error != str(error):
                self._store.catalogue.change_move(
                    self._q, move.record(), move.changed(error=str(error) or type(error).__name__).record()
                )
        except StoreError as down:
            LOG.debug("queue %s: %s", self._q, down)

    def progress(self, move: Move, count: int) -> Move:
        """Record that so many more messages have moved, from time to time."""
        if count:
            MOVED.labels(move.source, move.target).inc(count)
        self.hold()
        if time.monotonic() - self._recorded_at < RECORDED_EVERY:
            return replace(move, moved=move.moved + count)
        _, recorded = self.read()
        if recorded is None or recorded.id != move.id or recorded.phase != move.phase:
            raise Moved
        changed = recorded.changed(moved=move.moved + count, error="")
        self.change(recorded, changed)
        self._recorded_at = time.monotonic()
        return changed

    def wait(self, seconds: float) -> None:
        """Wait, unless the process closes."""
        self._closing.wait(seconds)
