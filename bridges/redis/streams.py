"""Streams as a whole: made, removed, emptied and counted. And a word with the server."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis.exceptions import ResponseError

from bridges.errors import BridgeUnavailable
from bridges.redis.copies import set_of
from bridges.redis.link import Link
from bridges.redis.pool import Pool
from bridges.redis.refusals import translated
from bridges.redis.scripts import BACK, COUNTS, GROUP, PURGE

#: Ends the name of the key that ping writes, and how long it lives (ms).
PROBE, PROBE_LIVES = "marconi-ping", 1000


class Streams:
    """Calls by links of ``pool``, each of which may take ``timeout`` seconds. They raise BridgeError.

    ``check`` raises what is wrong with a link's server; ``replicas``: how many must confirm a write.
    """

    def __init__(self, pool: Pool, check: Callable[[Link], None], timeout: float, replicas: int):
        self._pool = pool
        self._check = check
        self._timeout = timeout
        self._replicas = replicas

    def ping(self, prefix: str) -> None:
        """As Bridge.ping, with a key that begins with ``prefix``."""
        # A write, since Redis reads on at its memory limit and with a failed disk. It uses memory only for a second.
        with translated(), self._pool.lent(time.monotonic() + self._timeout) as link:
            self._check(link)
            link.ask("SET", f"{prefix}{PROBE}", "", "PX", PROBE_LIVES)
            if self._replicas:
                confirmed = link.ask("WAIT", self._replicas, max(1, int(link.left() * 500)))
                if confirmed < self._replicas:
                    raise BridgeUnavailable(
                        f"{confirmed} replicas of Redis have confirmed in time, {self._replicas} are wanted"
                    )

    def create(self, key: str) -> None:
        """Make a stream with the consumer group; one that is there stays as it is."""
        with translated(), self._pool.lent(time.monotonic() + self._timeout) as link:
            try:
                link.ask("XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM")
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    def delete(self, key: str) -> None:
        """Remove a stream, if there is one, and the set of its copies."""
        with translated(), self._pool.lent(time.monotonic() + self._timeout) as link:
            link.ask("UNLINK", key, set_of(key))

    def purge(self, key: str) -> None:
        """Remove all that waits."""
        with translated(), self._pool.lent(time.monotonic() + self._timeout) as link:
            link.run(PURGE, key, GROUP, BACK)

    def counts(self, key: str) -> tuple[int, int]:
        """How many messages wait, and how many are in somebody's hands."""
        with translated(), self._pool.lent(time.monotonic() + self._timeout) as link:
            waiting, held = link.run(COUNTS, key, GROUP, BACK)
            return waiting, held
