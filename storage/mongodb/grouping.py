"""Claims in FIFO queues in MongoDB: they respect groups, and are written under the landing lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from bson import DatetimeMS
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import AutoReconnect
from pymongo.read_concern import ReadConcern

from storage.errors import LeaseLost, QueueGone
from storage.grouping import Held
from storage.model import Claim, Clock, InGroups, Message, Ring
from storage.mongodb.database import Database
from storage.mongodb.documents import (
    CLAIM,
    CLAIM_TTL,
    CLAIMS,
    DONE,
    EXPIRES,
    FREED,
    GROUP,
    HIDDEN_UNTIL,
    LEASE_FREE,
    LEASE_HELD,
    POSITION,
    POSTED,
    QUEUE,
    lease_key,
    to_message,
)
from storage.mongodb.landing import documents_of
from storage.mongodb.moving import MongoDBMoving

#: Fields that are read of hidden messages.
HIDDEN = (GROUP, POSITION, HIDDEN_UNTIL, CLAIM, CLAIM_TTL, POSTED, EXPIRES)

#: Hidden messages that are read at once.
AT_ONCE = 10_000

#: Least number of messages that are read at once when those read before were not enough.
MORE = 100

#: What a claim does to a document, ``$$new`` being its part of the claim: if it is free it is claimed. The
#: document of the lease notes which write this was. All others stay as they are.
CLAIM_FREE: Sequence[Mapping[str, Any]] = [{"$replaceWith": {"$switch": {
    "branches": [
        {
            "case": {"$eq": [f"${HIDDEN_UNTIL}", 0]},
            "then": {"$mergeObjects": ["$$ROOT", "$$new", {
                CLAIMS: {"$add": [f"${CLAIMS}", 1]}, EXPIRES: {"$max": [f"${EXPIRES}", f"$$new.{EXPIRES}"]},
            }]},
        },
        {
            "case": {"$eq": [{"$type": f"$$new.{DONE}"}, "string"]},
            "then": {"$mergeObjects": ["$$ROOT", "$$new", {"last": {"$max": ["$last", "$$new.last"]}}]},
        },
    ],
    "default": "$$ROOT",
}}}]


class MongoDBGrouping(MongoDBMoving):
    """The fourth part of the landed store.

    It goes through the driver alone, which knows the primary at once after an election.
    """

    def __init__(self, database: Database, clock: Clock):
        super().__init__(database, clock)
        # A claim that is renewed moves in the index. Without a snapshot it might be missed. The snapshot is not older
        # than the lease, so it has all claims of those who had the lease before, also just after an election.
        self._snapshot = self._messages.with_options(read_concern=ReadConcern("snapshot"))

    def find_in_groups(
        self, q: str, limit: int, ring: Ring | None = None, stops: Mapping[str, int] | None = None
    ) -> InGroups:
        with self._calls():
            while True:
                now = self.clock.now()
                held = Held(stops)
                # First what is hidden: what becomes free between the two reads is left out.
                if not self._hold(held, q, now):
                    return held.result(self._free_in_groups(q, limit, ring, held, now))
                self._put_back(q, now)

    def _hold(self, held: Held, q: str, now: int) -> bool:
        """Add to ``held`` what is hidden at ``now`` (ms); True if some claims and delays are over by then."""
        over = False
        with self._database.client.start_session() as session:
            session.advance_operation_time(self._leased)
            for d in self._snapshot.find(
                {QUEUE: q, HIDDEN_UNTIL: {"$gt": 0}}, HIDDEN, hint="visibility", batch_size=AT_ONCE, session=session
            ):
                over = over or d[HIDDEN_UNTIL] <= now
                if int(d[EXPIRES]) > now:
                    held.add(
                        d.get(GROUP, ""), d[POSITION], d[HIDDEN_UNTIL], d.get(CLAIM_TTL, 0), d[POSTED],
                        claimed=CLAIM in d,
                    )
        return over

    def _put_back(self, q: str, now: int) -> None:
        """Put messages whose claim or delay is over at ``now`` (ms) back among the free ones."""
        self._messages.update_many({QUEUE: q, HIDDEN_UNTIL: {"$gt": 0, "$lte": now}}, FREED)

    def _free_in_groups(self, q: str, limit: int, ring: Ring | None, held: Held, now: int) -> list[Message]:
        """Free messages that groups don't hold up. Adds to ``held`` what the ring leaves out."""
        found: list[Message] = []
        after, asked = 0, limit
        while len(found) < limit:
            query: dict[str, Any] = {
                QUEUE: q, HIDDEN_UNTIL: 0, POSITION: {"$gt": after}, EXPIRES: {"$gt": DatetimeMS(now)},
            }
            if stopped := held.stopped_after(after):
                query[GROUP] = {"$nin": [group or None for group in stopped]}
            page = [to_message(document) for document in self._messages.find(
                query, limit=asked, sort={HIDDEN_UNTIL: DESCENDING, POSITION: ASCENDING}, hint="visibility",
                batch_size=asked,
            )]
            for message in page:
                if ring is not None and message.encrypted and ring.leaves_out(message.key):
                    held.stop(message.group, message.seq)
                elif not held.stops_at(message.group, message.seq):
                    found.append(message)
            if len(page) < asked:
                break
            after, asked = page[-1].seq, max(limit, MORE)
        return found[:limit]

    def claim_in_groups(
        self, q: str, owner: str, wants: Sequence[tuple[Claim, Sequence[Message]]], release: int | None = None
    ) -> list[list[Message]]:
        """See GroupingStore. As when messages land under the lease, one command finds the lease and writes."""
        changes: list[dict[str, Any]] = [
            {
                "_id": f"{q}/{message.id}", HIDDEN_UNTIL: claim.expires, CLAIM: claim.id, CLAIM_TTL: claim.ttl,
                EXPIRES: DatetimeMS(claim.keep_until),
            }
            for claim, messages in wants for message in messages
        ]
        if not changes:
            if release is not None:
                self.release_lease(q, owner, release)
            return [[] for _ in wants]
        done = uuid4().hex
        changes.append({"_id": lease_key(q), DONE: done})  # written after the others
        if release is not None:
            changes[-1] |= {HIDDEN_UNTIL: LEASE_FREE, "until": 0, "last": release}
        with self._calls():
            failure: AutoReconnect | None = None
            try:
                self._messages.aggregate([
                    {"$match": self._held_by(q, owner)},
                    *documents_of(changes),
                    {"$merge": {"into": "messages", "whenMatched": CLAIM_FREE, "whenNotMatched": "discard"}},
                ])
            except AutoReconnect as error:  # it may have been done all the same
                failure = error
            now = {
                document["_id"]: document for document in self._messages.find(
                    {"_id": {"$in": [change["_id"] for change in changes]}}, [CLAIM, CLAIMS, EXPIRES, DONE]
                )
            }
            claimed = [_claimed(q, claim, messages, now) for claim, messages in wants]
            if now.get(lease_key(q), {}).get(DONE) != done:
                if failure is not None:
                    raise failure
                # Others may have written since the lease was given back.
                if not any(claimed):
                    raise LeaseLost(q) if lease_key(q) in now else QueueGone(q)
        return claimed

    def _held_by(self, q: str, owner: str) -> dict[str, Any]:
        """A condition on the lease of a queue: ``owner`` has it, and for as long as a command may take.

        So nobody else has it before the last document is written. This process may be stopped after it read the clock
        here, so the server reads its own one too.
        """
        longest = int(self.timeout * 1000)
        return {
            "_id": lease_key(q), "owner": owner, HIDDEN_UNTIL: LEASE_HELD,
            "until": {"$gt": self.clock.now() + longest},
            "$expr": {"$gt": ["$until", {"$add": [{"$toLong": "$$NOW"}, longest]}]},
        }


def _claimed(
    q: str, claim: Claim, messages: Sequence[Message], now: Mapping[str, Mapping[str, Any]]
) -> list[Message]:
    """Those of the messages that a claim has got; ``now``: documents as they are now, by their ``_id``."""
    return [
        replace(
            message, hidden_until=claim.expires, claim=claim.id, claim_ttl=claim.ttl, claims=document[CLAIMS],
            expires=int(document[EXPIRES]),
        )
        for message in messages
        if (document := now.get(f"{q}/{message.id}")) is not None and document.get(CLAIM) == claim.id
    ]
