"""What has to be done from time to time, by a thread that nothing ends but ``close``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from gateway.core.pool import Pool
from gateway.observe.beside import beside
from gateway.observe.fast_paths import FAST_CONFIRMS
from gateway.observe.metrics import CONNECTIONS, FAST_PATH_FALLBACKS, MESSAGES
from storage.errors import StoreError

LOG = logging.getLogger(__name__)

#: Seconds between two looks at the number of open connections.
SAMPLING = 5.0

#: The side-store's own housekeeping happens every so many looks: about once a minute.
MAINTAIN_EVERY = 12


class Housekeeper:
    """Looks after a pool. ``tend``: what else is to be done, at the start and at each look."""

    def __init__(self, pool: Pool, tend: Callable[[], None] | None = None):
        self._pool = pool
        self._tend = tend
        self._closing = threading.Event()
        #: How often the bridge had fallen back at the last look.
        self._fallbacks = 0
        threading.Thread(target=self._run, name="housekeeper", daemon=True).start()

    def _run(self) -> None:
        rounds = 0
        self._look_after_the_rest()
        while not self._closing.wait(SAMPLING):
            self._look_after_the_rest()
            with beside("counting connections"):
                CONNECTIONS.labels("broker").set(self._pool.bridge.connections())
                CONNECTIONS.labels("side-store").set(self._pool.store.connections())
                fallbacks = self._pool.bridge.fallbacks()
                FAST_PATH_FALLBACKS.labels(FAST_CONFIRMS).inc(fallbacks - self._fallbacks)
                self._fallbacks = fallbacks
            rounds += 1
            if rounds % MAINTAIN_EVERY == 0:
                with beside("housekeeping"):
                    self._maintain()

    def _look_after_the_rest(self) -> None:
        if self._tend is not None:
            with beside("tending"):
                self._tend()

    def _maintain(self) -> None:
        try:
            MESSAGES.labels("expired").inc(self._pool.store.maintain())
        except StoreError as error:
            LOG.warning("housekeeping: %s", error)

    def close(self) -> None:
        """End it; a round that has begun may still come to its end."""
        self._closing.set()
