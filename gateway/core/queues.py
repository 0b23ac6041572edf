"""Queues: their documents, what is known of them for a moment without asking, and their broker queues."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from cachetools import TTLCache

from bridges.base import Bridge
from gateway.core.errors import Conflict, InvalidInput, NotFound
from gateway.core.metadata import MetadataRules, Settings
from storage.base import SideStore, Stats

#: Seconds for which a queue's metadata is used without asking the side-store. Another gateway's change acts later by
#: up to this much.
KNOWN_FOR = 1.0

#: Queues that a process knows at the same time.
KNOWN_AT_MOST = 20_000

#: Length limit of an AMQP short string, and so of a queue name on the broker (AMQP 0-9-1, 4.2.5.3).
MAX_BROKER_NAME = 255

#: Queues read in one go while a list is filtered.
SCAN_PAGE = 200

#: Times that a patch is tried again because somebody else changed the metadata meanwhile.
PATCH_TRIES = 5


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue that exists. ``key`` is its name in the side-store, ``broker`` the one on the broker."""

    project: str
    name: str
    key: str
    broker: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class ListedQueue:
    """A queue in a list; ``metadata`` as clients see it."""

    name: str
    metadata: dict[str, Any]


def queue_key(project: str, name: str) -> str:
    """The queue's name in the side-store."""
    return f"{project}/{name}"


def broker_name(project: str, name: str) -> str:
    """The queue's name on the broker: ``marconi.<project>.<queue>``.

    Dots and anything unusual in the project are percent-encoded, so that no two pairs share a name; a project that
    makes it too long is replaced by ``#`` and its hash.
    """
    full = f"marconi.{quote(project, safe='').replace('.', '%2E')}.{name}"
    if len(full) > MAX_BROKER_NAME:
        full = f"marconi.#{hashlib.sha256(project.encode()).hexdigest()}.{name}"
    return full


class Queues:
    """Everything about queues but the messages in them."""

    def __init__(self, bridge: Bridge, store: SideStore, rules: MetadataRules):
        self._bridge = bridge
        self._store = store
        self._rules = rules
        #: What acts on a queue that does not exist yet.
        self.default_settings = rules.resolve({})
        self._known: TTLCache[str, QueueInfo | None] = TTLCache(KNOWN_AT_MOST, KNOWN_FOR)
        self._lock = threading.Lock()

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
        return QueueInfo(project, name, queue_key(project, name), broker_name(project, name), settings)

    # -- one queue ----------------------------------------------------------------------------------------------

    def create(self, project: str, name: str, metadata: Mapping[str, Any] | None) -> bool:
        """Make a queue here and on the broker; True if it is new. An existing one gets ``metadata`` if given."""
        checked = None
        if metadata is not None:
            checked = orjson.dumps(self._check(name, self._rules.check(metadata)))
        self._bridge.create(broker_name(project, name))
        made = self._store.create_queue(queue_key(project, name), checked)
        self.forget(project, name)
        return made

    def exists(self, project: str, name: str) -> bool:
        """Is there such a queue now?"""
        return self._store.get_queue(queue_key(project, name)) is not None

    def metadata(self, project: str, name: str) -> dict[str, Any]:
        """The metadata as clients see it; a queue that does not exist yet has the defaults, since queues are lazy."""
        found = self._store.get_queue(queue_key(project, name))
        return self._rules.show(orjson.loads(found.metadata) if found else {})

    def patch(self, project: str, name: str, operations: Any) -> dict[str, Any]:
        """Change the metadata by a JSON patch; the result as clients see it."""
        key = queue_key(project, name)
        for _ in range(PATCH_TRIES):
            found = self._store.get_queue(key)
            if found is None:
                raise NotFound(f"Queue {name} does not exist")
            patched = self._check(name, self._rules.patch(orjson.loads(found.metadata), operations))
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
        # The document first: whoever posts meanwhile makes a new queue rather than lose a message in this one.
        self._store.delete_queue(queue_key(project, name))
        self._bridge.delete(broker_name(project, name))
        self.forget(project, name)

    def purge(self, project: str, name: str) -> None:
        """Remove all messages of a queue."""
        self._bridge.purge(broker_name(project, name))
        self._store.purge(queue_key(project, name))

    def stats(self, info: QueueInfo) -> tuple[Stats, int]:
        """What has landed of the queue, and about how many messages wait in the broker."""
        waiting = self._bridge.depth(info.broker)
        return self._store.stats(info.key), waiting

    # -- many queues --------------------------------------------------------------------------------------------

    def list(self, project: str, after: str, limit: int, matches: Callable[[ListedQueue], bool]) -> list[ListedQueue]:
        """At most ``limit`` queues behind the name ``after`` that match, by name."""
        page: list[ListedQueue] = []
        while len(page) < limit:
            found = self._store.list_queues(project, after, SCAN_PAGE)
            listed = (ListedQueue(q.name, self._rules.show(orjson.loads(q.metadata))) for q in found)
            page += [queue for queue in listed if matches(queue)]
            if len(found) < SCAN_PAGE:
                break
            after = found[-1].name
        return page[:limit]

    def count(self, project: str, matches: Callable[[ListedQueue], bool] | None) -> int:
        """Number of the project's queues that match, or of all."""
        if matches is None:
            return self._store.count_queues(project)
        return len(self.list(project, "", KNOWN_AT_MOST, matches))
