"""A pool: a bridge, the side-store that its messages land in, and the ways between them."""

from __future__ import annotations

import threading
from typing import Any

from cachetools import TTLCache

from bridges.base import Bridge
from bridges.foreign import ForeignBridge
from gateway.core.batches import Batches
from gateway.core.envelopes import EnvelopeReader
from gateway.core.ids import IdMaker
from gateway.core.landing import Landing
from gateway.core.locks import SharedLocks
from gateway.core.publishing import Publishing
from gateway.core.queues.remembering import KNOWN_FOR
from gateway.core.sealing import Sealing
from gateway.core.taking import Taking
from gateway.observe.metrics import BRIDGE_CALLS, STORE_CALLS, timed
from storage.base import SideStore

#: The pool of all queues.
DEFAULT_POOL = "default"

#: Largest body of a native message in bytes, unless the operator sets another limit.
DEFAULT_MAX_BODY = 1024 * 1024

#: Virtual hosts that a process knows the bridges of at the same time.
VHOSTS_KNOWN = 64


class Pool:
    """Where the messages of some queues are. ``bridge`` and ``store`` belong to it: close() closes them.

    ``can_adopt``: can its queues be bridged to queues and exchanges of others. ``max_body``: largest body of a native
    message, in bytes.
    """

    def __init__(
        self,
        name: str,
        bridge: Bridge,
        store: SideStore,
        ids: IdMaker,
        sealing: Sealing,
        max_body: int = DEFAULT_MAX_BODY,
    ):
        self.name = name
        self.can_adopt = isinstance(bridge, ForeignBridge)
        self.bridge: Any = timed(bridge, BRIDGE_CALLS)
        self.store: Any = timed(store, STORE_CALLS, parts=("catalogue", "landed"))
        self.reader = EnvelopeReader(ids, max_body, sealing)
        locks = SharedLocks()
        batches = Batches(self.bridge, self.store, ids, self.reader)
        self.publishing = Publishing(self.bridge, self.store)
        self.landing = Landing(self.store, locks, batches)
        self.taking = Taking(self.store, locks, self.landing, batches, self.reader, sealing)
        # Asked for again each second: the bridge gives up what nobody asks for.
        self._vhosts: TTLCache[str, ForeignBridge] = TTLCache(VHOSTS_KNOWN, KNOWN_FOR)
        self._lock = threading.Lock()

    def bridge_at(self, vhost: str | None) -> ForeignBridge:
        """The bridge for a virtual host of the same broker; None is the gateway's own."""
        if vhost is None or vhost == self.bridge.own_vhost():
            own: ForeignBridge = self.bridge
            return own
        with self._lock:
            bridge: ForeignBridge | None = self._vhosts.get(vhost)
            if bridge is None:
                bridge = self._vhosts[vhost] = timed(self.bridge.at(vhost), BRIDGE_CALLS)
            return bridge

    def close(self) -> None:
        """Give all connections back."""
        self.bridge.close()
        self.store.close()
