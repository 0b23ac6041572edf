"""The pool of a queue that moves, as its phase has it: parts of the old pool and parts of the new one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cachetools import LRUCache

from gateway.core.ids import IdMaker
from gateway.core.migration.bridge import MovingBridge
from gateway.core.migration.landed import MovingLanded
from gateway.core.migration.move import DRAINING, LANDED, SETTLING, WAITING, Move
from gateway.core.migration.publishing import MovingPublishing
from gateway.core.migration.turns import Turns
from gateway.core.pools.pool import Pool
from gateway.core.pools.registry import Pools
from gateway.core.publishing import Publishing
from gateway.core.queues.info import QueueInfo
from gateway.core.sealing import Sealing
from gateway.core.taking import SLOW_FETCH
from storage.base import SideStore
from storage.model import Queue

#: Moves that a process knows at the same time.
VIEWS = 2_000


class MovingStore:
    """What a pool needs of a side-store, for landed messages that are in two of them."""

    def __init__(self, old: Any, new: Any, turns: Turns, lands_in_new: Callable[[], bool]):
        self._new = new
        self.landed = MovingLanded(old, new, turns, lands_in_new)
        self.timeout = self.landed.timeout
        self.now = new.now

    def describe(self) -> str:
        """Where new messages land."""
        described: str = self._new.describe()
        return described


class Views:
    """Makes the pools of queues that move. All threads of a process share that of a move in its phase.

    ``store``: the service's side-store, whose clock decides. ``is_elsewhere``: see Pool. ``document`` reads the
    document of a queue, None if it has been deleted.
    """

    def __init__(
        self,
        store: SideStore,
        pools: Pools,
        ids: IdMaker,
        sealing: Sealing,
        max_body: int,
        is_elsewhere: Callable[[QueueInfo], bool],
        document: Callable[[QueueInfo], Queue | None],
    ):
        self._store = store
        self._pools = pools
        self._made = (ids, sealing, max_body, is_elsewhere)
        self._document = document
        self._views: LRUCache[tuple[Any, ...], Pool] = LRUCache(VIEWS)
        self._lock = threading.Lock()

    def of(self, key: str, move: Move) -> Pool:
        """The pool of the queue with this key. Raises Busy if one of the two pools can't be used."""
        source = self._pools.get(move.source)
        if move.phase == WAITING:
            return source
        target = self._pools.get(move.target)
        name = (move.id, move.phase, move.switch, source, target)
        with self._lock:
            view = self._views.get(name)
            if view is None:
                view = self._views[name] = self._view(key, move, source, target)
            return view

    def _view(self, key: str, move: Move, source: Pool, target: Pool) -> Pool:
        *_, is_elsewhere = self._made

        def until_switch() -> float:
            now: int = self._store.now()
            return 0.0 if move.phase == SETTLING else max(0.0, (move.switch - now) / 1000)

        def is_switched() -> bool:
            return not until_switch()

        def has_settled(info: QueueInfo) -> bool:
            found = self._document(info)
            return found is None or found.move is None or Move.read(found.move).phase == SETTLING

        def has_gone_on(info: QueueInfo) -> bool:
            found = self._document(info)
            if found is None or (found.move is not None and Move.read(found.move).id == move.id):
                return False
            return found.pool != move.target or is_elsewhere(replace(info, pool=target))

        if move.phase == LANDED:
            store: Any = MovingStore(source.store, target.store, turns(self._store, key), is_switched)
            return self._pool(source, source.bridge, store)
        if move.phase == DRAINING:
            return self._pool(source, source.bridge, target.store)
        bridge = MovingBridge(source.bridge, target.bridge, is_switched, move.phase == SETTLING)
        view = self._pool(source, bridge, target.store)
        view.publishing = MovingPublishing(
            Publishing(source.bridge, target.store, is_elsewhere),
            Publishing(target.bridge, target.store, has_gone_on),
            until_switch,
            must_wait=move.phase != SETTLING and not target.bridge.has_backlog,
            has_settled=has_settled,
        )
        return view

    def _pool(self, source: Pool, bridge: Any, store: Any) -> Pool:
        ids, sealing, max_body, is_elsewhere = self._made
        # Where posts land at once, a claimer always looks once more for what has landed while it fetched.
        slow_fetch = SLOW_FETCH if source.bridge.has_backlog else 0.0
        return Pool(
            source.name, bridge, store, ids, sealing, max_body, is_elsewhere, shares_store=True, slow_fetch=slow_fetch,
            arrivals=source.arrivals,
        )


def turns(store: SideStore, key: str) -> Turns:
    """The turns at a queue's landed messages. No other lock has such a name."""
    return Turns(store, f"/turn/{key}")
