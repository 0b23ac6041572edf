"""The way out of Redis: batches, and how they end."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from bridges.base import Batch, Envelope
from bridges.errors import BridgeError
from bridges.redis.entries import envelope_of
from bridges.redis.owed import End, Owed
from bridges.redis.pool import Pool
from bridges.redis.refusals import translated
from bridges.redis.scripts import BACK, FETCH, GROUP, HOLDER

LOG = logging.getLogger(__name__)

#: Bytes after which a fetch takes no more messages: more than a hundred posts of the default size, while native
#: producers' messages may be of any size.
FETCH_BYTES = 32 * 1024 * 1024

#: Expired messages that are removed in one step, for which everybody else waits: about 10 ms.
REMOVED_AT_ONCE = 1000

#: Seconds for which a connection to Redis is waited for to give a batch back: its lease does it, too.
GIVING_BACK = 1.0


class RedisBatch(Batch):
    """A batch that knows the ids of its entries in the stream ``key``, and the consumer that holds them."""

    __slots__ = ("key", "name", "ids")

    def __init__(self, key: str, name: str, ids: Sequence[bytes], envelopes: list[Envelope]):
        super().__init__(envelopes)
        self.key = key
        self.name = name
        self.ids = ids


class Fetching:
    """Fetches and ends batches on links of ``pool``. Thread-safe.

    ``prefetch``: largest number of messages in a batch; ``lease``: seconds after which others may take what a batch
    holds; ``timeout``: seconds that one call may take.
    """

    def __init__(self, pool: Pool, prefetch: int, lease: float, timeout: float):
        self._pool = pool
        self._prefetch = prefetch
        self._lease = lease
        self._timeout = timeout
        self._owed = Owed(lease)
        self._token = secrets.token_hex(8)
        self._count = itertools.count()

    def fetch(self, key: str, limit: int, in_order: bool = False) -> RedisBatch:
        """As Bridge.fetch, from a stream."""
        deadline = time.monotonic() + self._timeout
        limit = min(limit, self._prefetch)
        # With the process id, as a process that is forked off has the same token and count.
        name = f"{HOLDER}{self._token}-{os.getpid()}-{next(self._count)}"
        with translated(), self._pool.lent(deadline) as link:
            self._owed.send(link)
            try:
                more, rows = 1, list[Any]()
                while more and not rows:
                    more, rows = link.run(
                        FETCH, key, GROUP, name, limit, int(self._lease * 1000), FETCH_BYTES, REMOVED_AT_ONCE,
                        BACK if in_order else "",
                    )
            except ResponseError:
                raise
            except BaseException:  # Redis may have done it
                self._owed.add(End(key, name, (), all_settled=False))
                raise
        return RedisBatch(key, name, [row[0] for row in rows], [envelope_of(row[2], row[1]) for row in rows])

    def settle(self, batch: Batch) -> None:
        """As Bridge.settle. If it fails it is done later, unless others have the messages by then."""
        assert isinstance(batch, RedisBatch)  # nosec B101  # for the type checker
        if batch.ids:
            self._end(End(batch.key, batch.name, tuple(batch.ids), all_settled=True), self._timeout)

    def settle_others(self, batch: Batch, kept: Sequence[Envelope]) -> None:
        """As Bridge.settle_others."""
        assert isinstance(batch, RedisBatch)  # nosec B101  # for the type checker
        keep = {id(envelope) for envelope in kept}
        settled = [
            entry for entry, envelope in zip(batch.ids, batch.envelopes, strict=True) if id(envelope) not in keep
        ]
        if batch.ids:
            self._end(End(batch.key, batch.name, tuple(settled), not keep), self._timeout)

    def requeue(self, batch: Batch) -> None:
        """As Bridge.requeue. If it fails it is done later; at worst the lease does it."""
        assert isinstance(batch, RedisBatch)  # nosec B101  # for the type checker
        if not batch.ids:
            return
        try:
            self._end(End(batch.key, batch.name, (), all_settled=False), min(GIVING_BACK, self._timeout))
        except BridgeError as error:
            LOG.warning("giving back %d messages failed: %s", len(batch.ids), error)

    def _end(self, end: End, timeout: float) -> None:
        """Raises BridgeUnavailable; the end is owed then."""
        try:
            with translated(), self._pool.lent(time.monotonic() + timeout) as link:
                end.send(link)
        except BaseException:
            self._owed.add(end)
            raise
