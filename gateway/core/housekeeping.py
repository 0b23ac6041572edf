"""What has to be done from time to time, by a thread that nothing ends but ``close``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from gateway.core.fifo.blocked import BLOCKED
from gateway.core.pools.pool import Pool
from gateway.core.pools.registry import Pools
from gateway.observe.beside import beside
from gateway.observe.fast_paths import DIRECT_COMMANDS, FAST_CONFIRMS
from gateway.observe.metrics import CONNECTIONS, FAST_PATH_FALLBACKS, MESSAGES
from storage.errors import StoreError

LOG = logging.getLogger(__name__)

#: Seconds between two looks at the number of open connections.
SAMPLING = 5.0

#: The side-store's own housekeeping happens every so many looks: about once a minute.
MAINTAIN_EVERY = 12


class Housekeeper:
    """Looks after all pools. ``tend``: what else is to be done, at the start and at each look."""

    def __init__(self, pools: Pools, tend: Callable[[], None] | None = None):
        self._pools = pools
        self._tend = tend
        self._closing = threading.Event()
        #: How often the drivers had fallen back at the last look, by what was asked.
        self._fallbacks: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        threading.Thread(target=self._run, name="housekeeper", daemon=True).start()

    def _run(self) -> None:
        rounds = 0
        self._look_after_the_rest()
        while not self._closing.wait(SAMPLING):
            self._look_after_the_rest()
            with beside("counting connections"):
                self._count(self._pools.opened())
            with beside("counting blocked groups"):
                BLOCKED.show()
            rounds += 1
            if rounds % MAINTAIN_EVERY == 0:
                with beside("housekeeping"):
                    self._maintain()

    def _count(self, pools: Sequence[Pool]) -> None:
        for pool in pools:
            CONNECTIONS.labels(pool.name, "broker").set(pool.bridge.connections())
            if not pool.shares_store:
                CONNECTIONS.labels(pool.name, "side-store").set(pool.store.connections())
                self._count_fallbacks(DIRECT_COMMANDS, pool, pool.store.fallbacks())
        # Each bridge counts those of the process.
        self._count_fallbacks(FAST_CONFIRMS, self, max(pool.bridge.fallbacks() for pool in pools))

    def _count_fallbacks(self, option: str, of: object, now: int) -> None:
        FAST_PATH_FALLBACKS.labels(option).inc(now - self._fallbacks.get(of, 0))
        self._fallbacks[of] = now

    def _look_after_the_rest(self) -> None:
        if self._tend is not None:
            with beside("tending"):
                try:
                    self._tend()
                except StoreError as error:  # it is down, as requests say louder, or has just been closed
                    LOG.debug("tending: %s", error)

    def _maintain(self) -> None:
        for pool in self._pools.opened():
            if not pool.shares_store:
                try:
                    MESSAGES.labels("expired").inc(pool.store.maintain())
                except StoreError as error:
                    LOG.warning("housekeeping of pool %s: %s", pool.name, error)

    def close(self) -> None:
        """End it; a round that has begun may still come to its end."""
        self._closing.set()
