"""One request's work on a post that is to happen once."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.once.dedup import DedupPost
from gateway.core.once.keys import KeyedPost


class Attempt:
    """``ids`` are those of the answer, ``pending`` the indexes of the messages to publish, in order.

    ``queue_key``: of the queue that it is recorded for.
    """

    def __init__(
        self, queue_key: str, ids: list[str], pending: Sequence[int], keyed: KeyedPost | None = None,
        dedup: DedupPost | None = None,
    ):
        self.queue_key = queue_key
        self.ids = ids
        self.pending = pending
        self._keyed = keyed
        self._dedup = dedup

    def confirmed(self) -> None:
        """What was pending is confirmed by the broker. It never fails."""
        if self._dedup is not None:
            self._dedup.confirmed()
        if self._keyed is not None:
            self._keyed.confirmed(self.ids)

    def failed(self, error: BaseException) -> None:
        """The post has ended with an error. It never fails itself."""
        if self._keyed is not None:
            self._keyed.failed(error)
