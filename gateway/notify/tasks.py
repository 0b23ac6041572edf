"""What is under way for a subscription: tasks whose failures are logged, and go no further."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from bridges.errors import BridgeError
from gateway.core.errors import CoreError
from storage.errors import StoreError

LOG = logging.getLogger(__name__)

#: What side-stores, brokers and pools fail with for a while.
PASSING = (StoreError, BridgeError, CoreError)


class Tasks:
    """``name``: of the subscription, for the log. ``ended`` is called after each task."""

    def __init__(self, name: str, ended: Callable[[], None]):
        self._name = name
        self._ended = ended
        self._tasks: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        """Is anything under way?"""
        return bool(self._tasks)

    def start(self, work: Awaitable[Any], following: Callable[[], Awaitable[Any] | None] = lambda: None) -> None:
        """Do it, in a task of its own, and in the same task what is ``following`` then: a task takes time to make."""
        task = asyncio.get_running_loop().create_task(self._guarded(work, following))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ended()

    async def _guarded(self, work: Awaitable[Any] | None, following: Callable[[], Awaitable[Any] | None]) -> None:
        while work is not None:
            try:
                await work
            except PASSING as error:
                LOG.warning("subscription %s: %s", self._name, error)
            except Exception:
                LOG.exception("subscription %s: a delivery has failed", self._name)
            work = following()
