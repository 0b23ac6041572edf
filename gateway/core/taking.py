"""Taking: messages are claimed or popped, oldest first, those that have landed before those in the broker."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Sequence

from bridges.base import Batch
from bridges.errors import BridgeError
from gateway.core.batches import Batches, GivenBack, Lander
from gateway.core.burial import SortOut
from gateway.core.envelopes import EnvelopeReader, is_ours
from gateway.core.errors import Busy, CoreError
from gateway.core.fifo.taking import FifoTaking
from gateway.core.free_messages import Found, FreeMessages
from gateway.core.ids import is_remembered, made_at
from gateway.core.landing import LANDING_BUDGET, SETTLING, Landing
from gateway.core.locks import SharedLocks
from gateway.core.queues.info import QueueInfo
from gateway.core.sealing import SKIPPED, SKIPPING, Sealing
from storage.base import SideStore
from storage.errors import StoreError
from storage.landed import LEASE_RETRY
from storage.model import TAG_BITS, Claim, Message, number

LOG = logging.getLogger(__name__)

#: Times that a claimer finds no lease, but too slowly, before it fetches all the same: a side-store that always answers
#: slowly must not keep it from the backlog.
LOOKS = 3

#: Seconds after which a claimer that has fetched looks for a lease once more: a lister may have begun later and fetched
#: before. No lister does that within SETTLING.
SLOW_FETCH = SETTLING


class Positions:
    """Positions for messages that land without a lease: those of each process are told apart by a tag."""

    def __init__(self) -> None:
        self._tag = 1 + secrets.randbelow((1 << TAG_BITS) - 1)
        self._last = 0
        self._lock = threading.Lock()

    def number(self, messages: Sequence[Message], now: int) -> None:
        """Give messages the next positions. ``now``: ms since the epoch."""
        with self._lock:
            self._last = number(messages, self._last, now, self._tag)


class Claimer(Lander):
    """Takes messages of a queue into a claim: those that have landed, and batches of the backlog.

    ``got``: what it has of the ``limit`` that it is to take.
    """

    def __init__(
        self,
        info: QueueInfo,
        claim: Claim,
        limit: int,
        sort_out: SortOut,
        store: SideStore,
        batches: Batches,
        positions: Positions,
    ):
        self.claim = claim
        self.got: list[Message] = []
        self.limit = limit
        self._info = info
        self._sort_out = sort_out
        self._store = store
        self._batches = batches
        self._positions = positions
        self._seen = 0.0

    def take_landed(self, free: list[Message]) -> bool:
        """Claim free messages; False if some of them could not be had."""
        allowed = self._sort_out(self._info, free)
        claimed = self._store.landed.claim(self._info.key, allowed, self.claim) if allowed else []
        self.got += claimed
        return len(claimed) == len(free)

    def take_batch(self, batch: Batch, seen: float) -> bool:
        """Take a batch that was fetched after the queue was seen at some time (monotonic seconds).

        True if that is enough, though it may be less than was wanted.
        """
        self._seen = seen
        landed = self._batches.land(self._info, batch, self)
        self.got += landed
        # If some were left out (expired, deleted, landed before) there may be more after them.
        return len(landed) == len(batch.envelopes)

    def number(self, messages: Sequence[Message]) -> None:
        """See Lander; they land in the claim."""
        self._positions.number(messages, self._store.now())
        claim = self.claim
        for message in messages:
            message.hidden_until, message.claim, message.claim_ttl = claim.expires, claim.id, claim.ttl
            message.expires = max(message.expires, claim.keep_until)
            message.claims = 1

    def land(self, key: str, messages: Sequence[Message]) -> set[str]:
        """See Lander."""
        return self._store.landed.land(key, messages, seen=self._seen)


class Popper(Claimer):
    """Takes messages for good. What has landed is claimed all the same, and then to be deleted by the caller."""

    def take_batch(self, batch: Batch, seen: float) -> bool:
        """Take a batch off the broker if all of it is ours, or else claim it.

        What may come a second time is claimed, too: it leaves a tombstone when it is deleted.
        """
        for envelope in batch.envelopes:
            if not is_ours(self._info, envelope) or is_remembered(envelope.message_id or ""):
                return super().take_batch(batch, seen)
        popped = self._batches.consume(self._info, batch)
        self.got += popped
        return bool(popped)  # what fails from here on must not take them along


class Taking:
    """Takes messages for claimers; see landing.py for how they and listers keep out of each other's way."""

    def __init__(
        self,
        store: SideStore,
        locks: SharedLocks,
        landing: Landing,
        batches: Batches,
        reader: EnvelopeReader,
        sealing: Sealing,
        slow_fetch: float = SLOW_FETCH,
    ):
        """``slow_fetch``: seconds after which a claimer that has fetched looks once more, see SLOW_FETCH."""
        self._store = store
        self._locks = locks
        self._landing = landing
        self._batches = batches
        self._reader = reader
        self._sealing = sealing
        self._slow_fetch = slow_fetch
        self._positions = Positions()
        self._free = FreeMessages(sealing)
        self._fifo = FifoTaking(landing, sealing)

    def claim(self, info: QueueInfo, claim: Claim, limit: int, sort_out: SortOut) -> list[Message]:
        """Claim up to ``limit`` messages: free landed ones first, then from the backlog; oldest first.

        When the broker fails, what has been claimed of the landed messages is the answer, unless that is nothing.
        """
        if info.settings.fifo:
            return self._in_order(info, claim, limit, sort_out)
        return self._taken(info, Claimer(info, claim, limit, sort_out, self._store, self._batches, self._positions))

    def pop(self, info: QueueInfo, claim: Claim, limit: int, sort_out: SortOut) -> list[Message]:
        """As claim, but messages of ours in the backlog need not land: they are acknowledged to the broker and gone.

        They have no claim; to lose one of them now is to lose it for good.
        """
        if info.settings.fifo:
            return self._in_order(info, claim, limit, sort_out)
        return self._taken(info, Popper(info, claim, limit, sort_out, self._store, self._batches, self._positions))

    def _in_order(self, info: QueueInfo, claim: Claim, limit: int, sort_out: SortOut) -> list[Message]:
        """What is claimed of a FIFO queue."""
        try:
            return self._fifo.take(info, claim, limit, sort_out)
        except CoreError:  # nothing is claimed then
            raise
        except BaseException:
            self._release_quietly(info, claim.id)
            raise

    def _taken(self, info: QueueInfo, claimer: Claimer) -> list[Message]:
        """What the claimer has got. See claim."""
        try:
            with self._locks.get(info.key).shared(LANDING_BUDGET):
                self._take_oldest(info, claimer)
        except BridgeError as error:
            if not claimer.got:
                raise
            LOG.warning("queue %s: claim without the backlog: %s", info.key, error)
        except BaseException:
            self._release_quietly(info, claimer.claim.id)
            raise
        return claimer.got

    def _take_oldest(self, info: QueueInfo, claimer: Claimer) -> None:
        """Have the claimer take what has landed, and then the backlog."""
        deadline = time.monotonic() + LANDING_BUDGET
        looks = 0
        skipped = 0
        while (wanted := claimer.limit - len(claimer.got)) > 0:
            if time.monotonic() > deadline:
                if not claimer.got:
                    raise Busy("messages of this queue are being landed for others; try again")
                return
            found = self._free.find(info, wanted)
            if found.free and not self._claimed(info, claimer, found):
                continue  # another process was quicker, or some went to the dead letters
            wanted -= len(found.free)
            if not wanted or not info.reads.has_backlog:
                return
            if found.leased:
                if claimer.got:
                    return  # the lister that lands now makes more of them free; the next claim gets those
                time.sleep(LEASE_RETRY)
                continue
            looks += 1
            if time.monotonic() - found.began > SETTLING and looks < LOOKS:
                continue  # a lister may have begun meanwhile
            batch = info.fetch(SKIPPING if skipped else wanted)
            if not batch.envelopes:
                return
            if skipped or not self._reader.can_take(info, batch.envelopes):
                # What can't be unsealed here is for others, what is delayed for later: it lands, and what follows it
                # comes after it.
                skipped += len(batch.envelopes)
                self._landing.land_in_turn(info, batch, deadline)
                if skipped >= SKIPPED:
                    return
                continue
            is_slow = time.monotonic() - found.began > self._slow_fetch
            if is_slow and self._overtakes(info, batch, wanted, deadline):
                self._landing.land_in_turn(info, batch, deadline)
                continue
            if claimer.take_batch(batch, found.began):
                return

    def _claimed(self, info: QueueInfo, claimer: Claimer, found: Found) -> bool:
        """Have the claimer take what it has found; False if some of it could not be had."""
        try:
            return claimer.take_landed(found.free)
        finally:
            self._free.claimed(info.key, found)

    def _overtakes(self, info: QueueInfo, batch: Batch, limit: int, deadline: float) -> bool:
        """Are there free messages in front of a batch, which a lister has fetched since the claimer looked?"""
        with GivenBack(info, batch):
            while True:
                found, leased = self._sealing.free(info, limit)
                if found or not leased:
                    return _is_behind(info, batch, found)
                if time.monotonic() > deadline:
                    raise Busy("messages of this queue are being landed for others; try again")
                time.sleep(LEASE_RETRY)

    def _release_quietly(self, info: QueueInfo, claim_id: str) -> None:
        """Free what a failed claim may have taken already, so that nobody waits for its ttl."""
        try:
            self._store.landed.release_claim(info.key, claim_id)
        except StoreError as error:
            LOG.warning("queue %s: claim %s stays till its ttl is over: %s", info.key, claim_id, error)


def _is_behind(info: QueueInfo, batch: Batch, found: Sequence[Message]) -> bool:
    """Are there older ones than those of the batch among these messages? Of other producers' that is not known."""
    ids = [envelope.message_id or "" for envelope in batch.envelopes if is_ours(info, envelope)]
    if len(ids) < len(batch.envelopes) or not all(made_at(id_) for id_ in ids):
        return bool(found)
    return any(made_at(message.id) is None or message.id < max(ids) for message in found)
