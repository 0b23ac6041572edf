"""Documents of the collection ``messages``, and names for their fields.

There are three kinds of documents, distinguished by HIDDEN_UNTIL:

* landed messages, >= 0: hidden until (ms), 0 = free;
* a queue's landing lease, LEASE_HELD or LEASE_FREE. It is in this collection so that one query shows a claimer both
  the free messages and whether the lease is held now. It exists as long as the queue. The keys that are bound to the
  queue's are in it, so that landing under the lease needs no further query for them;
* tombstones, without the field: ids of messages that must not land any more.

``_id`` is ``<queue key>/<message id>``: a message id is unique in its queue only, native AMQP producers choose theirs.
The fields have short names because every document repeats them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bson import DatetimeMS

from storage.model import Message, Ring

QUEUE = "q"
POSITION = "s"
HIDDEN_UNTIL = "h"
CLAIM = "c"
CLAIM_TTL = "t"
CLAIMS = "n"
POSTED = "p"
EXPIRES = "e"
CLIENT = "u"
BODY = "b"
#: The ``key`` of an encrypted message, or True if that is unknown. Other messages don't have this field.
SEALED = "x"
PROPERTIES = "r"
GROUP = "g"
DEDUP_ID = "d"

#: Fields of a lease, which may be missing: the keys to which is copied what is appended, and the last write under the
#: lease that claimed messages.
COPIES = "copies"
DONE = "done"

#: Fields of a queue's document that indexes are made of: the pool that it is in, and its way to another one.
POOL = "w"
MOVE = "mv"

#: Fields of a reservation that indexes are made of: its scope, and when it ends.
SCOPE = "s"
UNTIL = "e"

#: HIDDEN_UNTIL of a lease.
LEASE_HELD = -1
LEASE_FREE = -2

#: Expiry of documents that must outlive every query's ``e > now`` and the TTL index: the year 9999.
NEVER = DatetimeMS(253_370_764_800_000)

#: Condition that landed messages meet, and leases and tombstones don't.
LANDED: Mapping[str, Any] = {POSITION: {"$gt": 0}}

#: The update that makes a claimed message free again.
FREED: Mapping[str, Any] = {"$set": {HIDDEN_UNTIL: 0}, "$unset": {CLAIM: 1, CLAIM_TTL: 1}}


def keys(q: str, ids: Iterable[str]) -> list[str]:
    """``_id`` of each of a queue's messages."""
    return [f"{q}/{id_}" for id_ in ids]


def lease_key(q: str) -> str:
    """``_id`` of a queue's lease: no message id is empty."""
    return f"{q}/"


def id_of(document: Mapping[str, Any]) -> str:
    """The id of a message; empty for a lease."""
    key: str = document["_id"]
    return key.rpartition("/")[2]


def to_document(q: str, m: Message) -> dict[str, Any]:
    """A message's document. Rare fields are left out when they say nothing."""
    document: dict[str, Any] = {
        "_id": f"{q}/{m.id}", QUEUE: q, POSITION: m.seq, HIDDEN_UNTIL: m.hidden_until, CLAIMS: m.claims,
        POSTED: m.posted, EXPIRES: DatetimeMS(m.expires), CLIENT: m.client, BODY: m.body,
    }
    if m.claim is not None:
        document[CLAIM] = m.claim
        document[CLAIM_TTL] = m.claim_ttl
    if m.encrypted:
        document[SEALED] = m.key or True
    if m.properties is not None:
        document[PROPERTIES] = m.properties
    if m.group:
        document[GROUP] = m.group
    if m.dedup_id:
        document[DEDUP_ID] = m.dedup_id
    return document


def to_message(d: Mapping[str, Any]) -> Message:
    """The message of a document."""
    sealed = d.get(SEALED, False)
    return Message(
        id_of(d), d[POSTED], int(d[EXPIRES]), d[BODY], d[CLIENT], bool(sealed), d[POSITION], d[HIDDEN_UNTIL],
        d.get(CLAIM), d.get(CLAIM_TTL, 0), d[CLAIMS], d.get(PROPERTIES), sealed if isinstance(sealed, str) else "",
        d.get(GROUP, ""), d.get(DEDUP_ID, ""),
    )


def opened_by(ring: Ring | None) -> dict[str, Any]:
    """A condition on the messages that a ring may open: they name neither another key nor the ring."""
    if ring is None:
        return {}
    others = f"(?!{'|'.join(ring.keys)})" if ring.keys else ""
    return {SEALED: {"$not": {"$regex": rf"^{others}k|\?{ring.id}"}}}
