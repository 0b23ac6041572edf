"""Fan-out: a queue that is subscribed to another one gets what is posted there, by the same write.

The source's copies go straight into the target's own queue on the broker, and under the target's own key in the landed
store. So no worker delivers them, and they go no further: a post to the target is what its subscriptions are told of,
and a copy is none. The target outlives the subscription, and a target that is created again is led into again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress

import orjson

from bridges.bridging import KEY
from gateway.core.errors import Busy, Conflict, InvalidInput
from gateway.core.pools.pool import Pool
from gateway.core.pools.registry import Pools
from gateway.core.queues.lock import Lock, locked
from gateway.core.queues.names import broker_name, kind_of, queue_key, titled
from gateway.core.subscriptions.record import UNCONFIRMED, Subscription, split_subscription, subscription_name
from gateway.core.subscriptions.records import SubscriptionRecords
from storage.errors import QueueGone
from storage.model import Queue

#: Kind of the records that tell who leads into a queue. They are named like subscriptions of the target, and their data
#: has the source.
TARGET = "target"

#: Records read at once: a queue has few sources.
PAGE = 100


class FanOuts:
    """Leads queues into others.

    Both ends may be deleted and created again at any time: whoever has created one of them calls ``join``, after that,
    and so sees the other if that is there.
    """

    def __init__(self, records: SubscriptionRecords, pools: Pools):
        self._store = pools.default.store
        self._records = records
        self._pools = pools

    # -- looking ------------------------------------------------------------------------------------------------

    def into(self, project: str, target: str) -> list[Subscription]:
        """The subscriptions that lead into a queue, whether or not they have led there yet."""
        now = self._store.now()
        found: list[Subscription] = []
        prefix = last = subscription_name(project, target)
        while page := self._store.catalogue.list_records(TARGET, last, PAGE):
            for record in page:
                if not record.name.startswith(prefix):
                    return found
                owner, name, id_ = split_subscription(record.name)
                if (owner, name) == (project, target):
                    source = orjson.loads(record.data)
                    subscription = self._records.get(source["project"], source["source"], id_)
                    if subscription is not None and not subscription.has_expired(now):
                        found.append(subscription)
            last = page[-1].name
        return found

    def key(self, subscription: Subscription) -> str | None:
        """What the target's messages are kept under in the subscription's pool; None if it is not there."""
        found = self._document(subscription.client_project, subscription.target)
        return found.key if found is not None and found.pool == subscription.pool else None

    def check_bridged(self, project: str, name: str) -> None:
        """Raises Conflict if a queue that is to be bridged is led into: its messages are other people's then."""
        for found in self.into(project, name):
            raise Conflict(
                f"Queue {name} gets what is posted to {kind_of(found.project)} {found.source}; delete that subscription"
                " before you bridge it"
            )

    def ties(self, project: str, name: str) -> Iterator[tuple[Subscription, Queue]]:
        """The subscriptions by which a queue feeds others or is fed by them, with the other one's document; those
        apart whose other queue does not exist.
        """
        now = self._store.now()
        for found in self._records.of_source(project, name):
            if found.target and not found.has_expired(now):
                other = self._document(found.client_project, found.target)
                if other is not None:
                    yield found, other
        for found in self.into(project, name):
            if (other := self._document(found.project, found.source)) is not None:
                yield found, other

    def check_move(self, project: str, name: str, pool: str) -> None:
        """Raises Conflict for a queue that can't move to a pool, since what it feeds or is fed by is elsewhere."""
        for found, other in self.ties(project, name):
            if other.move is not None or other.pool != pool:
                raise Conflict(
                    f"{titled(found.project, found.source)} feeds queue {found.target} (subscription {found.id}), and a"
                    f" broker copies messages into its own queues alone; delete this subscription before queue {name}"
                    " moves, and create it again when both are in one pool"
                )

    def check_creation(self, subscriptions: Sequence[Subscription]) -> None:
        """Raises Busy for one of two queues that is not there while the other one moves."""
        for found in subscriptions:
            ends = (found.project, found.source), (found.client_project, found.target)
            for end in ends if found.target else ():
                other = self._document(*end)
                if other is not None and other.move is not None:
                    raise Busy(
                        f"{titled(found.project, found.source)} feeds queue {found.target}, and one of the two is on"
                        " its way to another pool; create the other one when it has arrived"
                    )

    def check(self, subscription: Subscription) -> None:
        """Raises InvalidInput for a target that can't get what is posted to the source, and Busy while it moves."""
        target = self._document(subscription.client_project, subscription.target)
        if target is None:
            return
        if target.move is not None:
            raise Busy(f"Queue {subscription.target} is on its way to another pool; try again when it has arrived")
        if target.pool != subscription.pool:
            raise InvalidInput(
                f"Queue {subscription.target} is in another pool than {kind_of(subscription.project)}"
                f" {subscription.source}: a broker copies messages into its own queues alone"
            )
        if orjson.loads(target.metadata).get(KEY) is not None:
            raise InvalidInput(
                f"Queue {subscription.target} is bridged ({KEY}): it can't get what is posted elsewhere"
            )

    def _document(self, project: str, name: str) -> Queue | None:
        return self._store.catalogue.get_queue(queue_key(project, name))

    def _locked(self, subscription: Subscription) -> AbstractContextManager[Lock]:
        """The right to change what leads into a target. Whoever has it waits for no other lock.

        No project has a control character in its name.
        """
        name = f"\x00fan-out/{queue_key(subscription.client_project, subscription.target)}"
        return locked(self._store, name, "others subscribe this queue or create it; try again")

    # -- changing -----------------------------------------------------------------------------------------------

    def prepare(self, pool: Pool, subscription: Subscription) -> None:
        """Let what is published to the source be copied, on the broker of its pool; into the target if that is there.

        The source's document need not exist yet.
        """
        if pool.bridge.has_backlog:
            pool.bridge.add_copy(*_on_broker(subscription), create=False)

    def begin(self, subscription: Subscription) -> None:
        """Lead into the target what is posted to the source, or do so when both queues are there.

        Raises InvalidInput for a target that can't be one, and Busy while it moves to another pool.
        """
        source = {"project": subscription.project, "source": subscription.source}
        with self._locked(subscription):
            # Whoever begins to move a queue looks for such a record after that, so one of the two sees the other.
            self._store.catalogue.put_record(TARGET, _name(subscription), orjson.dumps(source))
            self.check(subscription)
            self._lead(subscription)

    def join(self, subscription: Subscription) -> None:
        """Lead into the target as ``begin`` does, if that has been done and not been ended, and both queues are there.

        It is called when one of the two has been created.
        """
        with self._locked(subscription):
            found = self._records.get(subscription.project, subscription.source, subscription.id)
            if found is None or found.has_expired(self._store.now()) or not (
                found.bound or found.state == UNCONFIRMED
            ):
                return
            self._lead(found)

    def _lead(self, subscription: Subscription) -> None:
        """On the broker and in the landed store; nothing happens if one of the two queues is not there."""
        source = self._document(subscription.project, subscription.source)
        target = self.key(subscription)
        if source is not None and source.pool == subscription.pool and target is not None:
            pool = self._pools.get(subscription.pool)
            self.prepare(pool, subscription)
            with suppress(QueueGone):  # whoever creates it again joins them
                pool.store.landed.bind(source.key, target)

    def end(self, pool: Pool, subscription: Subscription) -> None:
        """Lead into the target no longer. What is there stays."""
        with self._locked(subscription):
            others = self.into(subscription.client_project, subscription.target)
            # The scheme may be written in another way, too: MARCONI:queue is another subscriber.
            if not any(
                other.source_path == subscription.source_path and other.id != subscription.id and other.bound
                for other in others
            ):
                if pool.bridge.has_backlog:
                    pool.bridge.remove_copy(*_on_broker(subscription), keep=True)
                source = self._document(subscription.project, subscription.source)
                for key in self.key(subscription), subscription.key:  # the latter may stand for it, see Copies.keys
                    if source is not None and key is not None:
                        pool.store.landed.unbind(source.key, key)
            self._store.catalogue.delete_record(TARGET, _name(subscription))

    def part(self, target_key: str, subscriptions: Sequence[Subscription]) -> None:
        """The target with this key is gone: forget the key. The broker has forgotten its queue by itself."""
        for subscription in subscriptions:
            source = self._document(subscription.project, subscription.source)
            if source is not None:
                self._pools.get(subscription.pool).store.landed.unbind(source.key, target_key)


def _on_broker(subscription: Subscription) -> tuple[str, str]:
    """Names of both queues on the broker."""
    return (
        broker_name(subscription.project, subscription.source),
        broker_name(subscription.client_project, subscription.target),
    )


def _name(subscription: Subscription) -> str:
    """Of the record of kind TARGET."""
    return subscription_name(subscription.client_project, subscription.target, subscription.id)
