"""The core as a whole: its parts, and how they are put together."""

from __future__ import annotations

from bridges.base import Bridge
from gateway.config.limits import Limits
from gateway.core.claims import Claims
from gateway.core.dead_letters import DeadLetters
from gateway.core.foreign.access import AccessRules
from gateway.core.foreign.binding import Binder
from gateway.core.housekeeping import Housekeeper
from gateway.core.ids import IdMaker
from gateway.core.messages import Messages
from gateway.core.pool import DEFAULT_MAX_BODY, DEFAULT_POOL, Pool
from gateway.core.queues.admin import QueueAdmin
from gateway.core.queues.directory import Directory
from gateway.core.queues.known import KnownQueues
from gateway.core.queues.metadata import MetadataRules
from gateway.core.queues.quotas import QueueQuota
from gateway.core.seal import Seal
from gateway.core.sealing import Sealing
from storage.base import SideStore

#: No queue may be bridged.
NOTHING_ALLOWED = AccessRules([], admin_mode=False)


class Core:
    """Everything that the HTTP layer calls. ``bridge`` and ``store`` belong to it: close() closes them.

    ``access``: what may be bridged; ``max_body``: largest body of a native message in bytes; ``max_queues``: how many
    queues a project may have, 0 for any number.
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
    ):
        self.limits = limits
        self.ids = IdMaker()
        seal = seal or Seal()
        sealing = Sealing(seal)
        self.pool = Pool(DEFAULT_POOL, bridge, store, self.ids, sealing, max_body)
        queue_store = self.pool.store
        rules = MetadataRules(limits, can_encrypt=bool(seal.key), can_bridge=self.pool.can_adopt)
        quota = QueueQuota(max_queues, queue_store) if max_queues else None
        known = KnownQueues(self.pool, queue_store, rules)
        self._binder = Binder(queue_store, known.describe)
        self.queues = QueueAdmin(queue_store, known, rules, access, quota, self._binder)
        self.directory = Directory(queue_store, known, self.queues, self._binder)
        dead_letters = DeadLetters(self.directory, self.ids)
        self.claims = Claims(self.directory, dead_letters, sealing, limits)
        self.messages = Messages(self.directory, dead_letters, limits, self.ids, sealing)
        self._housekeeper = Housekeeper(self.pool, self._binder.tend if self.pool.can_adopt else None)

    def now(self) -> int:
        """Milliseconds since the epoch on the clock that all gateways share. Never blocks."""
        now: int = self.pool.store.now()
        return now

    def stop(self) -> None:
        """End what works by itself; calls are still answered."""
        self._housekeeper.close()
        self._binder.close()

    def close(self) -> None:
        """End the housekeeping and give all connections back."""
        self.stop()
        self.pool.close()
