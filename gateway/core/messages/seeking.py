"""Finding messages by their ids while they still wait in the broker."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config.limits import Limits
from gateway.core.ids import made_at
from gateway.core.queues.info import QueueInfo
from storage.model import Message

#: Messages that one request moves to the side-store, and no more, to find one by its id.
SOUGHT_AT_MOST = 500

#: Milliseconds by which the clocks of two gateways may differ without a message being taken for gone.
CLOCK_SKEW = 5_000


class Seeking:
    """Looks for messages that may not have landed yet."""

    def __init__(self, limits: Limits):
        self._limits = limits

    def may_wait(self, info: QueueInfo, ids: Sequence[str]) -> set[str]:
        """Those of the ids that may be of messages which have not landed yet.

        A native producer's id is known to clients only once its message has landed, so that one is gone. Ids of a time
        to come are possible: the clock may have been ahead.
        """
        if not info.reads.lands:
            return set()
        oldest = info.pool.store.now() - self._limits.max_message_ttl * 1000
        return {id_ for id_ in ids if (made := made_at(id_)) is not None and made > oldest}

    def seek(self, info: QueueInfo, ids: Sequence[str], limit: int) -> tuple[dict[str, Message], set[str]]:
        """Land up to ``limit`` messages to find those with ``ids``, or to learn that they must be gone.

        Returns those found, and the ids of which nothing is known afterwards.
        """
        ids_sought = self.may_wait(info, ids)
        if not ids_sought:
            return {}, set()
        sought = _Sought(info, ids_sought, limit, self._limits.max_messages_per_page)
        if info.pool.landing.land_free(info, sought) and sought.left > 0:
            sought.ids.clear()  # the backlog is empty
        return sought.found, sought.ids


class _Sought:
    """A demand for the messages with some ids: ``ids`` are those not found yet, ``left`` how many more may land.

    An id tells when it was created; once much younger messages come by, its own has been and gone. What is dated ahead
    says nothing of that: the clock that it is from was wrong.
    """

    def __init__(self, info: QueueInfo, ids: set[str], limit: int, per_step: int):
        self.ids = ids
        self.found: dict[str, Message] = {}
        self.left = limit
        self._info = info
        self._per_step = per_step
        self._now = info.pool.store.now()
        self._youngest = max(made_at(id_) or 0 for id_ in ids)

    def look(self) -> int:
        """See Demand: others may have landed some just before."""
        self._find(self._info.pool.store.landed.get_messages(self._info.key, list(self.ids)))
        return self._wanted()

    def take(self, landed: Sequence[Message]) -> int:
        """See Demand."""
        self.left -= len(landed)
        self._find(landed)
        if any(map(self._is_much_younger, landed)):
            self.ids.clear()
        return self._wanted()

    def _find(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.id in self.ids:
                self.ids.discard(message.id)
                self.found[message.id] = message

    def _is_much_younger(self, message: Message) -> bool:
        return bool(message.client) and (
            self._youngest + CLOCK_SKEW < (made_at(message.id) or 0) < self._now + CLOCK_SKEW
        )

    def _wanted(self) -> int:
        return min(self.left, self._per_step) if self.ids and self.left > 0 else 0
