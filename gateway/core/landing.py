"""Landing: messages leave the broker and are recorded in the side-store, each once and in order.

Two parties land. A *claimer* lands what it claims in the same write; any number of them work at once. A *lister* lands
messages free, and needs positions that only grow, so it holds the queue's lease meanwhile. So that no claimer is
handed a message behind one that a lister is just landing (rule 4), the two keep out of each other's way: inside a
process by a lock, between processes by the lease, which a claimer sees in the query it makes anyway.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4
from weakref import WeakValueDictionary

from bridges.base import Batch, Bridge, Envelope
from bridges.errors import BridgeError
from gateway.core.errors import Busy
from gateway.core.foreign import Poison, properties, to_json
from gateway.core.ids import IdMaker, made_at, usable
from gateway.core.locks import SharedLock
from gateway.core.oslo import unwrap
from gateway.core.poison import LARGEST, Aside, PoisonQueues, check_size, land_storable
from gateway.core.queues import QueueInfo
from gateway.core.seal import Seal
from gateway.core.sealing import SKIPPED, SKIPPING, Sealing, is_sealed
from gateway.observe.metrics import MESSAGES
from storage.base import SideStore
from storage.errors import LeaseLost, StoreError
from storage.landed import LEASE_MARGIN, LEASE_RETRY
from storage.model import TAG_BITS, Claim, Message, number

LOG = logging.getLogger(__name__)

#: AMQP header with the Client-ID of the poster, for echo.
CLIENT_HEADER = "marconi-client"


#: Seconds within which a claimer begins to fetch after it began to look for a lease, and for which a lister that has
#: just got the lease waits for such claimers in other processes.
SETTLING = 0.02

#: Times that a claimer finds no lease, but too slowly, before it fetches all the same: a side-store that always answers
#: slowly must not keep it from the backlog.
LOOKS = 3

#: Seconds after which a claimer that has fetched looks for a lease once more: a lister may have begun later and fetched
#: before. No lister does that within SETTLING.
SLOW_FETCH = SETTLING

#: Seconds that one request spends at most on landing messages before it answers with what it has.
LANDING_BUDGET = 4.0

#: Seconds after which a lister renews its lease before it lands more.
LEASE_USE = 2.0

#: Messages that a lister lands in one go at the most.
LANDING_BATCH = 100

#: Latest expiry that a message can have, ms: the year 9999, which dates in databases can still hold.
LATEST = 253_370_764_800_000


@dataclass(slots=True)
class _Lease:
    """A queue's lease: the last position used, when it was asked for or renewed (monotonic seconds), and how often it
    was taken.
    """

    store: SideStore
    last: int = 0
    asked: float = 0.0
    taken: int = 0

    def number(self, messages: Sequence[Message]) -> None:
        """Give messages the next positions."""
        self.last = number(messages, self.last, self.store.now())


class Landing:
    """The way from a bridge to a side-store."""

    def __init__(
        self, bridge: Bridge, store: SideStore, ids: IdMaker, max_body: int, sealing: Sealing | None = None
    ):
        self._bridge = bridge
        self._poison = PoisonQueues(bridge)
        self._store = store
        self._ids = ids
        self._max_body = max_body
        self._sealing = sealing or Sealing(Seal(), store)
        self._owner = uuid4().hex
        # Claimers land without a lease: their positions are told apart by a tag for each process.
        self._tag = 1 + secrets.randbelow((1 << TAG_BITS) - 1)
        self._position = 0
        self._position_lock = threading.Lock()
        self._locks: WeakValueDictionary[str, SharedLock] = WeakValueDictionary()
        self._locks_lock = threading.Lock()

    def _lock(self, info: QueueInfo) -> SharedLock:
        with self._locks_lock:
            lock = self._locks.get(info.key)
            if lock is None:
                lock = self._locks[info.key] = SharedLock()
            return lock

    def is_landing(self, info: QueueInfo) -> bool:
        """Is another thread landing free messages, some of which may be neither in the broker nor in the side-store?"""
        lock = self._locks.get(info.key)
        return lock is not None and lock.owned

    def await_others(self, info: QueueInfo) -> None:
        """Wait for the threads that are landing free messages. Raises Busy."""
        with self._lock(info).shared(LANDING_BUDGET):
            pass

    # -- claimed ------------------------------------------------------------------------------------------------

    def claim(
        self,
        info: QueueInfo,
        claim: Claim,
        limit: int,
        accept: Callable[[list[Message]], list[Message]],
        *,
        consume: bool = False,
    ) -> list[Message]:
        """Claim up to ``limit`` messages: free landed ones first, then from the backlog; oldest first.

        With ``consume`` those of the backlog need not land: they are acknowledged to the broker and gone. They have no
        claim; to lose one of them now is to lose it for good.

        ``accept`` gets the free messages that were found and returns those that may be claimed. When the broker
        fails, what has been claimed of the landed messages is the answer, unless that is nothing.
        """
        got: list[Message] = []
        try:
            with self._lock(info).shared(LANDING_BUDGET):
                self._claim(info, claim, limit, accept, consume, got)
        except BridgeError as error:
            if not got:
                raise
            LOG.warning("queue %s: claim without the backlog: %s", info.key, error)
        except BaseException:
            self._release_quietly(info, claim.id)
            raise
        return got

    def _claim(
        self,
        info: QueueInfo,
        claim: Claim,
        limit: int,
        accept: Callable[[list[Message]], list[Message]],
        consume: bool,
        got: list[Message],
    ) -> None:
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
                    return  # whoever lands now makes more of them free; the next claim gets those
                time.sleep(LEASE_RETRY)
                continue
            looks += 1
            if time.monotonic() - looked > SETTLING and looks < LOOKS:
                continue  # a lister may have begun meanwhile
            batch = info.fetch(SKIPPING if skipped else limit - len(got))
            if not batch.envelopes:
                return
            if skipped or not self._sealing.opens(info, batch.envelopes):
                # What can't be opened here is for others: it lands free, and what is behind it comes after it.
                skipped += len(batch.envelopes)
                self._land_in_turn(info, batch, deadline)
                if skipped >= SKIPPED:
                    return
                continue
            if time.monotonic() - looked > SLOW_FETCH and self._overtakes(info, batch, limit - len(got), deadline):
                self._land_in_turn(info, batch, deadline)
                continue
            if consume and all(_is_ours(info, envelope) for envelope in batch.envelopes):
                consumed = self._consume(info, batch)
                got += consumed
                if consumed:
                    return  # what fails from here on must not take them along
                continue
            landed = self._land_claimed(info, claim, batch, looked)
            got += landed
            if len(landed) == len(batch.envelopes):
                return
            # Some were left out (expired, deleted, landed before): there may be more behind them.

    def _overtakes(self, info: QueueInfo, batch: Batch, limit: int, deadline: float) -> bool:
        """Are there free messages in front of a batch, which a lister has fetched since the claimer looked?"""
        with _given_back(info, batch):
            while True:
                found, leased = self._sealing.free(info, limit)
                if found or not leased:
                    return _is_behind(info, batch, found)
                if time.monotonic() > deadline:
                    raise Busy("messages of this queue are being landed for others; try again")
                time.sleep(LEASE_RETRY)

    def _land_in_turn(self, info: QueueInfo, batch: Batch, deadline: float) -> None:
        """Land free what a claimer has fetched: to give it back would take a while, and others would overtake it."""
        lease = _Lease(self._store)
        with _given_back(info, batch):
            self._take(info, lease, deadline)
        with self._released(info, lease):
            self._land_free(info, lease, batch, deadline)

    def _land_claimed(self, info: QueueInfo, claim: Claim, batch: Batch, seen: float) -> list[Message]:
        """Land a batch in a claim. ``seen``: when the queue was there, before the fetch (monotonic seconds)."""
        def claimed(messages: Sequence[Message]) -> None:
            with self._position_lock:
                self._position = number(messages, self._position, self._store.now(), self._tag)
            for message in messages:
                message.hidden_until, message.claim, message.claim_ttl = claim.expires, claim.id, claim.ttl
                message.expires = max(message.expires, claim.keep_until)
                message.claims = 1

        return self._land(info, batch, claimed, partial(self._store.landed.land, seen=seen))

    def _consume(self, info: QueueInfo, batch: Batch) -> list[Message]:
        """The messages of a batch that live and have not landed before; the broker forgets all of it."""
        with _given_back(info, batch):
            landing, poison = self._messages(info, batch.envelopes, self._store.now())
            messages = [message for message, _ in landing]
            ids = [message.id for message in messages]
            known = self._store.landed.landed_or_deleted(info.key, ids) if ids else set()
        self._settle(info, batch, poison)
        return [message for message in messages if message.id not in known]

    # -- free ---------------------------------------------------------------------------------------------------

    def land_free(
        self, info: QueueInfo, wanted: Callable[[Sequence[Message]], int], *, to_the_end: bool = True
    ) -> bool:
        """Land messages free, under the lease, as long as ``wanted`` asks for more.

        ``wanted`` is called with each batch that has landed, with an empty one when somebody else may have landed
        something before it, as at first, and returns how many more it would like. False when the time was up before it
        had enough.

        ``to_the_end``: only a fetch that gets nothing says for certain that nothing is left. Without it one that gets
        less than it asked for is enough: a claimer whose fetch is slow may have what comes in between two fetches.
        """
        deadline = time.monotonic() + LANDING_BUDGET
        with self._lock(info).exclusive(LANDING_BUDGET):
            lease = _Lease(self._store)
            self._take(info, lease, deadline)
            with self._released(info, lease):
                more = wanted([])
                if more:
                    time.sleep(SETTLING)
                while more and time.monotonic() <= deadline:
                    asked = min(more, LANDING_BATCH)
                    batch = info.fetch(asked)
                    if not batch.envelopes:
                        return True
                    if time.monotonic() - lease.asked > LEASE_USE and not self._renewed(info, lease, batch):
                        self._take(info, lease, deadline)
                        more = wanted([])
                        continue
                    taken = lease.taken
                    landed = self._land_free(info, lease, batch, deadline)
                    # If the lease was lost meanwhile others have landed some, which come before these.
                    more = wanted(landed if lease.taken == taken else [])
                    if len(batch.envelopes) < asked and not to_the_end:
                        return True
                return not more

    def _land_free(self, info: QueueInfo, lease: _Lease, batch: Batch, deadline: float) -> list[Message]:
        """Land a batch at the end of the queue. A lease that is lost before the write is taken again."""
        def taken_again() -> None:
            self._take(info, lease, deadline)

        return self._land(info, batch, lease.number, partial(self._store.landed.land, owner=self._owner), taken_again)

    @contextmanager
    def interrupted(self, info: QueueInfo) -> Iterator[None]:
        """While this lasts nobody lands free messages. Raises Busy when others don't end in time, and QueueGone."""
        lease = _Lease(self._store)
        with self._lock(info).exclusive(LANDING_BUDGET):
            self._take(info, lease, time.monotonic() + LANDING_BUDGET)
            with self._released(info, lease):
                yield

    def _take(self, info: QueueInfo, lease: _Lease, deadline: float) -> None:
        """Wait for the queue's lease. Raises Busy at the deadline (monotonic seconds)."""
        while True:
            lease.asked = time.monotonic()
            last = self._store.landed.acquire_lease(info.key, self._owner, self._lease_time)
            if last is not None:
                lease.last = last
                lease.taken += 1
                return
            if time.monotonic() > deadline:
                raise Busy("another gateway has been landing messages of this queue for too long")
            time.sleep(LEASE_RETRY)

    @contextmanager
    def _released(self, info: QueueInfo, lease: _Lease) -> Iterator[None]:
        """Release the lease afterwards."""
        try:
            yield
        except StoreError:
            # A write whose outcome is unknown may still happen: nobody else lands before the lease is over.
            raise
        except BaseException:
            self._store.landed.release_lease(info.key, self._owner, lease.last)
            raise
        self._store.landed.release_lease(info.key, self._owner, lease.last)

    def _renewed(self, info: QueueInfo, lease: _Lease, batch: Batch) -> bool:
        """Let the lease last for the landing of a batch too; if the lease is lost the batch is given back."""
        asked = time.monotonic()
        renewed = False
        try:
            renewed = self._store.landed.renew_lease(info.key, self._owner, self._lease_time)
        finally:
            if not renewed:
                info.bridge.requeue(batch)
        lease.asked = asked
        return renewed

    @property
    def _lease_time(self) -> float:
        """Seconds that a lease lasts: a landing that begins within LEASE_USE is over before somebody else has it."""
        return LEASE_USE + self._store.timeout + LEASE_MARGIN

    # -- both ---------------------------------------------------------------------------------------------------

    def _land(
        self,
        info: QueueInfo,
        batch: Batch,
        prepare: Callable[[Sequence[Message]], None],
        land: Callable[[str, Sequence[Message]], set[str]],
        taken_again: Callable[[], None] | None = None,
    ) -> list[Message]:
        """Store a batch, then acknowledge it (rule 2); the messages that are landed now.

        ``prepare`` gives them their positions, ``land`` stores them: if that is done under a lease, ``taken_again``
        takes it again when it was lost before.
        """
        with _given_back(info, batch):
            now = self._store.now()
            landing, poison = self._messages(info, batch.envelopes, now)
            messages = [message for message, _ in landing]
            prepare(messages)
            left_out, refused = self._stored(info, landing, prepare, land, taken_again)
            namesakes = self._namesakes(info, [entry for entry in landing if entry[0].id in left_out])
            if namesakes:
                for (message, _), id_ in zip(namesakes, self._ids.make(now, len(namesakes)), strict=True):
                    message.id = id_
                left_out |= self._stored(info, namesakes, prepare, land, taken_again)[0]
        self._settle(info, batch, [*poison, *refused.values()])
        return [message for message in messages if message.id not in left_out and message.id not in refused]

    def _stored(
        self,
        info: QueueInfo,
        landing: Sequence[tuple[Message, Envelope]],
        prepare: Callable[[Sequence[Message]], None],
        land: Callable[[str, Sequence[Message]], set[str]],
        taken_again: Callable[[], None] | None,
    ) -> tuple[set[str], dict[str, Aside]]:
        """As land_storable; a lease that was lost is taken again."""
        while True:
            try:
                return land_storable(self._store, info.key, landing, land)
            except LeaseLost:
                if taken_again is None:
                    raise
                taken_again()
                prepare([message for message, _ in landing])

    def _settle(self, info: QueueInfo, batch: Batch, poison: Sequence[Aside]) -> None:
        """Acknowledge what is stored or on its way to a client. If that fails the broker delivers it again: what has
        landed lands only once, and what was consumed comes twice, as after any crash. Raises the BridgeError if all of
        it is poison that can't be put aside.
        """
        if poison:
            self._poison.settle(info, batch, poison)
            return
        try:
            info.bridge.settle(batch)
        except BridgeError as error:
            LOG.warning("queue %s: acknowledging %d messages failed: %s", info.key, len(batch.envelopes), error)

    def _messages(
        self, info: QueueInfo, envelopes: Sequence[Envelope], now: int
    ) -> tuple[list[tuple[Message, Envelope]], list[Aside]]:
        """The living messages in a batch, each id once, and the poison in it."""
        landing: dict[str, tuple[Message, Envelope]] = {}
        poison: list[Aside] = []
        for envelope in envelopes:
            try:
                message = self.message(info, envelope, now)
            except Poison as error:
                poison.append((envelope, str(error)))
                continue
            if message.id in landing:
                other = landing[message.id][0]
                again = message.encrypted or _comes_again(info, envelope)  # no two sealed bodies are alike
                if _is_ours(info, envelope) or (again and other.body == message.body):
                    continue
                message.id = self._ids.make(now)[0]
            if message.expires > now:
                landing[message.id] = (message, envelope)
            else:
                MESSAGES.labels("expired").inc()
        return list(landing.values()), poison

    def _namesakes(
        self, info: QueueInfo, left_out: Sequence[tuple[Message, Envelope]]
    ) -> list[tuple[Message, Envelope]]:
        """Those of the messages left out that are others than the ones that have landed under their ids.

        Ours have unique ids, so these are the same message again. A native producer may use an id twice, and that is
        no reason to lose a message: its ids count only when the broker delivers anew, and the body is the same.
        """
        foreign = [(message, envelope) for message, envelope in left_out if not _is_ours(info, envelope)]
        if not foreign:
            return []
        ids = [message.id for message, _ in foreign]
        there = {m.id: m.body for m in self._store.landed.get_messages(info.key, ids)}
        return [
            (message, envelope) for message, envelope in foreign
            if not (message.encrypted or _comes_again(info, envelope))
            or there.get(message.id, message.body) != message.body
        ]

    def message(self, info: QueueInfo, envelope: Envelope, now: int) -> Message:
        """A landed message made from what came out of the broker. Raises Poison."""
        bridging = info.settings.bridging
        client = envelope.headers[CLIENT_HEADER] if _is_ours(info, envelope) else None
        ttl = info.settings.default_ttl * 1000 if envelope.ttl is None else envelope.ttl
        id_ = usable(envelope.message_id) if envelope.message_id else self._ids.make(now)[0]
        made = made_at(id_) if client is not None else None
        if made is not None:
            posted = min(made, now)  # a native producer may have spoken in our name, of a day to come
            expires = posted + ttl
        else:
            # A native producer's clock is unknown and its timestamp optional: the ttl runs from the landing.
            posted, expires = now, now + ttl
        sealed = bridging is None and is_sealed(envelope)
        # What a gateway has posted it has checked then, by limits that are not those of native messages.
        body = envelope.body if sealed else to_json(envelope, LARGEST if client is not None else self._max_body)
        message = Message(
            id=id_,
            posted=posted,
            expires=min(expires, LATEST),
            body=unwrap(body) if bridging and bridging.oslo else body,
            client=client if isinstance(client, str) else "",
            encrypted=sealed,
            properties=properties(envelope) if bridging and bridging.properties else None,
            key=self._sealing.key_of(info.project, id_, envelope) if sealed else "",
        )
        check_size(message)
        return message

    def _release_quietly(self, info: QueueInfo, claim_id: str) -> None:
        """Free what a failed claim may have taken already, so that nobody waits for its ttl."""
        try:
            self._store.landed.release_claim(info.key, claim_id)
        except StoreError as error:
            LOG.warning("queue %s: claim %s stays till its ttl is over: %s", info.key, claim_id, error)


@contextmanager
def _given_back(info: QueueInfo, batch: Batch) -> Iterator[None]:
    """Give a batch back if what is done for it fails."""
    try:
        yield
    except BaseException:
        info.bridge.requeue(batch)
        raise


def _is_ours(info: QueueInfo, envelope: Envelope) -> bool:
    """Has a gateway posted this message? On bridged queues a header of ours says nothing: it may be anybody's."""
    return info.settings.bridging is None and CLIENT_HEADER in envelope.headers


def _is_behind(info: QueueInfo, batch: Batch, found: Sequence[Message]) -> bool:
    """Are there older ones than those of the batch among these messages? Of other producers' that is not known."""
    ids = [envelope.message_id or "" for envelope in batch.envelopes if _is_ours(info, envelope)]
    if len(ids) < len(batch.envelopes) or not all(made_at(id_) for id_ in ids):
        return bool(found)
    return any(made_at(message.id) is None or message.id < max(ids) for message in found)


def _comes_again(info: QueueInfo, envelope: Envelope) -> bool:
    """Has the broker delivered this native message before? Of somebody else's queue that says nothing: it is what a
    look at the queue, or another consumer, leaves behind. A crash makes a duplicate there rather than a loss.
    """
    return envelope.redelivered and not info.is_foreign
