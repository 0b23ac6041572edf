"""Posts with an Idempotency-Key: what is sent again under the same key is posted once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.core.errors import KeyReused, QuotaExceeded, StillRunning
from gateway.core.ids import made_at
from gateway.core.once.key import Key
from gateway.core.once.outcome import may_be_enqueued
from gateway.core.once.quota import KeyQuota
from gateway.core.once.records import KeyedRecord, name_of
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.names import client_project
from storage.catalogue import Catalogue
from storage.errors import StoreError
from storage.model import Record, new_version

LOG = logging.getLogger(__name__)

#: Seconds after which a client is asked to come again while the first request is at work. Most are done sooner.
COME_AGAIN = 1

#: Times that a record is looked at which others change or remove meanwhile.
LOOKS = 5


class KeyedPosts:
    """Posts by their keys. ``clock``: the time (ms) of the side-store that ``catalogue`` is in.

    ``ttl``: seconds for which a post is remembered.
    """

    def __init__(self, catalogue: Catalogue, clock: Callable[[], int], ttl: int, quota: KeyQuota):
        self._catalogue = catalogue
        self._clock = clock
        self._ttl = ttl
        self._quota = quota

    def begin(self, info: QueueInfo, key: Key, make_ids: Callable[[int], list[str]], ttls: Sequence[int]) -> KeyedPost:
        """The post with this key, recorded before anything is published.

        ``make_ids`` makes that many ids; ``ttls`` are those of the messages, in seconds. Raises KeyReused if another
        request had the key, StillRunning if that of the key is at work, and QuotaExceeded.
        """
        scope, name = client_project(info.project), name_of("key", info.key, key.text)
        for _ in range(LOOKS):
            now = self._clock()
            fresh = KeyedRecord(key.fingerprint, make_ids(len(ttls)), now, now + _longest(info))
            post = KeyedPost(self._catalogue, name, new_version(), fresh, self._expires(fresh))
            found = self._reserve(scope, post)
            if found is None:
                return post
            record = KeyedRecord.unpack(found.data)
            if record.fingerprint != key.fingerprint:
                raise KeyReused(
                    "This Idempotency-Key came with another request to this queue; use a new one for new messages"
                )
            if record.done:
                return KeyedPost(self._catalogue, name, found.version, record, self._expires(record), again=True)
            if record.running_until > now:
                raise StillRunning(
                    "The first request with this Idempotency-Key is still being answered; try again", COME_AGAIN
                )
            ids = _with_new_for_expired(record.ids, ttls, info.pool.store.now(), make_ids)
            taken = replace(record, ids=ids, running_until=now + _longest(info))
            version = self._catalogue.change_reserved(name, found.version, taken.pack(), self._expires(taken))
            if version is not None:
                return KeyedPost(self._catalogue, name, version, taken, self._expires(taken), again=True)
        raise StillRunning("Other requests have the same Idempotency-Key just now; try again", COME_AGAIN)

    def _reserve(self, scope: str, post: KeyedPost) -> Record | None:
        """Record a new post; what is recorded already instead, if anything is. Raises QuotaExceeded."""
        try:
            found = self._catalogue.reserve(scope, {post.name: post.record.pack()}, post.expires, post.version)
            if not found:
                self._quota.check(scope)
        except (StoreError, QuotaExceeded):
            post.remove()  # it may be recorded, and would keep the client waiting
            raise
        return found.get(post.name)

    def _expires(self, record: KeyedRecord) -> int:
        return record.began + self._ttl * 1000


class KeyedPost:
    """One request's work on a post with a key. ``again``: another request has worked on it before."""

    def __init__(
        self, catalogue: Catalogue, name: str, version: int, record: KeyedRecord, expires: int, again: bool = False
    ):
        self.name = name
        self.version = version
        self.record = record
        self.expires = expires
        self._catalogue = catalogue
        self._again = again

    def confirmed(self, ids: list[str]) -> None:
        """The broker has confirmed all messages; the answer names these. It never fails: the 201 is true without it,
        and who comes again publishes the same ids again.
        """
        self._change(replace(self.record, ids=ids, running_until=0, done=True))

    def failed(self, error: BaseException) -> None:
        """The post has ended with an error. If nothing can be enqueued the key is free again, also for another request.
        """
        if may_be_enqueued(error):
            self._change(replace(self.record, running_until=0))
        else:
            self.unused()

    def unused(self) -> None:
        """Nothing of it was published by this request."""
        if self._again:
            self._change(replace(self.record, running_until=0))
        else:
            self.remove()

    def remove(self) -> None:
        """Forget the post. It never fails: at worst the next request with the key has to wait."""
        try:
            self._catalogue.unreserve(self.name, self.version)
        except StoreError as error:
            LOG.warning("a post with a key can't be forgotten: %s", error)

    def _change(self, record: KeyedRecord) -> None:
        try:
            self._catalogue.change_reserved(self.name, self.version, record.pack(), self.expires)
        except StoreError as error:
            LOG.warning("what became of a post with a key can't be recorded: %s", error)


def _longest(info: QueueInfo) -> int:
    """How long a request can take, in milliseconds, from when its key is recorded. If it takes longer another one with
    the same key works on it, too, and under the same ids.
    """
    return int(1000 * (info.bridge.timeout + 2 * info.pool.store.timeout))


def _with_new_for_expired(
    ids: list[str], ttls: Sequence[int], now: int, make_ids: Callable[[int], list[str]]
) -> list[str]:
    """The ids, with new ones for messages that have lived since the first request and are over: nobody would get them
    under the old ones.
    """
    expired = [
        index for index, (id_, ttl) in enumerate(zip(ids, ttls, strict=True)) if (made_at(id_) or 0) + ttl * 1000 <= now
    ]
    if not expired:
        return ids
    renewed = list(ids)
    for index, id_ in zip(expired, make_ids(len(expired)), strict=True):
        renewed[index] = id_
    return renewed
