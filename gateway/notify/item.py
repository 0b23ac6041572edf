"""One message on its way to one receiver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from bridges.consuming import Delivery
from gateway.core.subscriptions.letters import REPLAY
from gateway.core.subscriptions.record import CONFIRMATION, HANDSHAKE, UNSUBSCRIPTION
from gateway.notify.formats import NOTIFICATION
from storage.model import Message

if TYPE_CHECKING:
    from gateway.notify.hands import Hands

#: Types of what asks a receiver for something.
REQUESTS = (CONFIRMATION, UNSUBSCRIPTION, HANDSHAKE)


@dataclass(slots=True, eq=False)
class Item:
    """A message that this process has the right to deliver: it holds a delivery of the broker, or a claim.

    ``expires``: when the message's life ends (ms); the copy in the side-store lives longer, to be found there when it
    is over. ``attempt``: number of the next attempt, from 1. ``first``, ``last``: when the first and last one were
    (ms), 0 for never; ``status``: what the last one was answered. ``good_until``: until when the right lasts
    (gateway.notify.clock). ``body``: the message's, unsealed if it is sealed.
    """

    message: Message
    expires: int
    kind: str = NOTIFICATION
    replay: bool = False
    properties: bytes | None = None
    attempt: int = 1
    first: int = 0
    last: int = 0
    status: int = 0
    delivery: Delivery | None = None
    hands: Hands | None = None
    claim: str = ""
    good_until: float = float("inf")
    body: bytes = b""

    @property
    def is_request(self) -> bool:
        """Does it ask for something? Otherwise it is a notification."""
        return self.kind in REQUESTS

    @property
    def ttl(self) -> int:
        """Seconds that the message has to live in all."""
        return max(0, self.expires - self.message.posted) // 1000

    def kept(self) -> bytes:
        """What is kept beside the body while it waits in the side-store: see read_kept."""
        kept: dict[str, Any] = {
            "type": REPLAY if self.replay else self.kind, "first": self.first, "last": self.last,
            "status": self.status,
        }
        if self.properties:
            kept["properties"] = orjson.Fragment(self.properties)
        return orjson.dumps(kept)


def read_kept(message: Message) -> dict[str, Any]:
    """Fields of an Item from what is kept beside a message in a subscription's own queue.

    What has neither been there nor been asked for by the gateway has no type: such properties are a message's own.
    """
    kept = orjson.loads(message.properties) if message.properties else {}
    if "type" not in kept:
        return {"properties": message.properties}
    own = kept.get("properties")
    kind = kept["type"]
    return {
        "kind": kind if kind in REQUESTS else NOTIFICATION,
        "replay": kind == REPLAY,
        "properties": orjson.dumps(own) if own else None,
        "first": kept.get("first", 0),
        "last": kept.get("last", 0),
        "status": kept.get("status", 0),
    }
