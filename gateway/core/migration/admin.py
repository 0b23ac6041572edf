"""Migrations as administrators begin, watch and cancel them."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.errors import Conflict, CoreError, InvalidInput, NotFound
from gateway.core.migration.move import DRAINING, WAITING, Move
from gateway.core.migration.subscriptions import stay
from gateway.core.migration.workers import Workers
from gateway.core.pools.pool import Pool
from gateway.core.pools.record import PoolRecords
from gateway.core.pools.registry import Pools
from gateway.core.queues.known import KnownQueues
from gateway.core.queues.lock import locked_queue
from gateway.core.queues.names import queue_key
from gateway.core.subscriptions.copies import Copies
from storage.base import SideStore
from storage.model import DEFAULT_POOL, Queue

#: Queues of a pool that are counted, at most: it takes a while.
COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """The pool that a queue is in. ``move``: None unless it is on its way to another; ``waiting``: messages in the old
    pool's broker that have not moved yet, those for subscriptions included.
    """

    pool: str
    move: Move | None = None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Evacuation:
    """A pool that is being emptied. ``target``: where its queues go, empty where each is placed like a new one.

    ``queues``: how many are still in it, up to COUNTED; ``moving``: how many of them are on their way; ``bridged``: how
    many stay, as they are bridged to other people's queues and exchanges, feed other queues or are fed, or are topics.
    """

    pool: str
    target: str
    queues: int
    moving: int
    bridged: int


class Migrations:
    """Moves queues to other pools."""

    def __init__(
        self, store: SideStore, pools: Pools, records: PoolRecords, known: KnownQueues, copies: Copies, workers: Workers
    ):
        self._store = store
        self._pools = pools
        self._records = records
        self._known = known
        self._copies = copies
        self._workers = workers

    # -- of a queue ---------------------------------------------------------------------------------------------

    def start(self, project: str, name: str, target: str) -> None:
        """Begin to move a queue. Raises NotFound for an unknown queue, InvalidInput for an unknown pool, Conflict for
        a queue that is there already, that moves already, or that can't move.
        """
        found = self._queue(project, name)
        pool = self._pool(target)
        if found.move is not None:
            move = Move.read(found.move)
            raise Conflict(f"Queue {name} is on its way from pool {move.source} to pool {move.target} already")
        if found.pool == target:
            raise Conflict(f"Queue {name} is in pool {target} already")
        if self._known.describe(project, name, found).settings.bridging is not None:
            raise Conflict(
                f"Queue {name} is bridged to objects on the broker of pool {found.pool}, which belong to others; it"
                " can't move"
            )
        if self._pools.are_one(found.pool, target):
            raise Conflict(f"Pools {found.pool} and {target} are at the same place; queue {name} is in both")
        pool.bridge.ping()
        self._copies.fan_outs.check_move(project, name, target)
        begun = Move.begin(found.pool, target, self._store.now())
        if not self._store.catalogue.change_move(queue_key(project, name), None, begun.record()):
            raise Conflict(f"Queue {name} is being changed by others; try again")
        self._known.forget(project, name)
        # Meanwhile somebody may have led another queue here, or deleted the pool, who then looks for moves.
        try:
            self._copies.fan_outs.check_move(project, name, target)
            if not self._pools.exists(target):
                raise InvalidInput(f"There is no pool {target!r}")
        except CoreError:
            self._store.catalogue.change_move(queue_key(project, name), begun.record(), None)
            raise
        self._workers.wake()

    def get(self, project: str, name: str) -> Place:
        """Where a queue is, and how far its move has come. Raises NotFound for an unknown queue."""
        found = self._queue(project, name)
        if found.move is None:
            return Place(found.pool)
        move = Move.read(found.move)
        info = self._known.describe(project, name, found)
        source = self._pools.get(move.source)
        copies = [each.copy for each in self._copies.of(project, name) if not each.target]
        return Place(found.pool, move, sum(source.bridge.depth(queue) for queue in (info.broker, *copies)))

    def cancel(self, project: str, name: str) -> None:
        """Leave a queue where it is; nothing happens when it does not move.

        Raises NotFound, Conflict once messages or posts are on their way, and Busy.
        """
        while (found := self._queue(project, name)).move is not None:
            move = Move.read(found.move)
            has_begun = move.phase != WAITING and not (move.phase == DRAINING and self._land_together(move))
            if has_begun:
                raise Conflict(
                    f"Queue {name} can't stay in pool {move.source} any more: its move is in phase {move.phase}; let it"
                    " end, and move the queue back"
                )
            if move.phase == WAITING:
                self._store.catalogue.change_move(queue_key(project, name), found.move, None)
            else:
                self._stay(project, name, move)
        self._known.forget(project, name)

    def _stay(self, project: str, name: str, move: Move) -> None:
        """Leave a queue where it is whose backlog lands, unless the move has gone on."""
        with locked_queue(self._store, queue_key(project, name)):
            found = self._queue(project, name)
            now = Move.read(found.move) if found.move is not None else None
            if now is not None and (now.id, now.phase) == (move.id, move.phase):
                stay(self._copies.records, project, name, move.source)
                self._store.catalogue.change_move(queue_key(project, name), found.move, None)

    def _land_together(self, move: Move) -> bool:
        return self._pools.get(move.source).lands_with(self._pools.get(move.target))

    def _queue(self, project: str, name: str) -> Queue:
        found = self._store.catalogue.get_queue(queue_key(project, name))
        if found is None:
            raise NotFound(f"Queue {name} does not exist")
        return found

    def _pool(self, name: str) -> Pool:
        """The pool of this name. Raises InvalidInput if there is none, and Busy if it can't be used."""
        if name != DEFAULT_POOL and self._records.get(name) is None:
            raise InvalidInput(f"There is no pool {name!r}")
        return self._pools.get(name)

    # -- of a pool ----------------------------------------------------------------------------------------------

    def evacuate(self, name: str, target: str = "") -> None:
        """Begin to move all queues of a pool to ``target``, or else to where new ones are put. No new queue is put
        into the pool from now on.

        Raises NotFound for an unknown pool, InvalidInput for an unknown target, and Conflict where there is none.
        """
        self._known_pool(name)
        if target:
            self._pool(target)
        if target == name:
            raise Conflict(f"The queues of pool {name} can't be moved to where they are")
        if target and self._pools.are_one(name, target):
            raise Conflict(f"Pools {name} and {target} are at the same place")
        emptied = self._records.evacuations()
        if target in emptied:
            raise Conflict(f"Pool {target} is being emptied itself")
        if not target and name == DEFAULT_POOL and not self._other_pools(emptied):
            raise Conflict(f"There is no other pool that takes the queues of pool {name}; create one, or name one")
        self._records.put_evacuation(name, target)
        self._pools.forget()
        self._workers.wake()

    def _other_pools(self, emptied: dict[str, str]) -> bool:
        return any(
            record.weight and not record.flavor and record.name not in emptied for record in self._records.all()
        )

    def evacuation(self, name: str) -> Evacuation | None:
        """How far it is; None if the pool is not being emptied. Raises NotFound for an unknown pool."""
        self._known_pool(name)
        target = self._records.evacuations().get(name)
        if target is None:
            return None
        queues = moving = bridged = 0
        for q, found in self._workers.in_pool(name):
            queues += 1
            moving += found.move is not None
            bridged += self._workers.stays(q, found, target)
            if queues == COUNTED:
                break
        return Evacuation(name, target, queues, moving, bridged)

    def cancel_evacuation(self, name: str) -> None:
        """Move no more queues of a pool, and put new ones there again; those on their way go on. Raises NotFound."""
        self._known_pool(name)
        self._records.delete_evacuation(name)
        self._pools.forget()

    def _known_pool(self, name: str) -> None:
        if name != DEFAULT_POOL and self._records.get(name) is None:
            raise NotFound(f"There is no pool {name}")
