"""Taking: messages are claimed or popped, oldest first, those that have landed before those in the broker."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from bridges.base import Batch
from bridges.errors import BridgeError
from gateway.core.batches import Batches, given_back
from gateway.core.envelopes import EnvelopeReader, is_ours
from gateway.core.errors import Busy
from gateway.core.ids import made_at
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

#: Takes a batch of the backlog that was fetched after the queue was seen at some time (monotonic seconds): the messages
#: that are the caller's now, and whether those are enough.
TakeBatch = Callable[[Batch, float], tuple[list[Message], bool]]


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
    ):
        self._store = store
        self._locks = locks
        self._landing = landing
        self._batches = batches
        self._reader = reader
        self._sealing = sealing
        # Claimers land without a lease: their positions are told apart by a tag for each process.
        self._tag = 1 + secrets.randbelow((1 << TAG_BITS) - 1)
        self._position = 0
        self._position_lock = threading.Lock()

    def claim(
        self, info: QueueInfo, claim: Claim, limit: int, accept: Callable[[list[Message]], list[Message]]
    ) -> list[Message]:
        """Claim up to ``limit`` messages: free landed ones first, then from the backlog; oldest first.

        ``accept`` gets the free messages that were found and returns those that may be claimed. When the broker
        fails, what has been claimed of the landed messages is the answer, unless that is nothing.
        """
        return self._taken(info, claim, limit, accept, partial(self._claim_batch, info, claim))

    def pop(
        self, info: QueueInfo, claim: Claim, limit: int, accept: Callable[[list[Message]], list[Message]]
    ) -> list[Message]:
        """As claim, but messages of ours in the backlog need not land: they are acknowledged to the broker and gone.

        They have no claim; to lose one of them now is to lose it for good.
        """
        return self._taken(info, claim, limit, accept, partial(self._pop_batch, info, claim))

    def _taken(
        self,
        info: QueueInfo,
        claim: Claim,
        limit: int,
        accept: Callable[[list[Message]], list[Message]],
        take: TakeBatch,
    ) -> list[Message]:
        """See claim."""
        got: list[Message] = []
        try:
            with self._locks.get(info.key).shared(LANDING_BUDGET):
                self._take_oldest(info, claim, limit, accept, take, got)
        except BridgeError as error:
            if not got:
                raise
            LOG.warning("queue %s: claim without the backlog: %s", info.key, error)
        except BaseException:
            self._release_quietly(info, claim.id)
            raise
        return got

    def _take_oldest(
        self,
        info: QueueInfo,
        claim: Claim,
        limit: int,
        accept: Callable[[list[Message]], list[Message]],
        take: TakeBatch,
        got: list[Message],
    ) -> None:
        """Add to ``got``: landed messages by claiming them, those of the backlog as ``take`` does it."""
        deadline = time.monotonic() + LANDING_BUDGET
        looks = 0
        skipped = 0
        while len(got) < limit:
            looked = time.monotonic()
            if looked > deadline:
                if not got:
                    raise Busy("messages of this queue are being landed for others; try again")
                return
            found, leased = self._sealing.free(info, limit - len(got))
            wanted = accept(found) if found else []
            taken = self._store.landed.claim(info.key, wanted, claim) if wanted else []
            got += taken
            if len(taken) < len(found):
                continue  # others were quicker, or some went to the dead letters
            if len(got) == limit or not info.has_backlog:
                return
            if leased:
                if got:
                    return  # the lister that lands now makes more of them free; the next claim gets those
                time.sleep(LEASE_RETRY)
                continue
            looks += 1
            if time.monotonic() - looked > SETTLING and looks < LOOKS:
                continue  # a lister may have begun meanwhile
            batch = info.fetch(SKIPPING if skipped else limit - len(got))
            if not batch.envelopes:
                return
            if skipped or not self._reader.can_unseal(info, batch.envelopes):
                # What can't be unsealed here is for others: it lands free, and what follows it comes after it.
                skipped += len(batch.envelopes)
                self._landing.land_in_turn(info, batch, deadline)
                if skipped >= SKIPPED:
                    return
                continue
            if time.monotonic() - looked > SLOW_FETCH and self._overtakes(info, batch, limit - len(got), deadline):
                self._landing.land_in_turn(info, batch, deadline)
                continue
            more, ends = take(batch, looked)
            got += more
            if ends:
                return

    def _overtakes(self, info: QueueInfo, batch: Batch, limit: int, deadline: float) -> bool:
        """Are there free messages in front of a batch, which a lister has fetched since the claimer looked?"""
        with given_back(info, batch):
            while True:
                found, leased = self._sealing.free(info, limit)
                if found or not leased:
                    return _is_behind(info, batch, found)
                if time.monotonic() > deadline:
                    raise Busy("messages of this queue are being landed for others; try again")
                time.sleep(LEASE_RETRY)

    def _claim_batch(self, info: QueueInfo, claim: Claim, batch: Batch, seen: float) -> tuple[list[Message], bool]:
        """Land a batch in a claim; see TakeBatch."""
        def claimed(messages: Sequence[Message]) -> None:
            with self._position_lock:
                self._position = number(messages, self._position, self._store.now(), self._tag)
            for message in messages:
                message.hidden_until, message.claim, message.claim_ttl = claim.expires, claim.id, claim.ttl
                message.expires = max(message.expires, claim.keep_until)
                message.claims = 1

        landed = self._batches.land(info, batch, claimed, partial(self._store.landed.land, seen=seen))
        # If some were left out (expired, deleted, landed before) there may be more after them.
        return landed, len(landed) == len(batch.envelopes)

    def _pop_batch(self, info: QueueInfo, claim: Claim, batch: Batch, seen: float) -> tuple[list[Message], bool]:
        """Take a batch off the broker if all of it is ours, or else claim it; see TakeBatch."""
        if not all(is_ours(info, envelope) for envelope in batch.envelopes):
            return self._claim_batch(info, claim, batch, seen)
        popped = self._batches.consume(info, batch)
        return popped, bool(popped)  # what fails from here on must not take them along

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
