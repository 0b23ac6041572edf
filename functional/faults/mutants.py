"""Deliberate bugs, one for each of the rules that keep messages safe: the checker must catch them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

#: Seconds for which notify_from_memory remembers.
MEMORY = 1.0


def replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    """Put a bug in the place of a method, which must be there and take the same arguments; TypeError if not."""
    there, own = signature(getattr(owner, name)).parameters, signature(function).parameters
    takes_all = any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in own.values())
    if not takes_all and [*there] != [*own]:
        raise TypeError(f"{owner.__name__}.{name} takes {', '.join(there)}, and the bug {', '.join(own)}")
    setattr(owner, name, function)


def ack_before_landing() -> None:
    """Acknowledge messages as soon as they are fetched (against rule 2)."""
    from bridges.amqp.bridge import AMQPBridge

    fetch, settle = AMQPBridge.fetch, AMQPBridge.settle

    def fetch_and_acknowledge(self: Any, queue: str, limit: int, in_order: bool = False) -> Any:
        batch = fetch(self, queue, limit, in_order)
        settle(self, batch)
        return batch

    replace(AMQPBridge, "fetch", fetch_and_acknowledge)


def no_confirm() -> None:
    """Take messages for safe as soon as they are sent (against rule 1)."""
    from bridges.amqp.publisher import Publisher
    from bridges.amqp.wire.encoder import encode

    def publish(
        self: Any, exchange: str, routing_key: str, envelopes: Any, deadline: float, mandatory: bool,
        copies: str | None = None,
    ) -> None:
        write, channel = self._amqp.transport.write, self.channel.channel_id
        outgoing = self.dialect.outgoing(envelopes)
        if copies is not None:
            write(encode(channel, copies, "", outgoing, self._amqp.frame_max, False))
        write(encode(channel, exchange, routing_key, outgoing, self._amqp.frame_max, mandatory))

    replace(Publisher, "publish", publish)


def unconditional_delete() -> None:
    """Delete a message for any claim, even one that does not hold it (against rule 3)."""
    from storage.mongodb.landed import MongoDBLanded

    def delete_claimed(self: Any, q: str, ids: Any, *others: Any, **named: Any) -> int:
        with self._calls():
            return int(self._messages.delete_many({"_id": {"$in": [f"{q}/{id_}" for id_ in ids]}}).deleted_count)

    replace(MongoDBLanded, "delete_claimed", delete_claimed)


def no_second_look() -> None:
    """Believe that the old broker is empty, though it was before the new one was looked at (against rule 4)."""
    from gateway.core.migration.bridge import MovingBridge

    def fetch(self: Any, *arguments: Any) -> Any:
        batch = self._fetched(self._both[0], *arguments)
        return self._fetched(self._new, *arguments) if not batch.envelopes and len(self._both) == 2 else batch

    replace(MovingBridge, "fetch", fetch)


def no_settling() -> None:
    """Delete the old broker's queue as soon as nothing waits there, whatever others have in hand (against rule 2)."""
    from gateway.core.migration.phases import Phases

    replace(Phases, "_await_returns", lambda self, info, move, source, target: move)
    replace(Phases, "_are_empty", lambda self, info, source, target: True)


def no_turns() -> None:
    """Move landed messages while others use them (against rules 2, 3 and 8)."""
    from contextlib import nullcontext

    from gateway.core.migration.turns import Turns

    replace(Turns, "taken", lambda self: nullcontext())
    replace(Turns, "alone", lambda self: nullcontext())


def no_agreement() -> None:
    """Switch at once, while others still remember the queue as it was (against rules 2 and 4)."""
    from gateway.core.migration.phases import Phases

    replace(Phases, "_agreed", lambda self: self._store.now())
    replace(Phases, "_await", lambda self, until: None)


def ack_before_sending() -> None:
    """Acknowledge what is to be delivered as soon as the broker hands it out, before anybody is told."""
    from bridges.amqp.consuming.consumer import AMQPConsumer

    make, settle = AMQPConsumer.__init__, AMQPConsumer.settle

    def make_acknowledging(self: Any, connect: Any, timeout: float, arrived: Callable[[Any], None]) -> None:
        def acknowledged(delivery: Any) -> None:
            settle(self, delivery)
            arrived(delivery)

        make(self, connect, timeout, acknowledged)

    replace(AMQPConsumer, "__init__", make_acknowledging)
    replace(AMQPConsumer, "settle", lambda self, delivery: None)
    replace(AMQPConsumer, "requeue", lambda self, delivery: None)


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

    replace(AMQPBridge, "publish", publish_and_remember)


def claim_from_backlog() -> None:
    """Claim in FIFO queues as in ordinary ones: from the broker, and of groups that are claimed (against rule 4)."""
    from gateway.core.taking import Claimer, Taking

    def claimed(self: Any, info: Any, claim: Any, limit: int, sort_out: Any) -> Any:
        claimer = Claimer(info, claim, limit, sort_out, self._store, self._batches, self._positions)
        return self._taken(info, claimer)

    replace(Taking, "_in_order", claimed)


def many_consumers() -> None:
    """Let the broker give messages of a FIFO queue to anybody, while others hold some of them (against rule 4)."""
    from bridges.amqp.bridge import AMQPBridge

    create, fetch = AMQPBridge.create, AMQPBridge.fetch
    replace(AMQPBridge, "create", lambda self, queue, in_order=False: create(self, queue))
    replace(AMQPBridge, "fetch", lambda self, queue, limit, in_order=False: fetch(self, queue, limit))


def key_forgotten() -> None:
    """Publish under new ids what comes again with an idempotency key and may have been enqueued before."""
    from gateway.core.once import keys

    replace(keys, "_with_new_for_expired", lambda ids, ttls, now, make_ids: make_ids(len(ids)))


def feed_from_now() -> None:
    """Have a feed that is opened again go on with what comes from now on (against rule 5)."""
    from gateway.core.messages.feeding import Feeding, FeedStart
    from storage.model import TAG_BITS

    start = Feeding.start

    def start_now(self: Any, project: str, queue: str, marker: str | None, now: int) -> Any:
        found = start(self, project, queue, marker, now)
        return found if marker is None else FeedStart(now * 1000 << TAG_BITS, found.pool)

    replace(Feeding, "start", start_now)


def feed_from_start() -> None:
    """Have a feed that is opened again begin at the beginning (against rule 5)."""
    from gateway.core.messages.feeding import Feeding

    start = Feeding.start
    replace(Feeding, "start", lambda self, project, queue, marker, now: start(self, project, queue, None, now))


#: By name; each changes the gateway of the process that calls it.
MUTANTS: dict[str, Callable[[], None]] = {
    "ack-before-landing": ack_before_landing,
    "no-confirm": no_confirm,
    "unconditional-delete": unconditional_delete,
    "no-second-look": no_second_look,
    "no-settling": no_settling,
    "no-turns": no_turns,
    "no-agreement": no_agreement,
    "claim-from-backlog": claim_from_backlog,
    "many-consumers": many_consumers,
    "key-forgotten": key_forgotten,
    "ack-before-sending": ack_before_sending,
    "notify-from-memory": notify_from_memory,
    "feed-from-now": feed_from_now,
    "feed-from-start": feed_from_start,
}
