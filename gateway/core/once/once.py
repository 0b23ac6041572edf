"""Where a post begins that is to happen once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.config.limits import Limits
from gateway.core.ids import IN_ORDER, ONCE, IdMaker
from gateway.core.once.attempt import Attempt
from gateway.core.once.dedup import DedupIds
from gateway.core.once.keys import KeyedPosts
from gateway.core.once.quota import KeyQuota
from gateway.core.queues.info import QueueInfo
from gateway.observe.metrics import SUPPRESSED
from storage.catalogue import Catalogue

if TYPE_CHECKING:
    from gateway.core.messages.post import PostRequest


class Once:
    """Recognizes what has been posted before: by its Idempotency-Key, and by the dedup_ids of messages.

    ``clock``: the time (ms) of the side-store that ``catalogue`` is in, where both are recorded.
    """

    def __init__(self, catalogue: Catalogue, clock: Callable[[], int], ids: IdMaker, limits: Limits):
        self._ids = ids
        self._keys = KeyedPosts(
            catalogue, clock, limits.idempotency_ttl, KeyQuota(limits.max_idempotency_keys, catalogue)
        )
        self._dedup = DedupIds(catalogue, clock)

    def begin(self, info: QueueInfo, request: PostRequest, ttls: Sequence[int]) -> Attempt:
        """Record what tells the request from others, before anything of it is published.

        ``ttls``: those of the messages, in seconds. Raises KeyReused, StillRunning, QuotaExceeded and Busy.
        """
        has_dedup_ids = any([post.dedup_id is not None for post in request.posts])
        mark = ONCE if has_dedup_ids or request.key is not None else IN_ORDER
        longest = max(ttls)

        def make_ids(count: int) -> list[str]:
            return self._ids.make(info.pool.store.now(), count, mark, longest)

        everything = range(len(ttls))
        if request.key is None:
            ids = make_ids(len(ttls))
            if not has_dedup_ids:
                return Attempt(info.key, ids, everything)
            keyed = None
        else:
            keyed = self._keys.begin(info, request.key, make_ids, ttls)
            ids = keyed.record.ids
            if keyed.record.done:
                SUPPRESSED.labels("key").inc(len(ids))
                return Attempt(info.key, ids, ())
            if not has_dedup_ids:
                return Attempt(info.key, ids, everything, keyed)
        try:
            dedup = self._dedup.begin(info, request.posts, ids, ttls)
        except BaseException:
            if keyed is not None:
                keyed.unused()
            raise
        SUPPRESSED.labels("dedup_id").inc(len(dedup.duplicates))
        pending = [index for index in everything if index not in dedup.duplicates]
        return Attempt(info.key, dedup.ids, pending, keyed, dedup)
