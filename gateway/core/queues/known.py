"""The queues that this process knows: read from the side-store, and routed to the pool that each of them is in."""

from __future__ import annotations

import time
from typing import Protocol

import orjson

from gateway.core.errors import Conflict
from gateway.core.migration.move import Move
from gateway.core.pools.pool import Pool
from gateway.core.pools.registry import Pools
from gateway.core.queues.info import QueueInfo, Reads
from gateway.core.queues.metadata import MetadataRules
from gateway.core.queues.names import broker_name, is_topic_project, queue_key, titled
from gateway.core.queues.remembering import Remembered
from storage.base import SideStore
from storage.model import Queue


class Views(Protocol):
    """Makes the pools of queues that move; see gateway.core.migration.views."""

    def of(self, key: str, move: Move) -> Pool:
        """The pool of the queue with this key."""


class KnownQueues:
    """Finds queues, and remembers them for a moment. ``store`` has their documents.

    ``views``: for queues that move; set before the first of them is found. Who waits is told of what changes here.
    """

    views: Views

    def __init__(self, pools: Pools, store: SideStore, rules: MetadataRules):
        self._pools = pools
        self._store = store
        self._rules = rules
        self._arrivals = pools.default.arrivals
        self._default_settings = rules.resolve({})
        self._remembered: Remembered[QueueInfo] = Remembered()

    def find(self, project: str, name: str) -> QueueInfo | None:
        """The queue if it exists; it may have been changed or deleted elsewhere up to KNOWN_FOR seconds ago."""
        return self._remembered.get(queue_key(project, name)) or self.refresh(project, name)

    def remembered(self, project: str, name: str) -> QueueInfo | None:
        """As find, without asking: None does not say that there is no such queue. Never blocks."""
        return self._remembered.get(queue_key(project, name))

    def refresh(self, project: str, name: str) -> QueueInfo | None:
        """The queue if it exists now. Raises Conflict for one that can't be used."""
        key = queue_key(project, name)
        changes, read_at = self._remembered.changes(), time.monotonic()
        found = self._store.catalogue.get_queue(key)
        info = self.describe(project, name, found, read_at) if found else None
        if info is not None and info.settings.unusable is not None:
            raise Conflict(f"{titled(project, name)} can't be used: {info.settings.unusable}")
        self._remembered.put(key, info, changes)
        return info

    def forget(self, project: str, name: str) -> None:
        """Ask the side-store again next time."""
        self._remembered.forget(queue_key(project, name))
        self._arrivals.tell_changed(project, name)

    def describe(self, project: str, name: str, found: Queue | None, read_at: float = 0.0) -> QueueInfo:
        """A queue from its document; without one, as it would be if it were created."""
        pool = self.pool_of(found)
        rules = self.rules_of(pool)
        settings = rules.resolve(orjson.loads(found.metadata)) if found else self._default_settings
        is_topic = is_topic_project(project)
        bridging = settings.bridging
        source = bridging.source if bridging else None
        return QueueInfo(
            project, name, pool, found.key if found else queue_key(project, name),
            source.queue if source and source.queue else broker_name(project, name),
            pool.bridge_at(source.vhost) if source else pool.bridge,
            Reads.NOTHING if is_topic else Reads.of(settings, pool.bridge.has_backlog),
            settings,
            read_at,
            found.notifies if found else False,
            is_topic,
        )

    def pool_of(self, found: Queue | None) -> Pool:
        """The pool of a queue with this document; the default one without a document. Raises Busy."""
        if found is None:
            return self._pools.default
        if found.move is not None:
            return self.views.of(found.key, Move.read(found.move))
        return self._pools.get(found.pool)

    def rules_of(self, pool: Pool) -> MetadataRules:
        """The rules for the metadata of queues in a pool."""
        return self._rules if pool is self._pools.default else self._rules.on(pool.parse_bridging)

    def is_elsewhere(self, info: QueueInfo) -> bool:
        """Has a queue left the pool that it was found in?"""
        found = self.document(info)
        if found is None:
            return False
        return found.pool != info.pool.name or (found.move is not None and Move.read(found.move).is_left)

    def document(self, info: QueueInfo) -> Queue | None:
        """The queue's document as it is now; None if it has been deleted."""
        found = self._store.catalogue.get_queue(queue_key(info.project, info.name))
        return found if found is not None and found.key == info.key else None
