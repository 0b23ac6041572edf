"""Queues: their documents, what is known of them for a moment without asking, and their broker queues."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from cachetools import TTLCache

from bridges.base import Batch, Binding, Bridge
from bridges.errors import ExchangeMissing, QueueMissing, SourceUnreadable
from gateway.core.binding import Binder, bind
from gateway.core.bridging import KEY, AccessRules, Source, parse
from gateway.core.errors import Conflict, InvalidInput, NotFound
from gateway.core.listing import QueueLists
from gateway.core.metadata import MetadataRules, Settings
from gateway.core.quotas import QueueQuota
from gateway.metrics import BRIDGE_CALLS, timed
from storage.base import SideStore, Stats

#: Seconds for which a queue's metadata is used without asking the side-store. Another gateway's change acts later by
#: up to this much.
KNOWN_FOR = 1.0

#: Queues that a process knows at the same time.
KNOWN_AT_MOST = 20_000

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

    ``key`` is its name in the side-store, ``broker`` that of the queue on the broker that it reads from, which
    ``bridge`` reaches. ``has_backlog``: can there be anything to read.
    """

    project: str
    name: str
    key: str
    broker: str
    bridge: Bridge
    has_backlog: bool
    settings: Settings

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
        self._known: TTLCache[str, QueueInfo | None] = TTLCache(KNOWN_AT_MOST, KNOWN_FOR)
        self._lock = threading.Lock()
        self.lists = QueueLists(store, rules)
        self.binder = Binder(store, self._info, self.bridge_at)

    # -- knowing ------------------------------------------------------------------------------------------------

    def find(self, project: str, name: str) -> QueueInfo | None:
        """The queue if it exists, as it was at most KNOWN_FOR seconds ago."""
        key = queue_key(project, name)
        with self._lock:
            try:
                return self._known[key]
            except KeyError:
                pass
        found = self._store.get_queue(key)
        info = self._info(project, name, found.metadata) if found else None
        with self._lock:
            self._known[key] = info
        return info

    def ensure(self, project: str, name: str) -> QueueInfo:
        """The queue, made now if it does not exist."""
        info = self.find(project, name)
        if info is None:
            self.create(project, name, None)
            info = self.find(project, name)
        if info is None:
            raise Conflict(f"Queue {name} is being deleted")
        return info

    def forget(self, project: str, name: str) -> None:
        """Ask the side-store again next time."""
        with self._lock:
            self._known.pop(queue_key(project, name), None)

    def _info(self, project: str, name: str, metadata: bytes) -> QueueInfo:
        settings = self._rules.resolve(orjson.loads(metadata))
        bridging = settings.bridging
        source = bridging.source if bridging else None
        return QueueInfo(
            project, name, queue_key(project, name),
            source.queue if source and source.queue else broker_name(project, name),
            self.bridge_at(source.vhost) if source else self._bridge,
            self._bridge.has_backlog and (bridging is None or source is not None),
            settings,
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
            self.binder.see(info.key)
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
            if self.exists(info.project, info.name):
                try:
                    bind(info.bridge, info.broker, binding)
                finally:
                    if gone := not self.exists(info.project, info.name):  # deleted meanwhile
                        info.bridge.delete(info.broker)
                if not gone:
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
        data = None
        if metadata is not None:
            checked = self._check(name, self._rules.check(metadata))
            found = self._store.get_queue(queue_key(project, name))
            self._check_bridging(project, roles, orjson.loads(found.metadata) if found else None, checked)
            data = orjson.dumps(checked)
        with self._room(project, name):
            self._make(self._info(project, name, data) if data else self.find(project, name), project, name)
            made = self._store.create_queue(queue_key(project, name), data)
            if data is not None and "exchange" in checked.get(KEY, {}).get("source", {}):
                self.binder.add(queue_key(project, name))
        self.forget(project, name)
        return made

    def _room(self, project: str, name: str) -> AbstractContextManager[None]:
        """The right to make a queue, see QueueQuota."""
        if self._quota is None or project == HEALTH_PROJECT:
            return nullcontext()
        return self._quota.room(project, queue_key(project, name))

    def _make(self, info: QueueInfo | None, project: str, name: str) -> None:
        """The broker's side of a queue: what is somebody else's is left alone."""
        bridging = info.settings.bridging if info else None
        if info is None or bridging is None:
            self._bridge.create(broker_name(project, name))
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
        return self._store.get_queue(queue_key(project, name)) is not None

    def metadata(self, project: str, name: str) -> dict[str, Any]:
        """The metadata as clients see it; a queue that does not exist yet has the defaults, since queues are lazy."""
        found = self._store.get_queue(queue_key(project, name))
        return self._rules.show(orjson.loads(found.metadata) if found else {})

    def patch(self, project: str, name: str, operations: Any, roles: Sequence[str] = ()) -> dict[str, Any]:
        """Change the metadata by a JSON patch; the result as clients see it. ``roles`` as for create."""
        key = queue_key(project, name)
        for _ in range(PATCH_TRIES):
            found = self._store.get_queue(key)
            if found is None:
                raise NotFound(f"Queue {name} does not exist")
            old = orjson.loads(found.metadata)
            patched = self._check(name, self._rules.patch(old, operations))
            self._check_bridging(project, roles, old, patched)
            if self._store.replace_metadata(key, orjson.dumps(patched), found.version):
                self.forget(project, name)
                return self._rules.show(patched)
        raise Conflict(f"The metadata of queue {name} is being changed by others; try again")

    @staticmethod
    def _check(name: str, metadata: dict[str, Any]) -> dict[str, Any]:
        if metadata.get("_dead_letter_queue") == name:
            raise InvalidInput("A queue can't be its own _dead_letter_queue", "Invalid metadata")
        return metadata

    def delete(self, project: str, name: str) -> None:
        """Remove a queue and all its messages; nothing happens when there is none."""
        info = self._now(project, name)
        # The document first: whoever posts meanwhile makes a new queue rather than lose a message in this one.
        self._store.delete_queue(queue_key(project, name))
        if info.has_backlog and info.broker == broker_name(project, name):
            info.bridge.delete(info.broker)
        self.forget(project, name)

    def purge(self, project: str, name: str) -> None:
        """Remove all messages of a queue."""
        info = self._now(project, name)
        if info.has_backlog:
            info.bridge.purge(info.broker)
        self._store.purge(info.key)

    def _now(self, project: str, name: str) -> QueueInfo:
        """The queue as it is now, or as it would be if it were made."""
        found = self._store.get_queue(queue_key(project, name))
        return self._info(project, name, found.metadata if found else b"{}")

    def stats(self, info: QueueInfo) -> tuple[Stats, int]:
        """What has landed of the queue, and about how many messages wait in the broker."""
        waiting = info.bridge.depth(info.broker) if info.has_backlog else 0
        return self._store.stats(info.key), waiting
