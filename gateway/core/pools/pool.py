"""A pool: a bridge, the side-store that its messages land in, and the ways between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cachetools import TTLCache

from bridges.bridging import Bridging
from bridges.foreign import ForeignBridge
from gateway.core.arrivals import Arrivals
from gateway.core.batches import Batches
from gateway.core.envelopes import EnvelopeReader
from gateway.core.ids import IdMaker
from gateway.core.landing import Landing
from gateway.core.locks import SharedLocks
from gateway.core.pools.guard import Guard
from gateway.core.publishing import Publishing
from gateway.core.queues.remembering import KNOWN_FOR
from gateway.core.sealing import Sealing
from gateway.core.taking import SLOW_FETCH, Taking
from gateway.observe.metrics import BRIDGE_CALLS, timed
from storage.model import DEFAULT_POOL

if TYPE_CHECKING:  # a queue's info names its pool
    from gateway.core.queues.info import QueueInfo

#: Largest body of a native message in bytes, unless the operator sets another limit.
DEFAULT_MAX_BODY = 1024 * 1024

#: Virtual hosts that a process knows the bridges of at the same time.
VHOSTS_KNOWN = 64


class Pool:
    """Where the messages of some queues are. ``bridge`` and ``store`` belong to it: close() closes them.

    ``max_body``: largest body of a native message, in bytes. ``is_elsewhere``: tells whether a queue has left the pool
    since it was looked for. ``guards`` watch the calls. ``shares_store``: the side-store is that of the whole service,
    which stays open. ``slow_fetch``: see Taking. ``arrivals`` is told of messages that become available.
    """

    def __init__(
        self,
        name: str,
        bridge: Any,
        store: Any,
        ids: IdMaker,
        sealing: Sealing,
        max_body: int = DEFAULT_MAX_BODY,
        is_elsewhere: Callable[[QueueInfo], bool] = lambda info: False,
        guards: tuple[Guard, ...] = (),
        shares_store: bool = False,
        slow_fetch: float = SLOW_FETCH,
        arrivals: Arrivals | None = None,
    ):
        self.name = name
        #: Can its queues be bridged to queues and exchanges of others?
        self.can_adopt = hasattr(bridge, "own_vhost")
        self.bridge = bridge
        self.store = store
        self.guards = guards
        self.shares_store = shares_store
        self.arrivals = arrivals or Arrivals()
        self.reader = EnvelopeReader(ids, max_body, sealing)
        locks = SharedLocks()
        batches = Batches(bridge, store, ids, self.reader)
        self.publishing = Publishing(bridge, store, is_elsewhere)
        self.landing = Landing(store, locks, batches)
        self.taking = Taking(store, locks, self.landing, batches, self.reader, sealing, slow_fetch)
        # Asked for again each second: the bridge gives up what nobody asks for.
        self._vhosts: TTLCache[str, ForeignBridge] = TTLCache(VHOSTS_KNOWN, KNOWN_FOR)
        self._lock = threading.Lock()

    @property
    def is_shut(self) -> bool:
        """Does it not answer at present?"""
        return any(guard.is_shut for guard in self.guards)

    def lands_with(self, other: Pool) -> bool:
        """Do the messages of both pools land in the same side-store?"""
        return bool(self.store.describe() == other.store.describe())

    def parse_bridging(self, value: Any) -> Bridging:
        """A ``_bridge`` from its JSON value. Raises ValueError for one that the bridge can't do, such as any at all."""
        if not self.can_adopt:
            where = "" if self.name == DEFAULT_POOL else f"in pool {self.name}, "
            raise ValueError(f"{where}{self.bridge.cannot_adopt}")
        parsed: Bridging = self.bridge.parse_bridging(value)
        return parsed

    def bridge_at(self, vhost: str | None) -> ForeignBridge:
        """The bridge for a virtual host of the same broker; None is the gateway's own."""
        if vhost is None or vhost == self.bridge.own_vhost():
            own: ForeignBridge = self.bridge
            return own
        with self._lock:
            bridge: ForeignBridge | None = self._vhosts.get(vhost)
            if bridge is None:
                bridge = self._vhosts[vhost] = timed(self.bridge.at(vhost), BRIDGE_CALLS, self.name)
            return bridge

    def close(self) -> None:
        """Give all connections back."""
        self.bridge.close()
        if not self.shares_store:
            self.store.close()
