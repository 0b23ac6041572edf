"""The queues that this process knows: read from the side-store, and routed to the pool that each of them is in."""

from __future__ import annotations

import time

import orjson

from gateway.core.pool import Pool
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.metadata import MetadataRules
from gateway.core.queues.names import broker_name, queue_key
from gateway.core.queues.remembering import Remembered
from storage.base import SideStore
from storage.model import Queue


class KnownQueues:
    """Finds queues, and remembers them for a moment. ``pool``: that of all queues; ``store`` has their documents."""

    def __init__(self, pool: Pool, store: SideStore, rules: MetadataRules):
        self._pool = pool
        self._store = store
        self._rules = rules
        self._default_settings = rules.resolve({})
        self._remembered: Remembered[QueueInfo] = Remembered()

    def find(self, project: str, name: str) -> QueueInfo | None:
        """The queue if it exists; it may have been changed or deleted elsewhere up to KNOWN_FOR seconds ago."""
        return self._remembered.get(queue_key(project, name)) or self.refresh(project, name)

    def refresh(self, project: str, name: str) -> QueueInfo | None:
        """The queue if it exists now."""
        key = queue_key(project, name)
        changes, read_at = self._remembered.changes(), time.monotonic()
        found = self._store.catalogue.get_queue(key)
        info = self.describe(project, name, found, read_at) if found else None
        self._remembered.put(key, info, changes)
        return info

    def forget(self, project: str, name: str) -> None:
        """Ask the side-store again next time."""
        self._remembered.forget(queue_key(project, name))

    def describe(self, project: str, name: str, found: Queue | None, read_at: float = 0.0) -> QueueInfo:
        """A queue from its document; without one, as it would be if it were created."""
        settings = self._rules.resolve(orjson.loads(found.metadata)) if found else self._default_settings
        bridging = settings.bridging
        source = bridging.source if bridging else None
        pool = self.pool_of(found)
        return QueueInfo(
            project, name, pool, found.key if found else queue_key(project, name),
            source.queue if source and source.queue else broker_name(project, name),
            pool.bridge_at(source.vhost) if source else pool.bridge,
            pool.bridge.has_backlog and (bridging is None or source is not None),
            settings,
            read_at,
        )

    def pool_of(self, found: Queue | None) -> Pool:
        """The pool of a queue with this document; without one, the pool that a new queue would be in."""
        return self._pool
