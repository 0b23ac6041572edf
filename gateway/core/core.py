"""The core as a whole: its parts, and how they are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bridges.base import Bridge
from bridges.errors import BridgeUnavailable
from gateway.config.limits import Limits
from gateway.config.notifications import Notifications
from gateway.core.arrivals import Arrivals
from gateway.core.claims import Claims
from gateway.core.dead_letters import DeadLetters
from gateway.core.errors import InvalidInput
from gateway.core.foreign.access import AccessRules
from gateway.core.foreign.binding import Binder
from gateway.core.glances import Glances
from gateway.core.housekeeping import Housekeeper
from gateway.core.ids import IdMaker
from gateway.core.messages import Messages
from gateway.core.migration.admin import Migrations
from gateway.core.migration.views import Views
from gateway.core.migration.workers import Workers
from gateway.core.once.once import Once
from gateway.core.pools.admin import FlavorAdmin, PoolAdmin
from gateway.core.pools.guard import Guard
from gateway.core.pools.pool import DEFAULT_MAX_BODY, Pool
from gateway.core.pools.record import PoolRecord, PoolRecords
from gateway.core.pools.registry import Pools
from gateway.core.queues.admin import QueueAdmin
from gateway.core.queues.directory import Directory
from gateway.core.queues.known import KnownQueues
from gateway.core.queues.metadata import MetadataRules
from gateway.core.queues.quotas import QueueQuota
from gateway.core.seal import Seal
from gateway.core.sealing import Sealing
from gateway.core.subscriptions.admin import SubscriptionAdmin
from gateway.core.subscriptions.confirming import Confirmations, Sign
from gateway.core.subscriptions.connections import ConnectionSubscriptions
from gateway.core.subscriptions.copies import Copies
from gateway.core.subscriptions.holders import Holders
from gateway.core.subscriptions.live import LiveSubscriptions
from gateway.core.subscriptions.progress import SubscriptionProgress
from gateway.core.subscriptions.quotas import SubscriptionQuota
from gateway.core.subscriptions.records import SubscriptionRecords
from gateway.core.subscriptions.removal import SubscriptionRemoval
from gateway.core.subscriptions.rules import SubscriptionRules
from gateway.core.subscriptions.secrets import SubscriptionSecrets
from gateway.core.subscriptions.sources import Sources
from gateway.core.subscriptions.states import SubscriptionStates
from gateway.core.subscriptions.status import DeliveryStatuses
from gateway.core.subscriptions.testing import SubscriptionTests
from gateway.core.subscriptions.trusts import DeleteTrust, Trusts
from gateway.core.subscriptions.waiting import WaitingMessages
from gateway.observe.metrics import BRIDGE_CALLS, STORE_CALLS, timed
from storage.base import SideStore
from storage.errors import StoreUnavailable
from storage.model import DEFAULT_POOL

#: No queue may be bridged.
NOTHING_ALLOWED = AccessRules([], admin_mode=False)

#: Subscriptions as they are if nobody has configured anything.
NO_NOTIFICATIONS = Notifications()

#: Threads that answer requests, unless the operator sets another number.
THREADS = 8

#: Makes the drivers of a pool from its URI and options; None is the service's own side-store. Raises what is wrong.
OpenDrivers = Callable[[str, Mapping[str, Any]], tuple[Bridge, SideStore | None]]


def no_drivers(uri: str, options: Mapping[str, Any]) -> tuple[Bridge, SideStore | None]:
    """For a core without any pool but the default."""
    raise InvalidInput("this service has no drivers for more pools")


class Core:
    """Everything that the HTTP layer calls. ``bridge`` and ``store`` belong to it: close() closes them.

    ``access``: what may be bridged; ``max_body``: largest body of a native message in bytes; ``max_queues``: how many
    queues a project may have, 0 for any number; ``open_drivers``: those of more pools; ``threads`` answer requests;
    ``sign`` signs the requests to confirm subscriptions, None if there is no key; ``delete_trust``: None if there is no
    identity service.
    """

    def __init__(
        self,
        bridge: Bridge,
        store: SideStore,
        limits: Limits,
        seal: Seal | None = None,
        access: AccessRules = NOTHING_ALLOWED,
        max_body: int = DEFAULT_MAX_BODY,
        max_queues: int = 0,
        open_drivers: OpenDrivers = no_drivers,
        threads: int = THREADS,
        notifications: Notifications = NO_NOTIFICATIONS,
        sign: Sign | None = None,
        delete_trust: DeleteTrust | None = None,
    ):
        self.limits = limits
        self.ids = IdMaker()
        seal = seal or Seal()
        self._sealing = self.sealing = Sealing(seal)
        #: What those who wait are told of, and how they look.
        self.arrivals = Arrivals()
        #: What else is called from time to time, by the thread that looks after the pools.
        self.also_tend: Callable[[], None] | None = None
        self._max_body = max_body
        self._open_drivers = open_drivers
        self._at_once = max(1, threads // 2)
        self.pool = self._watched(DEFAULT_POOL, bridge, store)
        queue_store = self.pool.store
        records = PoolRecords(queue_store, seal)
        self.all_pools = Pools(self.pool, records, self._open_pool)
        self.subscription_records = SubscriptionRecords(queue_store.catalogue, seal)
        self.pools = PoolAdmin(queue_store, records, self.all_pools, self._open_pool, self.subscription_records)
        self.flavors = FlavorAdmin(queue_store, records, self.all_pools)
        rules = MetadataRules(limits, bool(seal.key), self.pool.parse_bridging, records.has_flavor)
        quota = QueueQuota(max_queues, queue_store) if max_queues else None
        self.copies = Copies(self.subscription_records, self.all_pools)
        self._known = KnownQueues(self.all_pools, queue_store, rules)
        self._known.views = Views(
            queue_store, self.all_pools, self.ids, self._sealing, max_body, self._known.is_elsewhere,
            self._known.document,
        )
        self._binder = Binder(queue_store, self._known.describe, self.copies)
        self.queues = QueueAdmin(
            queue_store, self.all_pools, self._known, rules, access, quota, self._binder, self.copies
        )
        self.directory = Directory(queue_store, self._known, self.queues, self._binder)
        self.glances = Glances(self._known)
        dead_letters = DeadLetters(self.directory, self.ids)
        self.claims = Claims(self.directory, dead_letters, self._sealing, limits)
        once = Once(queue_store.catalogue, self.now, self.ids, limits)
        self.messages = Messages(self.directory, dead_letters, limits, self.ids, self._sealing, once)
        self._subscribe(queue_store, notifications, sign, Trusts(queue_store.catalogue, delete_trust))
        self._workers = Workers(queue_store, self.all_pools, records, self._known, self.copies)
        self.migrations = Migrations(queue_store, self.all_pools, records, self._known, self.copies, self._workers)
        self._housekeeper = Housekeeper(self.all_pools, self._tend)

    def _subscribe(
        self, store: SideStore, notifications: Notifications, sign: Sign | None, trusts: Trusts
    ) -> None:
        """Put together what subscriptions need."""
        pools, records, limits = self.all_pools, self.subscription_records, self.limits
        self.delivery_statuses = DeliveryStatuses(store.catalogue)
        live = LiveSubscriptions(pools, records)
        self.confirmations = confirmations = Confirmations(pools, notifications, sign)
        sources = Sources(
            store, self._known, self.copies, self._binder,
            lambda project, name, pool: self.queues.create(project, name, None, placed=pool),
        )
        self.subscription_states = SubscriptionStates(live, sources, confirmations)
        self.subscriptions = SubscriptionAdmin(
            live, records, sources, SubscriptionRules(limits, notifications), self.subscription_states,
            SubscriptionQuota(store, records, notifications, confirmations.are_required), self.ids, trusts,
        )
        holders = Holders(store.catalogue, store.now, notifications.connection_lease)
        self.subscription_removal = SubscriptionRemoval(
            live, records, self.delivery_statuses, sources, trusts, holders
        )
        self.connections = ConnectionSubscriptions(self.subscriptions, live, self.subscription_removal, holders)
        self.subscription_secrets = SubscriptionSecrets(live)
        self.subscription_tests = SubscriptionTests(live, store.catalogue)
        self.subscription_waiting = WaitingMessages(pools, live, self.directory, self.messages, self._sealing, limits)
        self.subscription_progress = SubscriptionProgress(
            live, self.delivery_statuses, self.subscription_waiting, notifications, self.queues.metadata
        )

    def _watched(self, name: str, bridge: Bridge, store: SideStore | None) -> Pool:
        """A pool whose calls are timed and guarded. Without a ``store`` it has the service's own.

        Nobody guards that: without it no queue of any pool is found.
        """
        guards = [Guard(name, self._at_once, BridgeUnavailable)]
        watched_bridge = timed(bridge, BRIDGE_CALLS, name, guards[0])
        if store is None:
            watched_store = self.pool.store
        else:
            guard = None
            if name != DEFAULT_POOL:
                guard = Guard(name, self._at_once, StoreUnavailable)
                guards.append(guard)
            watched_store = timed(store, STORE_CALLS, name, guard, parts=("catalogue", "landed"))
        return Pool(
            name, watched_bridge, watched_store, self.ids, self._sealing, self._max_body, self._is_elsewhere,
            tuple(guards), shares_store=store is None, arrivals=self.arrivals,
        )

    def _is_elsewhere(self, info: Any) -> bool:
        return self._known.is_elsewhere(info)

    def _open_pool(self, record: PoolRecord) -> Pool:
        bridge, store = self._open_drivers(record.uri, record.options)
        if store is not None and store.describe() == self.pool.store.describe():
            store.close()
            store = None
        return self._watched(record.name, bridge, store)

    def _tend(self) -> None:
        if any(pool.can_adopt for pool in self.all_pools.opened()):
            self._binder.tend()
        self._workers.tend()
        self.subscription_removal.tend()
        self.all_pools.tend()
        if self.also_tend is not None:
            self.also_tend()

    def now(self) -> int:
        """Milliseconds since the epoch on the clock that all gateways share. Never blocks."""
        now: int = self.pool.store.now()
        return now

    def stop(self) -> None:
        """End what works by itself; calls are still answered."""
        self._housekeeper.close()
        self._binder.close()
        self._workers.stop()

    def close(self) -> None:
        """End the housekeeping and give all connections back."""
        self.stop()
        self._workers.close()
        self.all_pools.close()
