"""The core as a whole: one bridge, one side-store, and what works on them."""

from __future__ import annotations

from typing import Any

from bridges.base import Bridge
from gateway.config.limits import Limits
from gateway.core.bridging import AccessRules
from gateway.core.claims import Claims
from gateway.core.dead_letters import DeadLetters
from gateway.core.housekeeping import Housekeeper
from gateway.core.ids import IdMaker
from gateway.core.landing import Landing
from gateway.core.messages import Messages
from gateway.core.metadata import MetadataRules
from gateway.core.publishing import Publishing
from gateway.core.queues import Queues
from gateway.core.quotas import QueueQuota
from gateway.core.seal import Seal
from gateway.core.sealing import Sealing
from gateway.observe.metrics import BRIDGE_CALLS, STORE_CALLS, timed
from storage.base import SideStore

#: No queue may be bridged.
NOTHING_ALLOWED = AccessRules([], admin_mode=False)

#: Bytes of a native message's body at the most, unless the operator says otherwise.
DEFAULT_MAX_BODY = 1024 * 1024


class Core:
    """Everything behind the HTTP layer. ``bridge`` and ``store`` belong to it: close() closes them.

    ``access``: what may be bridged; ``max_body``: bytes of a native message's body at the most;
    ``max_queues``: queues of a project at the most, 0 for any number.
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
        self.bridge: Any = timed(bridge, BRIDGE_CALLS)
        self.store: Any = timed(store, STORE_CALLS, parts=("catalogue", "landed"))
        self.limits = limits
        ids = IdMaker()
        seal = seal or Seal()
        sealing = Sealing(seal, self.store)
        rules = MetadataRules(limits, can_encrypt=bool(seal.key), can_bridge=bridge.reaches_foreign)
        quota = QueueQuota(max_queues, self.store) if max_queues else None
        self.queues = Queues(self.bridge, self.store, rules, access, quota)
        publishing = Publishing(self.bridge, self.store)
        landing = Landing(self.bridge, self.store, ids, max_body, sealing)
        dead_letters = DeadLetters(self.store, self.queues, publishing, ids)
        self.claims = Claims(self.store, self.queues, landing, dead_letters, limits)
        self.messages = Messages(
            self.store, self.queues, publishing, landing, self.claims, limits, ids, sealing
        )
        self._housekeeper = Housekeeper(self.bridge, self.store, self._tend)

    def _tend(self) -> None:
        if self.bridge.reaches_foreign:
            self.queues.binder.tend()

    def close(self) -> None:
        """End the housekeeping and give all connections back."""
        self._housekeeper.close()
        self.queues.binder.close()
        self.bridge.close()
        self.store.close()
