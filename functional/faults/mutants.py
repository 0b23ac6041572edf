"""Deliberate bugs, one for each of the rules that keep messages safe: the checker must catch them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def ack_before_landing() -> None:
    """Acknowledge messages as soon as they are fetched (against rule 2)."""
    from bridges.amqp.bridge import AMQPBridge

    fetch, settle = AMQPBridge.fetch, AMQPBridge.settle

    def fetch_and_acknowledge(self: Any, queue: str, limit: int) -> Any:
        batch = fetch(self, queue, limit)
        settle(self, batch)
        return batch

    AMQPBridge.fetch = fetch_and_acknowledge  # type: ignore[method-assign]


def no_confirm() -> None:
    """Take messages for safe as soon as they are sent (against rule 1)."""
    from bridges.amqp.publisher import Publisher
    from bridges.amqp.wire.encoder import encode

    def publish(
        self: Any, exchange: str, routing_key: str, envelopes: Any, deadline: float, mandatory: bool
    ) -> None:
        connection = self._amqp
        connection.transport.write(
            encode(self.channel.channel_id, exchange, routing_key, envelopes, connection.frame_max, mandatory)
        )

    Publisher.publish = publish  # type: ignore[method-assign]


def unconditional_delete() -> None:
    """Delete a message for any claim, even one that does not hold it (against rule 3)."""
    from storage.mongodb.landed import MongoDBLanded

    def delete_claimed(self: Any, q: str, ids: Any, claims: Any) -> int:
        with self._calls():
            return int(self._messages.delete_many({"_id": {"$in": [f"{q}/{id_}" for id_ in ids]}}).deleted_count)

    MongoDBLanded.delete_claimed = delete_claimed  # type: ignore[method-assign]


#: By name; each changes the gateway of the process that calls it.
MUTANTS: dict[str, Callable[[], None]] = {
    "ack-before-landing": ack_before_landing,
    "no-confirm": no_confirm,
    "unconditional-delete": unconditional_delete,
}
