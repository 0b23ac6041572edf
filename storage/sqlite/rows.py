"""From the rows of an SQLite file to messages and queues."""

from __future__ import annotations

from typing import Any

from storage.model import DEFAULT_POOL, Message, Queue, Ring, message_key
from storage.sqlite.schema import marks

#: Columns of a message, in the order in which to_message reads them, and the tables that they are in.
OWN = "id, posted, expires, body, client, sealed, position, hidden_until, claim, claim_ttl, claims, properties"
MESSAGE = f"{OWN}, group_name, dedup_id"
MESSAGES = "messages LEFT JOIN grouped USING (q, id)"

#: Condition for messages that a key ring does not decrypt: the ring lacks their key, or ``sealed`` names the ring.
NOT_BY_RING = (
    "typeof(sealed) = 'text' AND ((substr(sealed, 1, 1) = 'k' AND substr(sealed, 1, 16) NOT IN ({}))"
    " OR instr(sealed, ?) > 0)"
)

#: Columns of a queue, in the order in which to_queue reads them, and the tables that they are in.
QUEUE = "name, metadata, version, q, incarnation, pool, move, notifying.q IS NOT NULL"
PLACED = "queues LEFT JOIN placements USING (q, incarnation)"
QUEUES = f"{PLACED} LEFT JOIN notifying USING (q, incarnation)"


def to_message(row: tuple[Any, ...]) -> Message:
    """The message of a row."""
    id_, posted, expires, body, client, sealed, seq, hidden_until, claim, claim_ttl, claims, properties = row[:12]
    group, dedup_id = row[12:]
    key = sealed if isinstance(sealed, str) else ""
    return Message(
        id_, posted, expires, body, client, bool(sealed), seq, hidden_until, claim, claim_ttl, claims, properties, key,
        group or "", dedup_id or "",
    )


def to_queue(row: tuple[Any, ...]) -> Queue:
    """The queue of a row."""
    name, metadata, version, q, incarnation, pool, move, notifies = row
    return Queue(name, metadata, version, message_key(q, incarnation), pool or DEFAULT_POOL, move, bool(notifies))


def opened_by(ring: Ring | None) -> tuple[str, list[str]]:
    """A condition on the messages that a ring may open, and the condition's values."""
    if ring is None:
        return "1", []
    return f"NOT ({NOT_BY_RING.format(marks(ring.keys))})", [*ring.keys, f"?{ring.id}"]
