"""Values of metrics that all workers of a gateway have in common, in memory that they share.

prometheus_client shares values through files in a folder. Such a folder can be removed by a job that cleans temporary
folders, it stays when the gateway is killed, it grows with each worker that is replaced, and on a full disk the write
to a mapped file kills the worker (SIGBUS). This memory belongs to no file, and ends with the processes.

Each worker writes to a part of its own, and reads those of the others when the metrics are asked for. A part outlives
its worker; the one that replaces it goes on counting there.
"""

from __future__ import annotations

import json
import mmap
import struct
import threading
from collections.abc import Iterator
from typing import Any

from gateway.observe.fast_paths import SHARED_MEMORY, fell_back

#: Bytes of a part: some thousand series, several times what a gateway has. The kernel gives memory as it is written to.
PART = 8 * 1024 * 1024

#: Bytes of a part that are in use, those of this number included.
_USED = struct.Struct("<Q")

#: Length of a key, which follows, and then a value.
_LENGTH = struct.Struct("<I")
_VALUE = struct.Struct("<d")

#: How the key of a gauge begins: what is open now counts no more when its worker has ended.
_GAUGE = b'["gauge'

#: How the key of a gauge begins of which the largest value counts instead of the sum.
_MAXIMUM = b'["gauge-max"'


class Memory:
    """The parts of this many workers. Create it before the workers are forked. Raises OSError."""

    def __init__(self, workers: int, size: int = PART):
        self._size = size
        self._map = mmap.mmap(-1, workers * size)
        self._workers = workers

    def part(self, worker: int) -> Part:
        """The part of the worker with this number."""
        return Part(self._map, worker * self._size, self._size)

    def totals(self, but: int) -> dict[bytes, float]:
        """The sums over all workers but one, by key; of some gauges the largest value."""
        totals: dict[bytes, float] = {}
        for worker in range(self._workers):
            if worker != but:
                for key, _, value in self.part(worker).entries():
                    totals[key] = _together(key, totals.get(key, 0.0), value)
        return totals


class Part:
    """Keys and values of one worker. Only that worker writes; entries are added at the end and never moved."""

    def __init__(self, memory: mmap.mmap, start: int, size: int):
        self._map = memory
        self._start = start
        self._end = start + size
        self.size = size

    @property
    def _used(self) -> int:
        used: int = _USED.unpack_from(self._map, self._start)[0]
        return max(used, _USED.size)

    def entries(self) -> Iterator[tuple[bytes, int, float]]:
        """Each key, the position of its value, and the value."""
        at, end = self._start + _USED.size, self._start + self._used
        while at < end:
            (length,) = _LENGTH.unpack_from(self._map, at)
            at += _LENGTH.size
            key = self._map[at:at + length]
            at += length
            yield key, at, _VALUE.unpack_from(self._map, at)[0]
            at += _VALUE.size

    def add(self, key: bytes) -> int | None:
        """The position of a new key's value, which is 0; None when the part is full."""
        at = self._start + self._used
        position = at + _LENGTH.size + len(key)
        if position + _VALUE.size > self._end:
            return None
        self._map[at:position + _VALUE.size] = _LENGTH.pack(len(key)) + key + _VALUE.pack(0.0)
        # Last, so that an entry that a killed worker has not written completely does not count.
        _USED.pack_into(self._map, self._start, position + _VALUE.size - self._start)
        return position

    def write(self, position: int, value: float) -> None:
        """Set a value."""
        _VALUE.pack_into(self._map, position, value)

    def end(self) -> None:
        """Set the gauges to 0, as the worker has ended."""
        for key, position, _ in self.entries():
            if key.startswith(_GAUGE):
                self.write(position, 0.0)


class Shared:
    """One worker's view of the memory."""

    def __init__(self, memory: Memory, worker: int):
        self._memory = memory
        self._worker = worker
        self._part = memory.part(worker)
        self._lock = threading.Lock()
        self._positions = {key: position for key, position, _ in self._part.entries()}
        self._own: set[bytes] = set()
        self._others: dict[bytes, float] = {}

    def look(self) -> list[tuple[str, dict[str, str]]]:
        """Read what the other workers have counted; the names and labels of series that are new to this worker."""
        self._others = self._memory.totals(but=self._worker)
        with self._lock:
            unknown = (self._others.keys() | self._positions.keys()) - self._own
        return [
            (metric, dict(zip(names, values, strict=True)))
            for _, metric, _, names, values in (json.loads(key) for key in unknown)
        ]

    def position(self, key: bytes) -> int | None:
        """The position of this worker's value of a key, which is added if it is new; None if there is no room."""
        with self._lock:
            self._own.add(key)
            position = self._positions.get(key)
            if position is None and (position := self._part.add(key)) is not None:
                self._positions[key] = position
        if position is None:  # outside of the lock: this counts, too
            fell_back(SHARED_MEMORY, f"{self._part.size} bytes for each worker are full; new series count each alone")
        return position

    def read(self, position: int) -> float:
        """A value of this worker's part."""
        value: float = _VALUE.unpack_from(self._memory._map, position)[0]
        return value

    def of_others(self, key: bytes) -> float:
        """The total over the other workers at the last look."""
        return self._others.get(key, 0.0)

    def write(self, position: int, value: float) -> None:
        """Set a value of this worker's part."""
        self._part.write(position, value)


class Value:
    """A number with a lock, as prometheus_client's own values; ``get`` returns the total over all workers.

    That is the sum, or for a gauge in the mode livemax the largest value.

    Where the part is full only this worker knows it. Subclasses know the worker.
    """

    _multiprocess = False
    shared: Shared

    def __init__(
        self, typ: str, metric_name: str, name: str, labelnames: Any, labelvalues: Any, help_text: str, **kwargs: Any
    ):
        if kwargs.get("multiprocess_mode") == "livemax":
            typ = "gauge-max"
        key = json.dumps([typ, metric_name, name, list(labelnames), list(labelvalues)]).encode()
        # Values begin at multiples of their size, so that another process never sees half of a change.
        self._key = key + b" " * (-(_LENGTH.size + len(key)) % _VALUE.size)
        self._position = self.shared.position(self._key)
        self._lock = threading.Lock()
        self._value = 0.0 if self._position is None else self.shared.read(self._position)

    def inc(self, amount: float) -> None:
        with self._lock:
            self._value += amount
            if self._position is not None:
                self.shared.write(self._position, self._value)

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._lock:
            self._value = value
            if self._position is not None:
                self.shared.write(self._position, value)

    def get(self) -> float:
        return _together(self._key, self._value, self.shared.of_others(self._key))

    def set_exemplar(self, exemplar: Any) -> None:
        """There are none."""

    def get_exemplar(self) -> None:
        """There are none."""


def _together(key: bytes, one: float, other: float) -> float:
    """The values of two workers together."""
    return max(one, other) if key.startswith(_MAXIMUM) else one + other
