"""Timers by name: each is for one thing that may happen later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """Belongs to the loop."""

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._handles

    def set(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Have something called in so many seconds, and not what was to be called by the same name."""
        self.cancel(name)
        self._handles[name] = asyncio.get_running_loop().call_later(seconds, self._due, name, call)

    def _due(self, name: str, call: Callable[[], None]) -> None:
        self._handles.pop(name, None)
        call()

    def cancel(self, name: str) -> None:
        """Nothing is called by this name any more."""
        if (handle := self._handles.pop(name, None)) is not None:
            handle.cancel()

    def clear(self) -> None:
        """Nothing is called any more."""
        for name in list(self._handles):
            self.cancel(name)
