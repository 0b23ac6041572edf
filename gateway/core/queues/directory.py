"""The way to a queue: the one that is there, or a new one where a call needs one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from cachetools import TTLCache

from bridges.bridging import Binding
from bridges.errors import ExchangeMissing, QueueMissing
from gateway.core.errors import Busy, NotFound
from gateway.core.foreign.binding import Binder, bind
from gateway.core.queues.admin import QueueAdmin
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.known import KnownQueues
from gateway.core.queues.lock import locked_queue
from gateway.core.queues.names import queue_key, titled
from gateway.core.queues.remembering import KNOWN_AT_MOST, KNOWN_FOR
from storage.base import SideStore
from storage.errors import QueueGone

T = TypeVar("T")

#: Times that a request looks for a queue which others delete and create again meanwhile.
LOOKS = 20


class Directory:
    """Finds the queue of a call. Queues are lazy: a call that needs one which does not exist creates it."""

    def __init__(self, store: SideStore, known: KnownQueues, admin: QueueAdmin, binder: Binder):
        self._store = store
        self._known = known
        self._admin = admin
        self._binder = binder
        self._ensured_sources: TTLCache[str, bool] = TTLCache(KNOWN_AT_MOST, KNOWN_FOR)
        self._lock = threading.Lock()
        #: See KnownQueues.
        self.find = known.find
        self.refresh = known.refresh

    def expected(self, project: str, name: str) -> QueueInfo:
        """A queue that does not exist as it would be if it were created now."""
        return self._known.describe(project, name, None)

    def ensure(self, project: str, name: str) -> QueueInfo:
        """The queue, created now if it does not exist. Raises Busy when others delete it again and again."""
        info = self.find(project, name)
        for _ in range(LOOKS):
            if info is not None:
                return info
            self._admin.create(project, name, None)
            info = self.refresh(project, name)
        raise Busy(f"{titled(project, name)} is being deleted by others; try again")

    def restore(self, project: str, name: str) -> QueueInfo:
        """The queue as it is now, with its queue on the broker created again if that is missing."""
        self._admin.create(project, name, None)
        return self.refresh(project, name) or self.ensure(project, name)

    def on(self, project: str, name: str, work: Callable[[QueueInfo], T], *, sure: bool = False) -> T | None:
        """What ``work`` comes to on a queue; None if there is no such queue.

        When it finds nothing to do (it returns what is false, or raises NotFound or QueueGone) the queue that this
        process remembers may have been deleted, and another one of that name created. Then ``work`` is done on that
        one. ``sure``: what it returns needs no such look, since it asks itself whether the queue is still there.
        """
        start = time.monotonic()
        info = self.find(project, name)
        for _ in range(LOOKS):
            if info is None:
                return None
            gone, missing, result = False, None, None
            try:
                result = work(info)
            except NotFound as error:
                missing = error
            except QueueGone:
                gone = True
            fresh: QueueInfo | None = info
            if gone or ((missing or not (result or sure)) and info.read_at < start):
                fresh = self.refresh(project, name)
            if fresh is not None and fresh.key == info.key:
                if missing is not None:
                    raise missing
                if not gone:
                    return result
                fresh = self.restore(project, name)  # its creator has died before it was complete
            info = fresh
        raise Busy(f"{titled(project, name)} is being deleted and created by others; try again")

    def ensure_source(self, info: QueueInfo) -> None:
        """Make sure that there is what a bridged queue reads from, at most once in KNOWN_FOR seconds.

        Raises NotFound when it is missing; once it is there (again) the next call finds it.
        """
        source = info.settings.bridging.source if info.settings.bridging else None
        if source is None:
            return
        with self._lock:
            if info.key in self._ensured_sources:
                return
        if source.binding is not None:
            if not self._bind(info, source.binding):
                return
            self._binder.see(queue_key(info.project, info.name))
        elif not info.bridge.exists(info.broker):
            raise NotFound(f"The broker has no queue {info.broker}, which this queue is bridged to")
        with self._lock:
            self._ensured_sources[info.key] = True

    def _bind(self, info: QueueInfo, binding: Binding) -> bool:
        """Bind a queue that is read; False if it has been deleted: created again, it would fill up without end.

        What this process remembers of the queue does not tell.
        """
        try:
            info.bridge.bind(info.broker, binding)
            return True
        except (QueueMissing, ExchangeMissing):
            key = queue_key(info.project, info.name)
            with locked_queue(self._store, key):
                found = self._store.catalogue.get_queue(key)
                if found is not None and found.key == info.key:
                    bind(info.bridge, info.broker, binding, info.ordering)
                    return True
        self._known.forget(info.project, info.name)
        return False
