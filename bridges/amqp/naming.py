"""Names of the exchanges that belong to a queue."""

from __future__ import annotations

import hashlib

#: Bytes of an AMQP short string, and so of the name of an exchange (AMQP 0-9-1, 4.2.5.3).
LONGEST = 255


def beside(queue: str, purpose: str) -> str:
    """The name of an exchange for a purpose of a queue: ``<queue>.~<purpose>``; one that is too long gets a hash.

    No queue of a client has a tilde in its name: else queues ``a`` and ``a.copies`` would meet.
    """
    name = f"{queue}.~{purpose}"
    if len(name.encode()) > LONGEST:
        name = f"marconi.#{hashlib.sha256(queue.encode()).hexdigest()}.~{purpose}"
    return name
