"""Messages that were claimed too often go to another queue: ``_max_claim_count`` and ``_dead_letter_queue``."""

from __future__ import annotations

import logging
from dataclasses import replace
from uuid import uuid4

from bridges.errors import BridgeError, BrokerRefused, MessageTooLarge, QueueFull, QueueMissing
from gateway.core.burial import Burial
from gateway.core.errors import Busy, CoreError, QuotaExceeded
from gateway.core.ids import IdMaker, made_at
from gateway.core.queues.directory import Directory
from gateway.core.queues.info import QueueInfo
from gateway.observe.metrics import MESSAGES
from storage.errors import QueueGone, StoreError
from storage.model import Claim, Message

LOG = logging.getLogger(__name__)

#: Seconds for which a message is hidden while it moves. A gateway that dies in between leaves it to the next one.
HOLD = 60


class DeadLetters:
    """Moves messages to their dead-letter queue."""

    def __init__(self, directory: Directory, ids: IdMaker):
        self._directory = directory
        self._ids = ids

    def sort_out(
        self, info: QueueInfo, free: list[Message], burials: list[Burial] | None = None
    ) -> list[Message]:
        """See gateway.core.burial.SortOut."""
        settings = info.settings
        most, target = settings.max_claim_count, settings.dead_letter_queue
        if most is None or target is None:
            return free
        dead = [message for message in free if message.claims >= most]
        if dead:
            try:
                letters = self._directory.ensure(info.project, target)
            except QuotaExceeded:
                LOG.warning("queue %s: its dead-letter queue would be one more than the project may have", info.key)
                return free
            except BrokerRefused as error:  # a limit of the broker, say
                LOG.warning("queue %s: its dead-letter queue can't be made: %s", info.key, error)
                return free
            if letters.settings.bridging is not None:
                LOG.warning("queue %s: its dead-letter queue is bridged, which it can't be", info.key)
                return free
            if burials is not None:
                hold = _hold(info)
                burials.append(Burial(hold, dead, lambda ours: self._bury(info, ours, hold, letters)))
                return [message for message in free if message.claims < most]
            try:
                self._move(info, dead, letters)
            except (BrokerRefused, MessageTooLarge, QueueFull) as error:  # these wait, and hold up no others
                LOG.warning("queue %s: to its dead-letter queue: %s", info.key, error)
            except BridgeError as error:
                if len(dead) == len(free):
                    raise
                # They are tried again later, and the others need not wait for that.
                LOG.warning("queue %s: %d messages can't go to its dead-letter queue: %s", info.key, len(dead), error)
        return [message for message in free if message.claims < most]

    def _bury(self, info: QueueInfo, ours: list[Message], hold: Claim, target: QueueInfo) -> None:
        """Move messages that are claimed already. If it fails they are tried again when the claim is over."""
        try:
            self._move_held(info, ours, hold, target)
        except (BridgeError, StoreError, CoreError) as error:
            LOG.warning("queue %s: %d messages can't go to its dead-letter queue: %s", info.key, len(ours), error)

    def _move(self, info: QueueInfo, dead: list[Message], target: QueueInfo) -> None:
        # Claimed first, so that of two gateways only one moves a message; deleted last, so that none is lost.
        hold = _hold(info)
        ours = info.pool.store.landed.claim(info.key, dead, hold)
        self._move_held(info, ours, hold, target)

    def _move_held(self, info: QueueInfo, ours: list[Message], hold: Claim, target: QueueInfo) -> None:
        """Move messages that are claimed with ``hold``."""
        if not ours:
            return
        now, ttl, in_order = info.pool.store.now(), info.settings.dead_letter_ttl, target.settings.fifo
        letters = [
            replace(
                message, hidden_until=0, claim=None, claim_ttl=0, claims=0,
                # A native producer may use an id again, and both messages may end up there.
                id=message.id if made_at(message.id) else self._ids.make(now)[0],
                # The id says when the message was posted; its ttl counts from now.
                expires=now + ttl * 1000 if ttl else message.expires,
                group=message.group if in_order else "",
                dedup_id=message.dedup_id if in_order else "",
            )
            for message in ours
        ]
        if info.pool.store.now() >= hold.expires:
            return  # this process was stopped meanwhile, and they are free for others
        try:
            target.pool.publishing.publish(target, letters)
        except (QueueMissing, QueueGone):
            target = self._directory.restore(target.project, target.name)
            if target.settings.bridging is not None:
                raise Busy("the dead-letter queue has just been bridged; try again") from None
            target.pool.publishing.publish(target, letters)
        # No tombstones: a dead-letter queue may have one itself, by which the letter comes back under its id.
        info.pool.store.landed.delete_claimed(info.key, [message.id for message in ours], [hold.id])
        MESSAGES.labels("dead-lettered").inc(len(ours))
        if info.settings.fifo:  # what comes after them in their groups may be handed out now
            info.pool.arrivals.tell(info.project, info.name, len(ours))


def _hold(info: QueueInfo) -> Claim:
    """A claim for messages that move. It begins now."""
    now = info.pool.store.now()
    return Claim(f"dead-letter-{uuid4().hex}", HOLD, now + HOLD * 1000, now + 2 * HOLD * 1000)
