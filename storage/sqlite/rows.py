"""From the rows of an SQLite file to messages and queues."""

from __future__ import annotations

from typing import Any

from storage.model import DEFAULT_POOL, Message, Queue, message_key

#: Columns of a message, in the order in which to_message reads them.
MESSAGE = "id, posted, expires, body, client, sealed, position, hidden_until, claim, claim_ttl, claims, properties"

#: Columns of a queue, in the order in which to_queue reads them, and the tables that they are in.
QUEUE = "name, metadata, version, q, incarnation, pool, move, notifying.q IS NOT NULL"
PLACED = "queues LEFT JOIN placements USING (q, incarnation)"
QUEUES = f"{PLACED} LEFT JOIN notifying USING (q, incarnation)"


def to_message(row: tuple[Any, ...]) -> Message:
    """The message of a row."""
    id_, posted, expires, body, client, sealed, seq, hidden_until, claim, claim_ttl, claims, properties = row
    key = sealed if isinstance(sealed, str) else ""
    return Message(
        id_, posted, expires, body, client, bool(sealed), seq, hidden_until, claim, claim_ttl, claims, properties, key
    )


def to_queue(row: tuple[Any, ...]) -> Queue:
    """The queue of a row."""
    name, metadata, version, q, incarnation, pool, move, notifies = row
    return Queue(name, metadata, version, message_key(q, incarnation), pool or DEFAULT_POOL, move, bool(notifies))
