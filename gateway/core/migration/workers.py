"""The threads of a process that move queues. Each gateway looks for moves that nobody works on, and takes them up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import orjson

from gateway.core.errors import Conflict, CoreError, InvalidInput
from gateway.core.migration.move import PAGE, SETTLING, Move, moves
from gateway.core.migration.mover import Mover
from gateway.core.pools.record import PoolRecords
from gateway.core.pools.registry import Pools
from gateway.core.queues.known import KnownQueues
from gateway.core.queues.names import is_topic_project
from gateway.core.subscriptions.copies import Copies
from storage.base import SideStore
from storage.errors import StoreError
from storage.model import Queue, split_name

LOG = logging.getLogger(__name__)

#: Seconds between two looks for moves.
LOOK = 2.0

#: Queues that a process moves at the same time. Most of the time they wait.
AT_ONCE = 16

#: Seconds that a thread is waited for at the end: as long as a call to a broker or a side-store may take.
ENDING = 10.0


class Workers:
    """Moves the queues whose documents say so, and begins with those of the pools that are being emptied."""

    def __init__(self, store: SideStore, pools: Pools, records: PoolRecords, known: KnownQueues, copies: Copies):
        self._store = store
        self._pools = pools
        self._records = records
        self._known = known
        self._copies = copies
        self._closing = threading.Event()
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._running: dict[str, threading.Thread] = {}
        self._settler: threading.Thread | None = None

    def tend(self) -> None:
        """Start the thread if it does not run in this process, which may be a fork of another."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = _started(self._run)

    def wake(self) -> None:
        """There is something to do."""
        self.tend()
        self._woken.set()

    def stop(self) -> None:
        """Begin to end all of it. Other gateways take up what is not done."""
        self._closing.set()
        self._woken.set()

    def close(self) -> None:
        """End all of it, and wait until no thread uses a side-store any more."""
        self.stop()
        for thread in [self._thread, self._settler, *list(self._running.values())]:
            if thread is not None and thread is not threading.current_thread():
                thread.join(ENDING)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._woken.wait(LOOK)
            self._woken.clear()
            try:
                self._look()
            except (StoreError, CoreError) as error:  # requests say louder that it is down
                LOG.debug("which queues move can't be read: %s", error)
            except Exception:  # it must go on whatever happened once
                LOG.exception("looking for queues to move failed")

    def _look(self) -> None:
        """Take up moves that nobody works on, as many as there are threads for."""
        self._running = {q: thread for q, thread in self._running.items() if thread.is_alive()}
        settling = []
        for q, move in moves(self._store):
            if self._closing.is_set():
                return
            if move.phase == SETTLING:
                settling.append(q)
            elif q not in self._running and len(self._running) < AT_ONCE:
                mover = Mover(self._store, self._pools, self._known, self._copies, q, self._closing)
                self._running[q] = _started(mover.run)
        if settling and (self._settler is None or not self._settler.is_alive()):
            self._settler = _started(partial(self._settle, settling))
        for name, target in self._records.evacuations().items():
            self._evacuate(name, target)

    def _settle(self, settling: Sequence[str]) -> None:
        """Look once at each of the queues that just wait, which may be many, until their old place is not needed."""
        for q in settling:
            Mover(self._store, self._pools, self._known, self._copies, q, self._closing).run(patiently=False)
        self._closing.wait(LOOK)

    # -- evacuations --------------------------------------------------------------------------------------------

    def _evacuate(self, name: str, target: str) -> None:
        """Begin to move some more queues of a pool."""
        busy = sum(1 for _, move in moves(self._store) if move.source == name and move.phase != SETTLING)
        room = AT_ONCE - busy
        for q, found in self.in_pool(name):
            if room <= 0 or self._closing.is_set():
                return
            if found.move is None and not self.stays(q, found, target):
                room -= self._begin(q, found, name, target)

    def in_pool(self, name: str) -> Iterator[tuple[str, Queue]]:
        """The queues in a pool, by name."""
        after = ""
        while page := self._store.catalogue.list_in_pool(name, after, PAGE):
            for q in page:
                if (found := self._store.catalogue.get_queue(q)) is not None:
                    yield q, found
            after = page[-1]

    def _begin(self, q: str, found: Queue, name: str, target: str) -> bool:
        """Begin to move one queue; False if it can't be moved now."""
        try:
            to = target or self._place(orjson.loads(found.metadata).get("_flavor"), name)
        except CoreError as error:
            LOG.warning("queue %s can't leave pool %s: %s", q, name, error)
            return False
        if to == name:
            LOG.warning("queue %s can't leave pool %s: there is no other pool for it", q, name)
            return False
        if self._pools.are_one(name, to):
            LOG.warning("queue %s can't leave pool %s: pool %s is at the same place", q, name, to)
            return False
        return self.begin(q, name, to)

    def begin(self, q: str, source: str, target: str) -> bool:
        """Record that a queue moves; False if it has been changed, deleted or led elsewhere meanwhile."""
        move = Move.begin(source, target, self._store.now()).record()
        if not self._store.catalogue.change_move(q, None, move):
            return False
        # Who leads one queue into another looks for a move after that; so one of the two sees the other.
        if self._is_tied(q, target):
            self._store.catalogue.change_move(q, move, None)
            return False
        self._known.forget(*split_name(q))
        self._woken.set()
        return True

    def stays(self, q: str, found: Queue, target: str) -> bool:
        """Does a queue have to stay in its pool? Topics do, and those that are bridged, or feed others or are fed.

        ``target``: where it would go, empty if that is not known.
        """
        return is_topic_project(split_name(q)[0]) or is_bridged(found) or self._is_tied(q, target)

    def _is_tied(self, q: str, target: str) -> bool:
        try:
            self._copies.fan_outs.check_move(*split_name(q), target)
        except Conflict:
            return True
        return False

    def _place(self, flavor: str | None, name: str) -> str:
        """The pool for a queue that leaves pool ``name``. Its flavor may have been deleted since it was created."""
        try:
            return self._pools.place(flavor, but=name)
        except InvalidInput:
            return self._pools.place(None, but=name)


def _started(work: Callable[[], None]) -> threading.Thread:
    """A thread that does the work."""
    thread = threading.Thread(target=work, name="moves", daemon=True)
    thread.start()
    return thread


def is_bridged(found: Queue) -> bool:
    """Is a queue bridged to objects of others? These are on one broker, and so the queue stays there."""
    return orjson.loads(found.metadata).get("_bridge") is not None
