"""Bridges for other virtual hosts of the same broker: few, and gone when nobody uses them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

#: How many other virtual hosts a process keeps a bridge for.
MOST = 64

#: A bridge that nobody has asked for in this many seconds is closed. Its users ask for it every second.
IDLE_FOR = 60.0


class VHosts:
    """Bridges by virtual host. Projects may invent hosts: there need not be any of that name on the broker."""

    def __init__(self, make: Callable[[str], Any]):
        self._make = make
        self._lock = threading.Lock()
        #: Ordered by the time of their last use, the least recent first.
        self._bridges: OrderedDict[str, Any] = OrderedDict()
        self._used: dict[str, float] = {}

    def at(self, vhost: str) -> Any:
        """The bridge for a virtual host, created now if there is none."""
        surplus = None
        with self._lock:
            bridge = self._bridges.get(vhost)
            if bridge is None:
                bridge = self._make(vhost)
                if len(self._bridges) >= MOST:
                    surplus = self._remove(self._dispensable())
                self._bridges[vhost] = bridge
            self._bridges.move_to_end(vhost)
            self._used[vhost] = time.monotonic()
        if surplus is not None:
            # A request that works with it may go on: its connections are closed as they come back.
            surplus.close()
        return bridge

    def all(self) -> list[Any]:
        """All bridges that there are now."""
        with self._lock:
            return list(self._bridges.values())

    def close_idle(self) -> None:
        """Close the bridges that nobody has asked for in a while."""
        since = time.monotonic() - IDLE_FOR
        with self._lock:
            idle = [self._remove(vhost) for vhost, used in list(self._used.items()) if used < since]
        for bridge in idle:
            bridge.close()

    def _dispensable(self) -> str:
        """The host not used for the longest of those without a connection, which may not even exist; else of all."""
        return next((name for name, b in self._bridges.items() if not b.connections()), next(iter(self._bridges)))

    def _remove(self, vhost: str) -> Any:
        del self._used[vhost]
        return self._bridges.pop(vhost)
