"""Messages with a dedup_id: the same one within five minutes is the same message, which is not enqueued again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.core.errors import Busy
from gateway.core.ids import made_at
from gateway.core.once.records import DedupRecord, name_of
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.names import client_project
from storage.catalogue import Catalogue
from storage.errors import StoreError
from storage.model import new_version

if TYPE_CHECKING:
    from gateway.core.messages.post import Post

LOG = logging.getLogger(__name__)

#: Milliseconds from the first message with a dedup_id within which another one is a duplicate.
WINDOW = 300_000

#: What comes before a project's name where its dedup_ids are counted: not with its keys, as they are there for minutes.
#: No client can name such a project.
DEDUP = "\x00dedup/"


class DedupIds:
    """The dedup_ids of all queues. ``clock``: the time (ms) of the side-store that ``catalogue`` is in."""

    def __init__(self, catalogue: Catalogue, clock: Callable[[], int]):
        self._catalogue = catalogue
        self._clock = clock

    def begin(self, info: QueueInfo, posts: Sequence[Post], ids: Sequence[str], ttls: Sequence[int]) -> DedupPost:
        """Record the dedup_ids of posts before anything is published. ``ids`` are for those that are new.

        ``ttls``: those of the messages, in seconds.
        """
        firsts: dict[str, int] = {}
        for index, post in enumerate(posts):
            if post.dedup_id is not None:
                firsts.setdefault(post.dedup_id, index)
        names = {name_of("dedup", info.key, dedup_id): index for dedup_id, index in firsts.items()}
        post_ids, version, expires = list(ids), new_version(), self._clock() + WINDOW
        entries = {name: DedupRecord(ids[index]).pack() for name, index in names.items()}
        found = self._catalogue.reserve(f"{DEDUP}{client_project(info.project)}", entries, expires, version)
        now = info.pool.store.now()
        duplicates: set[int] = set()
        unconfirmed = {name: (version, index) for name, index in names.items() if name not in found}
        for name, recorded in found.items():
            index, record = names[name], DedupRecord.unpack(recorded.data)
            if record.confirmed:
                duplicates.add(index)
                post_ids[index] = record.id
                continue
            # Its post has failed or is not over.
            known: int | None = recorded.version
            if (made_at(record.id) or 0) + ttls[index] * 1000 > now:
                post_ids[index] = record.id
            else:  # nobody would get it under the first id, as it has expired since
                known = self._catalogue.change_reserved(name, recorded.version, entries[name], expires)
            if known is None:
                raise Busy("Another request has the same dedup_id just now; try again")
            unconfirmed[name] = known, index
        for index, post in enumerate(posts):
            if post.dedup_id is not None and (first := firsts[post.dedup_id]) != index:
                duplicates.add(index)
                post_ids[index] = post_ids[first]
        return DedupPost(self._catalogue, post_ids, duplicates, unconfirmed, expires)


class DedupPost:
    """One request with dedup_ids: the ids of its messages, and which of them are ``duplicates``."""

    def __init__(
        self, catalogue: Catalogue, ids: list[str], duplicates: set[int], unconfirmed: dict[str, tuple[int, int]],
        expires: int,
    ):
        self.ids = ids
        self.duplicates = duplicates
        self._catalogue = catalogue
        self._unconfirmed = unconfirmed
        self._expires = expires

    def confirmed(self) -> None:
        """The broker has confirmed what is no duplicate. It never fails: without it another post of the same dedup_id
        is published under the same id, and lands once.
        """
        changes = {
            name: (version, DedupRecord(self.ids[index], confirmed=True).pack())
            for name, (version, index) in self._unconfirmed.items()
        }
        if not changes:
            return
        try:
            self._catalogue.change_all_reserved(changes, self._expires)
        except StoreError as error:
            LOG.warning("what became of messages with a dedup_id can't be recorded: %s", error)
