"""Queues as clients manage them: create, show, change, delete, list and count."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import orjson

from bridges.errors import SourceUnreadable
from gateway.core.errors import Conflict, InvalidInput, NotFound
from gateway.core.foreign.access import AccessRules
from gateway.core.foreign.binding import Binder, bind
from gateway.core.foreign.bridging import KEY, Source, parse
from gateway.core.pool import Pool
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.known import KnownQueues
from gateway.core.queues.listing import QueueLists
from gateway.core.queues.lock import locked_queue
from gateway.core.queues.metadata import MetadataRules
from gateway.core.queues.names import HEALTH_PROJECT, broker_name, queue_key
from gateway.core.queues.quotas import QueueQuota
from gateway.core.queues.remembering import KNOWN_FOR
from storage.base import SideStore
from storage.landed import SEEN_FOR
from storage.model import Queue

#: Seconds on top of KNOWN_FOR after which no gateway can still work with what it remembered of a queue.
FORGOTTEN_MARGIN = 0.1

#: Seconds of the lock that deleting a queue may need, in each of broker and side-store.
DELETING = 10.0

#: Times that a patch is tried again because somebody else changed the metadata meanwhile.
PATCH_TRIES = 5


class QueueAdmin:
    """Everything about queues but the messages in them. ``quota``: None for any number of queues."""

    def __init__(
        self,
        store: SideStore,
        known: KnownQueues,
        rules: MetadataRules,
        access: AccessRules,
        quota: QueueQuota | None,
        binder: Binder,
    ):
        self._store = store
        self._known = known
        self._rules = rules
        self._access = access
        self._quota = quota
        self._binder = binder
        #: A page of the project's queues, and how many there are.
        self.list = QueueLists(store, rules).page

    def create(
        self, project: str, name: str, metadata: Mapping[str, Any] | None, roles: Sequence[str] = ()
    ) -> bool:
        """Create a queue here and on the broker; True if it is new. An existing one gets ``metadata`` if given.

        ``roles`` are those of the caller, for what may be bridged. Raises QuotaExceeded.
        """
        key = queue_key(project, name)
        checked = None if metadata is None else _not_its_own(name, self._rules.check(metadata))
        with locked_queue(self._store, key) as lock:
            found = self._store.catalogue.get_queue(key)
            if checked is not None:
                old = orjson.loads(found.metadata) if found else None
                self._check_bridging(project, roles, self._known.pool_of(found), old, checked)
            data = None if checked is None else orjson.dumps(checked)
            before = self._known.describe(project, name, found)
            after = before if data is None else self._known.describe(project, name, Queue(name, data, 0, before.key))
            with self._within_quota(project, name):
                self._create_on_broker(after)
                created = self._store.catalogue.create_queue(key, data)
                if checked is not None and "exchange" in checked.get(KEY, {}).get("source", {}):
                    self._binder.add(key)
            self._known.forget(project, name)
        if found is not None:
            _await_oblivion(before, after)
        elif after.is_delicate:
            # Gateways may remember the last queue of this name.
            _sleep(KNOWN_FOR + FORGOTTEN_MARGIN - (self._store.now() - lock.last) / 1000)
        return created

    def _within_quota(self, project: str, name: str) -> AbstractContextManager[None]:
        """The right to create a queue, see QueueQuota.room."""
        if self._quota is None or project == HEALTH_PROJECT:
            return nullcontext()
        return self._quota.room(project, queue_key(project, name))

    def _create_on_broker(self, info: QueueInfo) -> None:
        """The broker's side of a queue: what is somebody else's is left alone."""
        bridging = info.settings.bridging
        if bridging is None:
            info.pool.bridge.create(info.broker)
        elif bridging.source is not None:
            self._create_source(info, bridging.source)

    def _create_source(self, info: QueueInfo, source: Source) -> None:
        """Check what a queue is to read from, and bind it. Raises InvalidInput for what can't be read."""
        try:
            if source.binding is None:
                info.bridge.check_source(info.broker)
                return
            info.bridge.check_exchange(source.binding)
        except SourceUnreadable as error:
            raise InvalidInput(f"Queue metadata {KEY}: {error}", "Invalid metadata") from error
        info.bridge.create(info.broker)
        with suppress(NotFound):  # the exchange may come later
            bind(info.bridge, info.broker, source.binding)

    def _check_bridging(
        self,
        project: str,
        roles: Sequence[str],
        pool: Pool,
        old: Mapping[str, Any] | None,
        new: Mapping[str, Any],
    ) -> None:
        """Raises Forbidden for what the caller may not bridge, Conflict when messages would change their source."""
        before, after = (old or {}).get(KEY), new.get(KEY)
        if before == after:
            return
        if after is not None:
            self._access.check(project, roles, pool.bridge.own_vhost(), parse(after))
        if old is not None and (before or {}).get("source") != (after or {}).get("source"):
            raise Conflict("The source of a queue that exists can't be changed; delete the queue first")

    def exists(self, project: str, name: str) -> bool:
        """Is there such a queue now?"""
        return self._store.catalogue.get_queue(queue_key(project, name)) is not None

    def metadata(self, project: str, name: str) -> dict[str, Any]:
        """The metadata as clients see it; a queue that does not exist yet has the defaults, since queues are lazy."""
        found = self._store.catalogue.get_queue(queue_key(project, name))
        return self._rules.show(orjson.loads(found.metadata) if found else {})

    def patch(self, project: str, name: str, operations: Any, roles: Sequence[str] = ()) -> dict[str, Any]:
        """Change the metadata by a JSON patch; the result as clients see it. ``roles`` as for create."""
        key = queue_key(project, name)
        for _ in range(PATCH_TRIES):
            found = self._store.catalogue.get_queue(key)
            if found is None:
                raise NotFound(f"Queue {name} does not exist")
            old = orjson.loads(found.metadata)
            patched = _not_its_own(name, self._rules.patch(old, operations))
            self._check_bridging(project, roles, self._known.pool_of(found), old, patched)
            if self._store.catalogue.replace_metadata(key, orjson.dumps(patched), found.version):
                self._known.forget(project, name)
                after = Queue(name, orjson.dumps(patched), 0, found.key)
                _await_oblivion(
                    self._known.describe(project, name, found), self._known.describe(project, name, after)
                )
                return self._rules.show(patched)
        raise Conflict(f"The metadata of queue {name} is being changed by others; try again")

    def delete(self, project: str, name: str) -> None:
        """Remove a queue and all its messages; nothing happens when there is none."""
        key = queue_key(project, name)
        with locked_queue(self._store, key) as lock:
            info = self._known.describe(project, name, self._store.catalogue.get_queue(key))
            lock.check(DELETING)
            # The broker's first: a post that finds it missing creates the queue again, which has to wait for the lock.
            if info.has_backlog and info.broker == broker_name(project, name):
                info.bridge.delete(info.broker)
            self._store.catalogue.delete_queue(key)
            self._known.forget(project, name)
            if info.is_delicate:
                lock.keep = KNOWN_FOR + FORGOTTEN_MARGIN  # gateways that remember it must not post to the next one so
            elif info.has_backlog:
                lock.keep = SEEN_FOR + FORGOTTEN_MARGIN  # nor land the next one's messages as this one's
        if info.settings.bridging is not None:
            _sleep(KNOWN_FOR + FORGOTTEN_MARGIN)  # nor read from or post to what it was bridged to


def _not_its_own(name: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata. Raises InvalidInput for a queue that would be its own dead-letter queue."""
    if metadata.get("_dead_letter_queue") == name:
        raise InvalidInput("A queue can't be its own _dead_letter_queue", "Invalid metadata")
    return metadata


def _await_oblivion(before: QueueInfo, after: QueueInfo) -> None:
    """Wait until no gateway can remember the queue as it was before, if that makes a difference to safety."""
    if before.delicate != after.delicate:
        _sleep(KNOWN_FOR + FORGOTTEN_MARGIN)


def _sleep(seconds: float) -> None:
    """Sleep for as long, and no longer than a gateway may remember a queue."""
    if seconds > 0:
        time.sleep(min(seconds, KNOWN_FOR + FORGOTTEN_MARGIN))
