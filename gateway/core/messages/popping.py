"""Popping: the oldest messages are answered and gone, without a claim of the client's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import uuid4

from gateway.config.limits import MIN_CLAIM_TTL
from gateway.core.dead_letters import DeadLetters
from gateway.core.ids import remembered
from gateway.core.queues.directory import Directory
from gateway.core.queues.info import QueueInfo
from gateway.core.sealing import Sealing
from gateway.observe.metrics import MESSAGES
from storage.errors import StoreError
from storage.model import Claim, Message

LOG = logging.getLogger(__name__)


class Popping:
    """Takes messages out of queues for good."""

    def __init__(self, directory: Directory, dead_letters: DeadLetters, sealing: Sealing):
        self._directory = directory
        self._dead_letters = dead_letters
        self._sealing = sealing

    def pop(self, info: QueueInfo, limit: int) -> Sequence[Message]:
        """Take up to ``limit`` of the oldest messages out of the queue for good.

        What has landed is claimed first: a gateway that dies in between leaves it to be claimed by others later. What
        the broker has does not land, which would be for nothing.
        """
        self._directory.ensure_source(info)
        expires = info.pool.store.now() + MIN_CLAIM_TTL * 1000
        claim = Claim(uuid4().hex, MIN_CLAIM_TTL, expires, expires)
        taken = info.pool.taking.pop(info, claim, limit, self._dead_letters.sort_out)
        MESSAGES.labels("claimed").inc(len(taken))
        popped = self._sealing.unsealed(info, taken)  # what has no claim is gone from here on
        claimed = [message.id for message in popped if message.claim is not None]
        if claimed:
            try:
                again = remembered(claimed, info.pool.store.now)
                deleted = info.pool.store.landed.delete_claimed(info.key, claimed, [claim.id], again)
                if deleted < len(claimed):
                    popped = [*self._without_lost(info, popped, deleted)]
            except StoreError as error:
                popped = [message for message in popped if message.claim is None]
                if not popped:
                    raise
                LOG.warning("queue %s: popped without %d landed messages: %s", info.key, len(claimed), error)
        MESSAGES.labels("deleted").inc(len(popped))
        if info.settings.fifo and popped:  # what comes after them in their groups may be handed out now
            info.pool.arrivals.tell(info.project, info.name, len(popped))
        for message in popped:
            if message.claim is not None:  # it was ours, not the client's
                message.claim = None
                message.claims -= 1
        return popped

    def _without_lost(self, info: QueueInfo, popped: Sequence[Message], deleted: int) -> Sequence[Message]:
        """What was popped, less the messages that others may hold: the claim was over before only ``deleted`` of them
        were deleted.
        """
        claimed = [message.id for message in popped if message.claim is not None]
        there = {message.id for message in info.pool.store.landed.get_messages(info.key, claimed)}
        now = info.pool.store.now()

        def ours(message: Message) -> bool:
            # While the claim lasts nobody else can have deleted what is gone: the answer to our own delete was lost.
            return message.claim is None or (message.id not in there and (deleted > 0 or now < message.hidden_until))

        kept = [message for message in popped if ours(message)]
        LOG.warning("queue %s: %d messages were taken by others before they were popped", info.key,
                    len(popped) - len(kept))
        return kept
