"""The queues that subscriptions are for, as those who subscribe and unsubscribe need them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from gateway.core.errors import Busy
from gateway.core.foreign.binding import Binder
from gateway.core.queues.info import QueueInfo, Reads
from gateway.core.queues.known import KnownQueues
from gateway.core.queues.lock import locked_queue
from gateway.core.queues.names import client_project, queue_key, titled
from gateway.core.queues.remembering import KNOWN_FOR
from gateway.core.subscriptions.copies import Copies, check_source, place_of
from gateway.core.subscriptions.record import Subscription
from storage.base import SideStore
from storage.model import Queue

#: Seconds on top of KNOWN_FOR after which no gateway can still post as if a queue had no subscription.
MARGIN = 0.1

MOVING = "{} is on its way to another pool; try again when it has arrived"

#: Times that a subscriber looks for a queue which others delete meanwhile.
LOOKS = 20


class Source:
    """A queue under its lock. ``info``: None if it does not exist."""

    def __init__(self, sources: Sources, key: str, info: QueueInfo | None):
        self._sources = sources
        self._key = key
        self.info = info

    def place(self, subscription: Subscription) -> Subscription:
        """A new subscription with where its delivery queue will be. Raises InvalidInput if there can't be one."""
        if self.info is None:
            return subscription
        check_source(self.info, subscription)
        pool, vhost = place_of(self.info)
        placed = replace(subscription, pool=pool, vhost=vhost)
        if placed.target:
            self._sources.copies.fan_outs.check(placed)
        return placed

    def bind(self, subscription: Subscription) -> Subscription:
        """Copy what is posted for a subscription; how it is to be recorded as bound. Raises InvalidInput.

        If there is no queue now, the next one of its name is bound when it is created.
        """
        return self._sources.bind(self._key, self.info, subscription)

    def recorded(self, subscription: Subscription) -> None:
        """What ``bind`` has returned is recorded."""
        if subscription.target:  # which may have been created again when the record did not say so yet
            self._sources.copies.fan_outs.join(subscription)


class Sources:
    """Finds queues, and binds subscriptions to them. ``create``: creates a queue of a project, if there is none, in the
    pool of that name, or None for any.
    """

    def __init__(
        self, store: SideStore, known: KnownQueues, copies: Copies, binder: Binder,
        create: Callable[[str, str, str | None], object],
    ):
        self._store = store
        self._known = known
        self.copies = copies
        self._binder = binder
        self._create = create

    @contextmanager
    def held(self, project: str, name: str) -> Iterator[Source]:
        """A queue that nobody creates, deletes or subscribes to meanwhile. Raises Busy, also while it moves."""
        key = queue_key(project, name)
        with locked_queue(self._store, key):
            yield self._source(project, name, key, self._store.catalogue.get_queue(key))

    @contextmanager
    def ensured(self, project: str, name: str) -> Iterator[Source]:
        """As held; the queue is created if there is none. Raises what creating a queue raises."""
        key = queue_key(project, name)
        for _ in range(LOOKS):
            if self._store.catalogue.get_queue(key) is None:
                self._create(project, name, None)
            with locked_queue(self._store, key):
                found = self._store.catalogue.get_queue(key)
                if found is not None:
                    yield self._source(project, name, key, found)
                    return
        raise Busy(f"{titled(project, name)} is being deleted by others; try again")

    def ensure_target(self, project: str, source: str, target: str) -> None:
        """Create the queue that is to get what is posted to another one, if there is none, and the other one.

        Both are in one pool then, unless they have been in two before. Raises what creating a queue raises.
        """
        ends = (project, source), (client_project(project), target)
        for end, other in (ends, ends[::-1]):
            if self._store.catalogue.get_queue(queue_key(*end)) is None:
                found = self._store.catalogue.get_queue(queue_key(*other))
                self._create(*end, found.pool if found is not None else None)

    def _source(self, project: str, name: str, key: str, found: Queue | None) -> Source:
        if found is not None and found.move is not None:
            raise Busy(MOVING.format(titled(project, name)))
        return Source(self, key, self._known.describe(project, name, found) if found is not None else None)

    def bind(self, key: str, info: QueueInfo | None, subscription: Subscription) -> Subscription:
        """See Source.bind. Returns when every gateway copies what it posts."""
        if info is None:
            if subscription.target:
                self.copies.fan_outs.begin(subscription)
            return replace(subscription, bound=True)
        check_source(info, subscription)
        found = self._known.document(info)
        if found is not None and found.move is not None:  # since we have recorded the subscription
            raise Busy(MOVING.format(titled(info.project, info.name)))
        bound = self.copies.bind(info, subscription)
        if not info.notifies:
            self._store.catalogue.set_notifies(key)
            self._known.forget(info.project, info.name)
            if info.reads is Reads.OWN_QUEUE:  # without a broker it is the side-store that makes the copies
                time.sleep(KNOWN_FOR + MARGIN)
        if info.settings.binding is not None:
            self._binder.add(key)  # all gateways read again what is bound to the exchange
        return bound

    def settle(self, project: str, name: str) -> None:
        """Have posts to a queue cost what they did before its first subscription, if there is none any more.

        A gateway that remembers another state goes on to make copies, for nobody. Whoever subscribes next waits again.
        """
        with self.held(project, name) as source:
            info = source.info
            if info is not None and info.notifies and not self.copies.has_records(project, name):
                self._store.catalogue.set_notifies(queue_key(project, name), False)
                self._known.forget(project, name)

    def drop(self, source: Source, subscription: Subscription) -> None:
        """Copy nothing any more, and drop what waits. Raises BridgeError, StoreError, Busy."""
        self.copies.unbind(source.info, subscription)

    def remove(self, subscription: Subscription) -> None:
        """Remove all that is kept for a subscription but its records. Raises BridgeError, StoreError, Busy."""
        with self.held(subscription.project, subscription.source) as source:
            self.copies.remove(source.info, subscription)
