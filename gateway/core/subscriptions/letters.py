"""What is kept with a message in a subscription's own queues: why it is there, as JSON in place of its properties."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson

from storage.model import Message

#: The ``type`` of a message that is to be delivered once more because its owner has asked for that.
REPLAY = "Replay"


def typed(kind: str, properties: bytes | None = None) -> bytes:
    """What says of which type a message is: REPLAY, or that of a request in gateway.core.subscriptions.record.

    ``properties``: those of a foreign message, a JSON object.
    """
    return orjson.dumps({"type": kind} | ({"properties": orjson.Fragment(properties)} if properties else {}))


@dataclass(frozen=True, slots=True)
class Death:
    """Why a message was given up; it waits under Subscription.dead_key until it expires.

    ``reason``: exhausted, expired, overflow, encrypted, aborted or another class of failures; ``status``: the last one
    of HTTP, 0 for none. ``first_attempt``, ``last_attempt``: ms, 0 if there was none. ``ttl``: seconds that the message
    had to live. ``properties``: those of a foreign message.
    """

    reason: str
    status: int = 0
    attempts: int = 0
    first_attempt: int = 0
    last_attempt: int = 0
    ttl: int = 0
    properties: dict[str, Any] | None = None

    def data(self) -> bytes:
        """As it is kept in Message.properties."""
        return orjson.dumps(asdict(self))

    @classmethod
    def of(cls, message: Message) -> Death:
        """That of a dead message."""
        stored: dict[str, Any] = orjson.loads(message.properties) if message.properties else {"reason": ""}
        return cls(**{name: value for name, value in stored.items() if name in cls.__dataclass_fields__})
