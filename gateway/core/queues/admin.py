"""Queues as clients manage them: create, show, change, delete, list and count."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import orjson

from bridges.bridging import KEY
from gateway.core.errors import Busy, Conflict, InvalidInput, NotFound
from gateway.core.foreign.access import AccessRules
from gateway.core.foreign.binding import Binder
from gateway.core.pools.pool import Pool
from gateway.core.pools.registry import Pools
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.known import KnownQueues
from gateway.core.queues.listing import QueueLists
from gateway.core.queues.lock import locked_queue
from gateway.core.queues.metadata import FIFO, MetadataRules
from gateway.core.queues.names import HEALTH_PROJECT, is_topic_project, kind_of, queue_key, titled
from gateway.core.queues.on_broker import create_on_broker
from gateway.core.queues.quotas import QueueQuota
from gateway.core.queues.remembering import KNOWN_FOR
from gateway.core.subscriptions.copies import Copies
from gateway.core.subscriptions.record import Subscription
from storage.base import SideStore
from storage.landed import SEEN_FOR
from storage.model import DEFAULT_POOL, Queue

#: Seconds on top of KNOWN_FOR after which no gateway can still work with what it remembered of a queue.
FORGOTTEN_MARGIN = 0.1

#: Seconds of the lock that deleting a queue may need, in each of broker and side-store.
DELETING = 10.0

#: Times that a change of metadata is tried again because somebody else changed it meanwhile.
CHANGE_TRIES = 5

#: Makes new metadata out of what a queue has. Raises InvalidInput, Conflict.
Change = Callable[[MetadataRules, dict[str, Any]], dict[str, Any]]


class QueueAdmin:
    """Everything about queues but the messages in them. ``quota``: None for any number of queues."""

    def __init__(
        self,
        store: SideStore,
        pools: Pools,
        known: KnownQueues,
        rules: MetadataRules,
        access: AccessRules,
        quota: QueueQuota | None,
        binder: Binder,
        copies: Copies,
    ):
        self._store = store
        self._pools = pools
        self._known = known
        self._rules = rules
        self._access = access
        self._quota = quota
        self._binder = binder
        self._copies = copies
        #: A page of the project's queues, and how many there are.
        self.list = QueueLists(store, rules).page

    def create(
        self, project: str, name: str, metadata: Mapping[str, Any] | None, roles: Sequence[str] = (),
        placed: str | None = None, keep: bool = False,
    ) -> bool:
        """Create a queue here and on the broker; True if it is new. An existing one gets ``metadata`` if given.

        ``roles`` are those of the caller, for what may be bridged. ``placed``: the pool that a new queue is put into;
        None for the one that its flavor and the pools' weights lead to. ``keep``: an existing queue keeps its metadata,
        and what is given is only checked. Raises QuotaExceeded.
        """
        key = queue_key(project, name)
        with locked_queue(self._store, key) as lock:
            found = self._store.catalogue.get_queue(key)
            # A queue that is created again serves the subscriptions of the last one of its name.
            subscriptions = self._copies.of(project, name) if found is None or found.notifies else []
            led = self._copies.fan_outs.into(project, name)
            pool = found.pool if found else placed or self._place(metadata or {}, [*subscriptions, *led])
            before = self._known.describe(project, name, found or Queue(name, b"{}", 0, key, pool))
            checked = None
            if metadata is not None:
                old = orjson.loads(found.metadata) if found else None
                checked = _not_its_own(project, name, self._known.rules_of(before.pool).check(metadata, old or {}))
                if keep and found is not None:
                    checked = None
                else:
                    self._check_bridging(project, name, roles, before.pool, old, checked)
                    _check_fifo(project, name, old, checked)
            data = None if checked is None else orjson.dumps(checked)
            after = before if data is None else self._known.describe(
                project, name, replace(found or Queue(name, b"{}", 0, key, pool), metadata=data)
            )
            if found is None:
                self._copies.fan_outs.check_creation([*subscriptions, *led])
            if found is None or (found.notifies and found.move is None):
                self._copies.check(after, subscriptions)
            with self._within_quota(project, name):
                create_on_broker(after)
                self._copies.prepare(after, subscriptions)
                # A queue is bound as it is created, or others would find it and post what nobody is told of.
                copies = self._copies.keys(subscriptions)
                created = self._store.catalogue.create_queue(key, data, pool, copies)
                self._open(key, after.pool, copies)
                if checked is not None and after.settings.binding is not None:
                    self._binder.add(key)
            for fan_out in (*led, *(subscription for subscription in subscriptions if subscription.target)):
                self._copies.fan_outs.join(fan_out)
            self._known.forget(project, name)
        if found is not None:
            _await_oblivion(before, after)
        elif after.is_delicate:
            # Gateways may remember the last queue of this name.
            _sleep(KNOWN_FOR + FORGOTTEN_MARGIN - (self._store.now() - lock.last) / 1000)
        return created

    def _place(self, metadata: Mapping[str, Any], subscriptions: Sequence[Subscription]) -> str:
        """The pool for a new queue: that of its subscriptions, if there are any.

        What a queue is bridged to is on one broker: the default one if no flavor says.
        """
        flavor = metadata.get("_flavor")
        if not isinstance(flavor, str):
            flavor = None
        kept_in = self._copies.pool_for(subscriptions, flavor)
        if kept_in is not None:
            return kept_in
        if flavor is None and metadata.get(KEY) is not None:
            return DEFAULT_POOL
        return self._pools.place(flavor)

    def _open(self, q: str, pool: Pool, copies: Sequence[str]) -> None:
        """Let messages land in a queue that has just been created, perhaps by a gateway that died before it did this.

        Raises Busy if its pool has been deleted meanwhile; then the queue is gone, too.
        """
        if pool is self._pools.default:
            return
        found = self._store.catalogue.get_queue(q)
        if found is None:
            return
        if found.move is None and not self._pools.exists(found.pool):
            self._store.catalogue.delete_queue(q)
            raise Busy(f"Pool {found.pool} has just been deleted; try again")
        pool.store.landed.open_queue(found.key, copies=copies)

    def _within_quota(self, project: str, name: str) -> AbstractContextManager[None]:
        """The right to create a queue, see QueueQuota.room."""
        if self._quota is None or project == HEALTH_PROJECT:
            return nullcontext()
        return self._quota.room(project, queue_key(project, name))

    def _check_bridging(
        self,
        project: str,
        name: str,
        roles: Sequence[str],
        pool: Pool,
        old: Mapping[str, Any] | None,
        new: Mapping[str, Any],
    ) -> None:
        """Raises Forbidden for what the caller may not bridge, Conflict when messages would change their source."""
        before, after = (old or {}).get(KEY), new.get(KEY)
        if before == after:
            return
        if is_topic_project(project):
            raise InvalidInput(f"A topic can't be bridged ({KEY})", "Invalid metadata")
        if after is not None:
            self._access.check(project, roles, pool.bridge.own_vhost(), pool.parse_bridging(after).uses())
            self._copies.fan_outs.check_bridged(project, name)
        if old is not None and (before or {}).get("source") != (after or {}).get("source"):
            raise Conflict("The source of a queue that exists can't be changed; delete the queue first")

    def exists(self, project: str, name: str) -> bool:
        """Is there such a queue now?"""
        return self._store.catalogue.get_queue(queue_key(project, name)) is not None

    def metadata(self, project: str, name: str) -> dict[str, Any]:
        """The metadata as clients see it; a queue that does not exist yet has the defaults, since queues are lazy."""
        return self._rules.show(self.stored_metadata(project, name) or {})

    def stored_metadata(self, project: str, name: str) -> dict[str, Any] | None:
        """The metadata as it was set, without defaults; None if there is no such queue."""
        found = self._store.catalogue.get_queue(queue_key(project, name))
        return None if found is None else orjson.loads(found.metadata)

    def patch(self, project: str, name: str, operations: Any, roles: Sequence[str] = ()) -> dict[str, Any]:
        """Change the metadata by a JSON patch; the result as clients see it. ``roles`` as for create."""
        return self._rules.show(self._change(project, name, lambda rules, old: rules.patch(old, operations), roles))

    def replace(self, project: str, name: str, metadata: Mapping[str, Any], roles: Sequence[str] = ()) -> None:
        """Replace the metadata of a queue that exists. Raises NotFound. ``roles`` as for create."""
        self._change(project, name, lambda rules, old: rules.check(metadata, old), roles)

    def _change(self, project: str, name: str, change: Change, roles: Sequence[str]) -> dict[str, Any]:
        """Give a queue the metadata that ``change`` makes of what it has; the new metadata."""
        key = queue_key(project, name)
        for _ in range(CHANGE_TRIES):
            found = self._store.catalogue.get_queue(key)
            if found is None:
                raise NotFound(f"{titled(project, name)} does not exist")
            old = orjson.loads(found.metadata)
            pool = self._known.pool_of(found)
            changed = _not_its_own(project, name, change(self._known.rules_of(pool), old))
            self._check_bridging(project, name, roles, pool, old, changed)
            _check_fifo(project, name, old, changed)
            if self._store.catalogue.replace_metadata(key, orjson.dumps(changed), found.version):
                self._known.forget(project, name)
                after = replace(found, metadata=orjson.dumps(changed))
                _await_oblivion(
                    self._known.describe(project, name, found), self._known.describe(project, name, after)
                )
                return changed
        raise Conflict(f"The metadata of {kind_of(project)} {name} is being changed by others; try again")

    def delete(self, project: str, name: str) -> None:
        """Remove a queue and all its messages; nothing happens when there is none. Raises Busy."""
        key = queue_key(project, name)
        with locked_queue(self._store, key) as lock:
            found = self._store.catalogue.get_queue(key)
            info = self._known.describe(project, name, found)
            if found is not None and found.move is not None and any(self._copies.records.of_source(project, name)):
                raise Busy(
                    f"Queue {name} is on its way to another pool with its subscriptions; delete it when it has arrived"
                )
            lock.check(DELETING)
            # The broker's first: a post that finds it missing creates the queue again, which has to wait for the lock.
            if info.copies_on_broker:
                info.bridge.delete(info.broker)
            self._store.catalogue.delete_queue(key)
            if info.pool is not self._pools.default:
                info.pool.store.landed.remove_queue(info.key)
            self._copies.fan_outs.part(info.key, self._copies.fan_outs.into(project, name))
            self._known.forget(project, name)
            if found is None:
                return  # nobody remembers it: who deleted it has kept the lock for so long
            if info.is_delicate or (info.notifies and info.reads.has_backlog):
                lock.keep = KNOWN_FOR + FORGOTTEN_MARGIN  # gateways that remember it must not post to the next one so
            elif info.reads.has_backlog:
                lock.keep = SEEN_FOR + FORGOTTEN_MARGIN  # nor land the next one's messages as this one's
        if info.settings.bridging is not None:
            _sleep(KNOWN_FOR + FORGOTTEN_MARGIN)  # nor read from or post to what it was bridged to


def _not_its_own(project: str, name: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata. Raises InvalidInput for a queue that would be its own dead-letter queue."""
    if metadata.get("_dead_letter_queue") == name and not is_topic_project(project):
        raise InvalidInput("A queue can't be its own _dead_letter_queue", "Invalid metadata")
    return metadata


def _check_fifo(project: str, name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> None:
    """Raises Conflict for a queue that exists and would become a FIFO queue, or none: what is claimed already, or waits
    in the broker, is not in the order that it would promise. ``old`` is None for a queue that does not exist.
    """
    is_fifo = new.get(FIFO) is True
    if is_fifo and is_topic_project(project):
        raise InvalidInput(f"A topic has no messages to keep in order ({FIFO})", "Invalid metadata")
    if old is not None and (old.get(FIFO) is True) != is_fifo:
        raise Conflict(
            f"Queue {name} was created {'without' if is_fifo else 'with'} {FIFO}, which can't be changed;"
            f" {'delete the queue first' if is_fifo else 'repeat it, or delete the queue first'}"
        )


def _await_oblivion(before: QueueInfo, after: QueueInfo) -> None:
    """Wait until no gateway can remember the queue as it was before, if that makes a difference to safety."""
    if before.delicate != after.delicate:
        _sleep(KNOWN_FOR + FORGOTTEN_MARGIN)


def _sleep(seconds: float) -> None:
    """Sleep for as long, and no longer than a gateway may remember a queue."""
    if seconds > 0:
        time.sleep(min(seconds, KNOWN_FOR + FORGOTTEN_MARGIN))
