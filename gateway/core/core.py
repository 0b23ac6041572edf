"""The core as a whole: one bridge, one side-store, and what works on them."""

from __future__ import annotations

import base64
import binascii
import logging
import threading
from typing import Any

from bridges.base import Bridge
from gateway.core.bridging import AccessRules
from gateway.core.claims import Claims
from gateway.core.dead_letters import DeadLetters
from gateway.core.ids import IdMaker
from gateway.core.landing import Landing
from gateway.core.limits import Limits
from gateway.core.messages import Messages
from gateway.core.metadata import MetadataRules
from gateway.core.publishing import Publishing
from gateway.core.queues import Queues
from gateway.core.quotas import QueueQuota
from gateway.core.seal import KEY_SIZE, Seal
from gateway.metrics import BRIDGE_CALLS, CONNECTIONS, MESSAGES, STORE_CALLS, timed
from storage.base import SideStore
from storage.errors import StoreError

LOG = logging.getLogger(__name__)

#: No queue may be bridged.
NOTHING_ALLOWED = AccessRules([], admin_mode=False)

#: Bytes of a native message's body at the most, unless the operator says otherwise.
DEFAULT_MAX_BODY = 1024 * 1024

#: Seconds between two looks at the number of open connections.
SAMPLING = 5.0

#: The side-store's own housekeeping happens every so many looks: about once a minute.
MAINTAIN_EVERY = 12


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
        self.store: Any = timed(store, STORE_CALLS)
        self.limits = limits
        ids = IdMaker()
        rules = MetadataRules(limits, can_encrypt=seal is not None, can_bridge=bridge.reaches_foreign)
        quota = QueueQuota(max_queues, self.store) if max_queues else None
        self.queues = Queues(self.bridge, self.store, rules, access, quota)
        publishing = Publishing(self.bridge, self.store, self.queues)
        landing = Landing(self.bridge, self.store, ids, max_body)
        dead_letters = DeadLetters(self.store, self.queues, publishing, ids)
        self.claims = Claims(self.store, self.queues, landing, dead_letters, limits)
        self.messages = Messages(
            self.store, self.queues, publishing, landing, self.claims, limits, ids, seal
        )
        self._closing = threading.Event()
        self._housekeeper = threading.Thread(target=self._keep_house, name="housekeeper", daemon=True)
        self._housekeeper.start()

    def _keep_house(self) -> None:
        rounds = 0
        self._tend()
        while not self._closing.wait(SAMPLING):
            self._tend()
            CONNECTIONS.labels("broker").set(self.bridge.connections())
            CONNECTIONS.labels("side-store").set(self.store.connections())
            rounds += 1
            if rounds % MAINTAIN_EVERY == 0:
                try:
                    MESSAGES.labels("expired").inc(self.store.maintain())
                except StoreError as error:
                    LOG.warning("housekeeping: %s", error)
                except Exception:  # it must go on whatever happened once
                    LOG.exception("housekeeping failed")

    def _tend(self) -> None:
        if self.bridge.reaches_foreign:
            self.queues.binder.tend()

    def close(self) -> None:
        """End the housekeeping and give all connections back."""
        self._closing.set()
        self.queues.binder.close()
        self.bridge.close()
        self.store.close()


def read_key(text: str) -> bytes:
    """The encryption key from its configured form. Raises ValueError."""
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"[encryption] key is not base64: {error}") from error
    if len(key) != KEY_SIZE:
        raise ValueError(f"[encryption] key has {len(key)} bytes, not {KEY_SIZE}")
    return key
