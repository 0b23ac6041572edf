"""The queues that this process knows: read from the side-store, with the bridge that reaches each of them."""

from __future__ import annotations

import threading
import time

import orjson
from cachetools import TTLCache

from bridges.base import Bridge
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.metadata import MetadataRules
from gateway.core.queues.names import broker_name, queue_key
from gateway.core.queues.remembering import KNOWN_FOR, Remembered
from gateway.observe.metrics import BRIDGE_CALLS, timed
from storage.base import Queue, SideStore

#: Virtual hosts that a process knows the bridges of at the same time.
VHOSTS_KNOWN = 64


class KnownQueues:
    """Finds queues, and remembers them for a moment."""

    def __init__(self, bridge: Bridge, store: SideStore, rules: MetadataRules):
        self._bridge = bridge
        self._store = store
        self._rules = rules
        # Asked for again each second: the bridge gives up what nobody asks for.
        self._vhosts: TTLCache[str, Bridge] = TTLCache(VHOSTS_KNOWN, KNOWN_FOR)
        self._lock = threading.Lock()
        #: What acts on a queue that does not exist yet.
        self.default_settings = rules.resolve({})
        self._remembered: Remembered[QueueInfo] = Remembered()

    def find(self, project: str, name: str) -> QueueInfo | None:
        """The queue if it exists; it may have been changed or deleted elsewhere up to KNOWN_FOR seconds ago."""
        return self._remembered.get(queue_key(project, name)) or self.refresh(project, name)

    def refresh(self, project: str, name: str) -> QueueInfo | None:
        """The queue if it exists now."""
        key = queue_key(project, name)
        changes, read_at = self._remembered.changes(), time.monotonic()
        found = self._store.get_queue(key)
        info = self.describe(project, name, found, read_at) if found else None
        self._remembered.put(key, info, changes)
        return info

    def forget(self, project: str, name: str) -> None:
        """Ask the side-store again next time."""
        self._remembered.forget(queue_key(project, name))

    def describe(self, project: str, name: str, found: Queue | None, read_at: float = 0.0) -> QueueInfo:
        """A queue from its document; without one, as it would be if it were created."""
        settings = self._rules.resolve(orjson.loads(found.metadata)) if found else self.default_settings
        bridging = settings.bridging
        source = bridging.source if bridging else None
        return QueueInfo(
            project, name, found.key if found else queue_key(project, name),
            source.queue if source and source.queue else broker_name(project, name),
            self.bridge_at(source.vhost) if source else self._bridge,
            self._bridge.has_backlog and (bridging is None or source is not None),
            settings,
            read_at,
        )

    def bridge_at(self, vhost: str | None) -> Bridge:
        """The bridge for a virtual host; None is the gateway's own."""
        if vhost is None or vhost == self._bridge.own_vhost():
            return self._bridge
        with self._lock:
            bridge: Bridge | None = self._vhosts.get(vhost)
            if bridge is None:
                bridge = self._vhosts[vhost] = timed(self._bridge.at(vhost), BRIDGE_CALLS)
            return bridge
