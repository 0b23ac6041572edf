"""Deliberate bugs, one for each of the rules that keep messages safe: the checker must catch them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Seconds for which notify_from_memory remembers.
MEMORY = 1.0


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

    def delete_claimed(self: Any, q: str, ids: Any, claims: Any, remembered: Any = None) -> int:
        with self._calls():
            return int(self._messages.delete_many({"_id": {"$in": [f"{q}/{id_}" for id_ in ids]}}).deleted_count)

    MongoDBLanded.delete_claimed = delete_claimed  # type: ignore[method-assign]


def no_second_look() -> None:
    """Believe that the old broker is empty, though it was before the new one was looked at (against rule 4)."""
    from gateway.core.migration.bridge import MovingBridge

    def fetch(self: Any, queue: str, limit: int) -> Any:
        batch = self._fetched(self._both[0], queue, limit)
        return self._fetched(self._new, queue, limit) if not batch.envelopes and len(self._both) == 2 else batch

    MovingBridge.fetch = fetch  # type: ignore[method-assign]


def no_settling() -> None:
    """Delete the old broker's queue as soon as nothing waits there, whatever others have in hand (against rule 2)."""
    from gateway.core.migration.phases import Phases

    Phases._await_returns = lambda self, info, move, source, target: move  # type: ignore[method-assign]
    Phases._are_empty = lambda self, info, source, target: True  # type: ignore[method-assign]


def no_turns() -> None:
    """Move landed messages while others use them (against rules 2, 3 and 8)."""
    from contextlib import nullcontext

    from gateway.core.migration.turns import Turns

    Turns.taken = Turns.alone = lambda self: nullcontext()  # type: ignore[method-assign]


def no_agreement() -> None:
    """Switch at once, while others still remember the queue as it was (against rules 2 and 4)."""
    from gateway.core.migration.phases import Phases

    Phases._agreed = lambda self: self._store.now()  # type: ignore[method-assign]
    Phases._await = lambda self, until: None  # type: ignore[method-assign]


def ack_before_sending() -> None:
    """Acknowledge what is to be delivered as soon as the broker hands it out, before anybody is told."""
    from bridges.amqp.consuming.consumer import AMQPConsumer

    make, settle = AMQPConsumer.__init__, AMQPConsumer.settle

    def make_acknowledging(self: Any, connect: Any, timeout: float, arrived: Callable[[Any], None]) -> None:
        def acknowledged(delivery: Any) -> None:
            settle(self, delivery)
            arrived(delivery)

        make(self, connect, timeout, acknowledged)

    AMQPConsumer.__init__ = make_acknowledging  # type: ignore[method-assign]
    AMQPConsumer.settle = AMQPConsumer.requeue = lambda self, delivery: None  # type: ignore[method-assign]


def notify_from_memory() -> None:
    """Confirm a post when its queue has it, and pass it on to subscriptions from memory, a moment later."""
    import threading

    from bridges.amqp.bridge import AMQPBridge
    from bridges.errors import BridgeError

    publish = AMQPBridge.publish

    def publish_later(self: Any, queue: str, envelopes: Any) -> None:
        try:
            publish(self, queue, envelopes, copied=True)
        except BridgeError:
            return

    def publish_and_remember(self: Any, queue: str, envelopes: Any, copied: bool = False) -> None:
        publish(self, queue, envelopes)
        if copied:
            threading.Timer(MEMORY, publish_later, (self, queue, envelopes)).start()

    AMQPBridge.publish = publish_and_remember  # type: ignore[method-assign]


#: By name; each changes the gateway of the process that calls it.
MUTANTS: dict[str, Callable[[], None]] = {
    "ack-before-landing": ack_before_landing,
    "no-confirm": no_confirm,
    "unconditional-delete": unconditional_delete,
    "no-second-look": no_second_look,
    "no-settling": no_settling,
    "no-turns": no_turns,
    "no-agreement": no_agreement,
    "ack-before-sending": ack_before_sending,
    "notify-from-memory": notify_from_memory,
}
