"""What has to be done from time to time, by a thread that nothing ends but ``close``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from gateway.observe.beside import beside
from gateway.observe.metrics import CONNECTIONS, FALLBACKS, MESSAGES
from storage.errors import StoreError

LOG = logging.getLogger(__name__)

#: Seconds between two looks at the number of open connections.
SAMPLING = 5.0

#: The side-store's own housekeeping happens every so many looks: about once a minute.
MAINTAIN_EVERY = 12


class Housekeeper:
    """Looks after a bridge and a side-store. ``tend``: what is to be done at the start and at each look."""

    def __init__(self, bridge: Any, store: Any, tend: Callable[[], None] = lambda: None):
        self._bridge = bridge
        self._store = store
        self._tend = tend
        self._closing = threading.Event()
        threading.Thread(target=self._run, name="housekeeper", daemon=True).start()

    def _run(self) -> None:
        rounds = 0
        with beside("tending"):
            self._tend()
        while not self._closing.wait(SAMPLING):
            with beside("tending"):
                self._tend()
            with beside("counting connections"):
                CONNECTIONS.labels("broker").set(self._bridge.connections())
                CONNECTIONS.labels("side-store").set(self._store.connections())
                FALLBACKS.labels("broker").set(self._bridge.fallbacks())
            rounds += 1
            if rounds % MAINTAIN_EVERY == 0:
                with beside("housekeeping"):
                    self._maintain()

    def _maintain(self) -> None:
        try:
            MESSAGES.labels("expired").inc(self._store.maintain())
        except StoreError as error:
            LOG.warning("housekeeping: %s", error)

    def close(self) -> None:
        """End it; a round that has begun may still come to its end."""
        self._closing.set()
