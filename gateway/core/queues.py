"""Queues: their documents, what is known of them for a moment without asking, and their broker queues."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from cachetools import TTLCache

from bridges.base import Batch, Binding, Bridge
from bridges.errors import ExchangeMissing, QueueMissing, SourceUnreadable
from gateway.core.binding import Binder, bind
from gateway.core.bridging import KEY, AccessRules, Source, parse
from gateway.core.errors import Busy, Conflict, InvalidInput, NotFound
from gateway.core.listing import QueueLists
from gateway.core.metadata import MetadataRules, Settings
from gateway.core.queue_lock import Lock, locked
from gateway.core.quotas import QueueQuota
from gateway.core.remembering import KNOWN_AT_MOST, KNOWN_FOR, Remembered
from gateway.observe.metrics import BRIDGE_CALLS, timed
from storage.base import SideStore
from storage.errors import QueueGone
from storage.landed import SEEN_FOR
from storage.model import Queue, Stats

T = TypeVar("T")

#: Seconds on top of KNOWN_FOR after which no gateway can still work with what it remembered of a queue.
FORGOTTEN_MARGIN = 0.1

#: Times that a request looks for a queue which others delete and create again meanwhile.
LOOKS = 20

#: Seconds of the lock that deleting a queue may need, in each of broker and side-store.
DELETING = 10.0

#: Virtual hosts that a process knows the bridges of at the same time.
VHOSTS_KNOWN = 64

#: Length limit of an AMQP short string, and so of a queue name on the broker (AMQP 0-9-1, 4.2.5.3).
MAX_BROKER_NAME = 255

#: Project of the queues that a health check makes; no client can name it, a project has no control characters.
HEALTH_PROJECT = "\x00health"

#: Times that a patch is tried again because somebody else changed the metadata meanwhile.
PATCH_TRIES = 5


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue that exists.

    ``key`` is what its messages are kept under in the side-store, ``broker`` the name of the queue on the broker that
    it reads from, which ``bridge`` reaches. ``has_backlog``: can there be anything to read. ``read_at``: monotonic
    seconds when the side-store was asked for it.
    """

    project: str
    name: str
    key: str
    broker: str
    bridge: Bridge
    has_backlog: bool
    settings: Settings
    read_at: float = field(default=0.0, compare=False)

    @property
    def is_foreign(self) -> bool:
        """Does it read from somebody else's queue?"""
        bridging = self.settings.bridging
        return bridging is not None and bridging.source is not None and bridging.source.queue is not None

    def fetch(self, limit: int) -> Batch:
        """Up to ``limit`` messages of the backlog; settle or requeue them with ``bridge``."""
        return (self.bridge.fetch_foreign if self.is_foreign else self.bridge.fetch)(self.broker, limit)

    @property
    def lands(self) -> bool:
        """Do lists take messages off the broker? Not off other people's queues, unless they are told to."""
        bridging = self.settings.bridging
        return self.has_backlog and (bridging is None or bridging.lands)


def queue_key(project: str, name: str) -> str:
    """The queue's name in the side-store."""
    return f"{project}/{name}"


def broker_name(project: str, name: str) -> str:
    """The queue's name on the broker: ``marconi.<project>.<queue>``.

    Dots and anything unusual in the project are percent-encoded, so that no two pairs share a name; a project that
    makes it too long is replaced by ``#`` and its hash.
    """
    return _broker_name("marconi", project, name)


def poison_name(project: str, name: str) -> str:
    """The queue on the broker for messages of a queue that can't be shown: ``marconi-poison.<project>.<queue>``."""
    return _broker_name("marconi-poison", project, name)


def _broker_name(prefix: str, project: str, name: str) -> str:
    full = f"{prefix}.{quote(project, safe='').replace('.', '%2E')}.{name}"
    if len(full) > MAX_BROKER_NAME:
        full = f"{prefix}.#{hashlib.sha256(project.encode()).hexdigest()}.{name}"
    return full


def _delicate(info: QueueInfo) -> tuple[Any, ...]:
    """What must hold everywhere at once when it is changed: where posts go, and whether they are encrypted."""
    return info.settings.bridging, info.settings.encrypt


def _is_delicate(info: QueueInfo) -> bool:
    return any(_delicate(info))


class Queues:
    """Everything about queues but the messages in them."""

    def __init__(
        self, bridge: Bridge, store: SideStore, rules: MetadataRules, access: AccessRules, quota: QueueQuota | None
    ):
        self._bridge = bridge
        self._store = store
        self._rules = rules
        self._access = access
        self._quota = quota
        # Asked for again each second: the bridge gives up what nobody asks for.
        self._vhosts: TTLCache[str, Bridge] = TTLCache(VHOSTS_KNOWN, KNOWN_FOR)
        self._attended: TTLCache[str, bool] = TTLCache(KNOWN_AT_MOST, KNOWN_FOR)
        #: What acts on a queue that does not exist yet.
        self.default_settings = rules.resolve({})
        self._known: Remembered[QueueInfo] = Remembered()
        self._lock = threading.Lock()
        self.lists = QueueLists(store, rules)
        self.binder = Binder(store, self._info, self.bridge_at)

    # -- knowing ------------------------------------------------------------------------------------------------

    def find(self, project: str, name: str) -> QueueInfo | None:
        """The queue if it exists; it may have been changed or deleted elsewhere up to KNOWN_FOR seconds ago."""
        return self._known.get(queue_key(project, name)) or self.refresh(project, name)

    def refresh(self, project: str, name: str) -> QueueInfo | None:
        """The queue if it exists now."""
        key = queue_key(project, name)
        changes, read_at = self._known.changes(), time.monotonic()
        found = self._store.catalogue.get_queue(key)
        info = self._info(project, name, found, read_at) if found else None
        self._known.put(key, info, changes)
        return info

    def ensure(self, project: str, name: str) -> QueueInfo:
        """The queue, made now if it does not exist. Raises Busy when others delete it again and again."""
        info = self.find(project, name)
        for _ in range(LOOKS):
            if info is not None:
                return info
            self.create(project, name, None)
            info = self.refresh(project, name)
        raise Busy(f"Queue {name} is being deleted by others; try again")

    def restore(self, project: str, name: str) -> QueueInfo:
        """The queue as it is now, with its queue on the broker made again if that is missing."""
        self.create(project, name, None)
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
                fresh = self.restore(project, name)  # whoever made it has died before it was complete
            info = fresh
        raise Busy(f"Queue {name} is being deleted and created by others; try again")

    def forget(self, project: str, name: str) -> None:
        """Ask the side-store again next time."""
        self._known.forget(queue_key(project, name))

    def _info(self, project: str, name: str, found: Queue | None, read_at: float = 0.0) -> QueueInfo:
        """A queue from its document; without one, as it would be if it were made."""
        settings = self._rules.resolve(orjson.loads(found.metadata)) if found else self.default_settings
        bridging = settings.bridging
        source = bridging.source if bridging else None
        return QueueInfo(
            project, name, found.key if found else queue_key(project, name),
            source.queue if source and source.queue else broker_name(project, name),
            self.bridge_at(source.vhost) if source else self._bridge,
            self._bridge.has_backlog and (bridging is None or source is not None),
            settings,
            read_at,
        )

    def bridge_at(self, vhost: str | None) -> Bridge:
        """The bridge for a virtual host; None is the gateway's own."""
        if vhost is None or vhost == self._bridge.own_vhost():
            return self._bridge
        with self._lock:
            bridge: Bridge | None = self._vhosts.get(vhost)
            if bridge is None:
                bridge = self._vhosts[vhost] = timed(self._bridge.at(vhost), BRIDGE_CALLS)
            return bridge

    def attend(self, info: QueueInfo) -> None:
        """Look after what a bridged queue reads from, at most once in KNOWN_FOR seconds.

        Raises NotFound when it is missing; once it is there (again) the next call finds it.
        """
        source = info.settings.bridging.source if info.settings.bridging else None
        if source is None:
            return
        with self._lock:
            if info.key in self._attended:
                return
        if source.binding is not None:
            if not self._bind(info, source.binding):
                return
            self.binder.see(queue_key(info.project, info.name))
        elif not info.bridge.exists(info.broker):
            raise NotFound(f"The broker has no queue {info.broker}, which this queue is bridged to")
        with self._lock:
            self._attended[info.key] = True

    def _bind(self, info: QueueInfo, binding: Binding) -> bool:
        """Bind a queue that is read; False if it has been deleted: made again, it would fill up for ever.

        What this process remembers of the queue does not tell.
        """
        try:
            info.bridge.bind(info.broker, binding)
            return True
        except (QueueMissing, ExchangeMissing):
            key = queue_key(info.project, info.name)
            with self._alone(key):
                found = self._store.catalogue.get_queue(key)
                if found is not None and found.key == info.key:
                    bind(info.bridge, info.broker, binding)
                    return True
        self.forget(info.project, info.name)
        return False

    # -- one queue ----------------------------------------------------------------------------------------------

    def create(
        self, project: str, name: str, metadata: Mapping[str, Any] | None, roles: Sequence[str] = ()
    ) -> bool:
        """Make a queue here and on the broker; True if it is new. An existing one gets ``metadata`` if given.

        ``roles`` are those of the caller, for what may be bridged. Raises QuotaExceeded.
        """
        key = queue_key(project, name)
        checked = None if metadata is None else self._check(name, self._rules.check(metadata))
        with self._alone(key) as lock:
            found = self._store.catalogue.get_queue(key)
            if checked is not None:
                self._check_bridging(project, roles, orjson.loads(found.metadata) if found else None, checked)
            data = None if checked is None else orjson.dumps(checked)
            before = self._info(project, name, found)
            after = before if data is None else self._info(project, name, Queue(name, data, 0, before.key))
            with self._room(project, name):
                self._make(after)
                made = self._store.catalogue.create_queue(key, data)
                if checked is not None and "exchange" in checked.get(KEY, {}).get("source", {}):
                    self.binder.add(key)
            self.forget(project, name)
        if found is not None:
            self._await_oblivion(before, after)
        elif _is_delicate(after):
            # Gateways may remember the last queue of this name.
            self._sleep(KNOWN_FOR + FORGOTTEN_MARGIN - (self._store.now() - lock.last) / 1000)
        return made

    def _alone(self, key: str) -> AbstractContextManager[Lock]:
        """Hold the right to create or delete a queue. Raises Busy."""
        return locked(self._store, key, "this queue is being created or deleted by another request; try again")

    def _await_oblivion(self, before: QueueInfo, after: QueueInfo) -> None:
        """Wait until no gateway can remember the queue as it was before, if that makes a difference to safety."""
        if _delicate(before) != _delicate(after):
            self._sleep(KNOWN_FOR + FORGOTTEN_MARGIN)

    @staticmethod
    def _sleep(seconds: float) -> None:
        if seconds > 0:
            time.sleep(min(seconds, KNOWN_FOR + FORGOTTEN_MARGIN))

    def _room(self, project: str, name: str) -> AbstractContextManager[None]:
        """The right to make a queue, see QueueQuota."""
        if self._quota is None or project == HEALTH_PROJECT:
            return nullcontext()
        return self._quota.room(project, queue_key(project, name))

    def _make(self, info: QueueInfo) -> None:
        """The broker's side of a queue: what is somebody else's is left alone."""
        bridging = info.settings.bridging
        if bridging is None:
            self._bridge.create(info.broker)
        elif bridging.source is not None:
            self._make_source(info, bridging.source)

    def _make_source(self, info: QueueInfo, source: Source) -> None:
        """Check what a queue is to read from, and bind it. Raises InvalidInput for what can't be read."""
        try:
            if source.binding is None:
                info.bridge.check_source(info.broker)
                return
            info.bridge.check_exchange(source.binding)
        except SourceUnreadable as error:
            raise InvalidInput(f"Queue metadata {KEY}: {error}", "Invalid metadata") from error
        info.bridge.create(info.broker)
        with suppress(NotFound):  # the exchange may come later
            bind(info.bridge, info.broker, source.binding)

    def _check_bridging(
        self, project: str, roles: Sequence[str], old: Mapping[str, Any] | None, new: Mapping[str, Any]
    ) -> None:
        """Raises Forbidden for what the caller may not bridge, Conflict when messages would change their source."""
        before, after = (old or {}).get(KEY), new.get(KEY)
        if before == after:
            return
        if after is not None:
            self._access.check(project, roles, self._bridge.own_vhost(), parse(after))
        if old is not None and (before or {}).get("source") != (after or {}).get("source"):
            raise Conflict("The source of a queue that exists can't be changed; delete the queue first")

    def exists(self, project: str, name: str) -> bool:
        """Is there such a queue now?"""
        return self._store.catalogue.get_queue(queue_key(project, name)) is not None

    def metadata(self, project: str, name: str) -> dict[str, Any]:
        """The metadata as clients see it; a queue that does not exist yet has the defaults, since queues are lazy."""
        found = self._store.catalogue.get_queue(queue_key(project, name))
        return self._rules.show(orjson.loads(found.metadata) if found else {})

    def patch(self, project: str, name: str, operations: Any, roles: Sequence[str] = ()) -> dict[str, Any]:
        """Change the metadata by a JSON patch; the result as clients see it. ``roles`` as for create."""
        key = queue_key(project, name)
        for _ in range(PATCH_TRIES):
            found = self._store.catalogue.get_queue(key)
            if found is None:
                raise NotFound(f"Queue {name} does not exist")
            old = orjson.loads(found.metadata)
            patched = self._check(name, self._rules.patch(old, operations))
            self._check_bridging(project, roles, old, patched)
            if self._store.catalogue.replace_metadata(key, orjson.dumps(patched), found.version):
                self.forget(project, name)
                after = Queue(name, orjson.dumps(patched), 0, found.key)
                self._await_oblivion(self._info(project, name, found), self._info(project, name, after))
                return self._rules.show(patched)
        raise Conflict(f"The metadata of queue {name} is being changed by others; try again")

    @staticmethod
    def _check(name: str, metadata: dict[str, Any]) -> dict[str, Any]:
        if metadata.get("_dead_letter_queue") == name:
            raise InvalidInput("A queue can't be its own _dead_letter_queue", "Invalid metadata")
        return metadata

    def delete(self, project: str, name: str) -> None:
        """Remove a queue and all its messages; nothing happens when there is none."""
        key = queue_key(project, name)
        with self._alone(key) as lock:
            info = self._info(project, name, self._store.catalogue.get_queue(key))
            lock.check(DELETING)
            # The broker's first: a post that finds it missing makes the queue again, which has to wait for the lock.
            if info.has_backlog and info.broker == broker_name(project, name):
                info.bridge.delete(info.broker)
            self._store.catalogue.delete_queue(key)
            self.forget(project, name)
            if _is_delicate(info):
                lock.keep = KNOWN_FOR + FORGOTTEN_MARGIN  # gateways that remember it must not post to the next one so
            elif info.has_backlog:
                lock.keep = SEEN_FOR + FORGOTTEN_MARGIN  # nor land the next one's messages as this one's
        if info.settings.bridging is not None:
            self._sleep(KNOWN_FOR + FORGOTTEN_MARGIN)  # nor read from or post to what it was bridged to

    def stats(self, info: QueueInfo) -> tuple[Stats, int]:
        """What has landed of the queue, and about how many messages wait in the broker."""
        waiting = info.bridge.depth(info.broker) if info.has_backlog else 0
        return self._store.landed.stats(info.key), waiting
