"""The pools that this process works with, and which of them a new queue is put into."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import Busy, InvalidInput
from gateway.core.pools.guard import Guard
from gateway.core.pools.pool import Pool
from gateway.core.pools.record import PoolRecord, PoolRecords
from gateway.core.queues.remembering import KNOWN_FOR
from gateway.observe.masking import without_password
from storage.model import DEFAULT_POOL

LOG = logging.getLogger(__name__)

#: Seconds after which the connections of a pool that was changed or deleted are closed: no call lasts that long.
RETIRED_FOR = 60.0

#: Opens the pool of a record: connects to nothing yet. Raises what is wrong with its URI or options.
OpenPool = Callable[[PoolRecord], Pool]


@dataclass(slots=True)
class _Open:
    """A pool that is open. ``read_at``: when its record was read (monotonic seconds)."""

    record: PoolRecord
    pool: Pool
    read_at: float

    def is_of(self, record: PoolRecord) -> bool:
        """Has the record changed in nothing but where queues are put?"""
        return (self.record.uri, self.record.options) == (record.uri, record.options)


class Pools:
    """All pools by name. ``default`` is the one of the configuration; the others come from the catalogue.

    What is known of a record is at most KNOWN_FOR seconds old.
    """

    def __init__(self, default: Pool, records: PoolRecords, open_pool: OpenPool):
        self.default = default
        self._records = records
        self._open_pool = open_pool
        self._open: dict[str, _Open] = {}
        self._retired: list[tuple[float, Pool]] = []
        self._all: list[PoolRecord] = []
        self._takers: list[PoolRecord] = []
        self._all_read_at = float("-inf")
        self._lock = threading.Lock()
        self._guards: list[Guard] = list(default.guards)

    def get(self, name: str) -> Pool:
        """The pool of this name. Raises Busy if it can't be used."""
        if name == DEFAULT_POOL:
            return self.default
        known = self._open.get(name)
        if known is not None and time.monotonic() - known.read_at < KNOWN_FOR:
            return known.pool
        read_at = time.monotonic()
        record = self._records.get(name)
        if record is None:
            raise Busy(f"There is no pool {name} any more; the operator has to see to it")
        return self._opened(record, read_at)

    def exists(self, name: str) -> bool:
        """Is there a pool of this name now?"""
        return name == DEFAULT_POOL or self._records.get(name) is not None

    def are_one(self, name: str, other: str) -> bool:
        """Are two pools at the same place? They are if somebody has led [bridge] to where another pool is."""
        return name != other and place_of(self.get(name)) == place_of(self.get(other))

    def _opened(self, record: PoolRecord, read_at: float) -> Pool:
        with self._lock:
            known = self._open.get(record.name)
            if known is not None and known.is_of(record):
                known.record, known.read_at = record, max(read_at, known.read_at)
                return known.pool
            if known is not None and known.read_at > read_at:  # somebody has read it later than we have
                return known.pool
            try:
                pool = self._open_pool(record)
            except Exception as error:  # another version of the gateway may have a driver that this one lacks
                LOG.warning(
                    "pool %s can't be used: %s: %s", record.name, type(error).__name__, without_password(str(error))
                )
                raise Busy(f"Pool {record.name} can't be used by this gateway") from error
            if known is not None:
                self._retire(known.pool)
            self._open[record.name] = _Open(record, pool, read_at)
            self._guards += pool.guards
            for guard in self._guards:
                guard.is_on = True
            return pool

    def _retire(self, pool: Pool) -> None:
        """Close a pool when nobody uses it any more. The lock is held."""
        self._retired.append((time.monotonic() + RETIRED_FOR, pool))
        self._guards = [guard for guard in self._guards if guard not in pool.guards]

    def records(self) -> list[PoolRecord]:
        """The records of all pools but the default one, by name; up to KNOWN_FOR seconds old."""
        self._read()
        return self._all

    def _read(self) -> None:
        read_at = time.monotonic()
        if read_at - self._all_read_at >= KNOWN_FOR:
            records = self._records.all()
            emptied = self._records.evacuations() if records else {}
            self._all = records
            self._takers = [record for record in records if record.weight and record.name not in emptied]
            self._all_read_at = read_at

    def place(self, flavor: str | None, but: str = DEFAULT_POOL) -> str:
        """The name of the pool for a new queue: one of the flavor's, or of those without one, by weight, or else the
        default. ``but``: a pool that is not chosen, if there is another.

        Raises InvalidInput for a flavor that does not exist, and Busy for one without a pool that takes new queues.
        """
        self._read()
        records = [record for record in self._takers if record.name != but]
        if flavor is None:
            return self._choose([record for record in records if not record.flavor]) or DEFAULT_POOL
        chosen = self._choose([record for record in records if record.flavor == flavor])
        if chosen is not None:
            return chosen
        if self._records.get_flavor(flavor) is None:
            raise InvalidInput(f"There is no flavor {flavor!r}", "Invalid metadata")
        raise Busy(f"Flavor {flavor} has no pool that takes new queues; its operator has to see to it")

    def _choose(self, records: Sequence[PoolRecord]) -> str | None:
        """One of the pools by weight, of those that answer if there are any."""
        answering = [record for record in records if not self._is_shut(record.name)] or records
        if not answering:
            return None
        return random.choices(answering, [record.weight for record in answering])[0].name  # nosec B311

    def _is_shut(self, name: str) -> bool:
        known = self._open.get(name)
        return known is not None and known.pool.is_shut

    def forget(self) -> None:
        """A record has been changed through this process: read all again."""
        self._all_read_at = float("-inf")
        for known in list(self._open.values()):
            known.read_at = float("-inf")

    def each(self) -> list[tuple[str, Pool | None]]:
        """All pools by name, the default first; None for one that this gateway can't use."""
        found: list[tuple[str, Pool | None]] = [(DEFAULT_POOL, self.default)]
        for record in self.records():
            try:
                found.append((record.name, self.get(record.name)))
            except Busy:
                found.append((record.name, None))
        return found

    def opened(self) -> list[Pool]:
        """The pools that this process has open."""
        return [self.default, *(known.pool for known in list(self._open.values()))]

    def tend(self) -> None:
        """Close what is not needed any more: changed pools after a while, and those that were deleted."""
        names = {record.name for record in self.records()} if self._open else set()
        now = time.monotonic()
        with self._lock:
            for name in [name for name in self._open if name not in names]:
                self._retire(self._open.pop(name).pool)
            if not self._open:
                for guard in self._guards:
                    guard.is_on = False
            due = [pool for at, pool in self._retired if at <= now]
            self._retired = [(at, pool) for at, pool in self._retired if at > now]
        for pool in due:
            pool.close()

    def close(self) -> None:
        """Give all connections back."""
        with self._lock:
            pools: list[Any] = [known.pool for known in self._open.values()] + [pool for _, pool in self._retired]
            self._open, self._retired = {}, []
        for pool in [*pools, self.default]:
            pool.close()


def place_of(pool: Pool) -> tuple[str, str]:
    """Where the messages of a pool's queues wait, and where they land: the broker alone if there is one."""
    broker: str = pool.bridge.describe()
    return (broker, "") if pool.bridge.has_backlog else (broker, pool.store.describe())
