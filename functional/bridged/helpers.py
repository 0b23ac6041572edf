"""What several modules say about bridged queues, and a native client."""

import contextlib
import uuid
from collections.abc import Mapping
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from functional.api.helpers import claim, create, messages_path
from functional.http import Api
from functional.wait import wait_until
from gateway.core.queues.names import broker_name

#: What the names of these tests' broker objects begin with.
PREFIX = "b-"

#: Seconds within which a message that was published is there for the next client.
SOON = 5.0

#: Seconds within which a bridge notices that an exchange or a queue has come or gone.
NOTICED = 5.0

QUORUM = {"x-queue-type": "quorum"}

#: Arguments that other brokers know, too.
KNOWN_TO_ALL = {"x-single-active-consumer"}


def new_name() -> str:
    """A name for an exchange, a queue or a topic that nobody has used."""
    return f"{PREFIX}{uuid.uuid4().hex[:12]}"


class Native:
    """A native AMQP client. It publishes mandatory and with confirms."""

    def __init__(self, connection: BlockingConnection) -> None:
        self.connection = connection
        self.is_rabbitmq = connection._impl.server_properties["product"] == "RabbitMQ"
        self.channel = self._open()
        self._exchanges: list[str] = []
        self._queues: list[str] = []

    def _open(self) -> BlockingChannel:
        channel = self.connection.channel()
        channel.confirm_delivery()
        return channel

    def exchange(self, kind: str, name: str | None = None) -> str:
        """Declare a durable exchange."""
        name = name or new_name()
        self.channel.exchange_declare(name, kind, durable=True)
        self._exchanges.append(name)
        return name

    def queue(self, name: str | None = None, arguments: Mapping[str, Any] | None = None, **flags: bool) -> str:
        """Declare a queue, durable unless `flags` say otherwise. Only RabbitMQ is told a type.

        A test is skipped if it needs arguments that the broker does not know.
        """
        name = name or new_name()
        arguments = {key: value for key, value in (arguments or {}).items() if self.is_rabbitmq or key not in QUORUM}
        if not self.is_rabbitmq and not arguments.keys() <= KNOWN_TO_ALL:
            pytest.skip(f"it is about queues of RabbitMQ: {', '.join(arguments)}")
        self.channel.queue_declare(name, **{"durable": True, **flags}, arguments=arguments)
        self._queues.append(name)
        return name

    def bound(self, exchange: str, key: str = "", arguments: Mapping[str, Any] | None = None) -> str:
        """Declare a queue that is bound to `exchange`."""
        name = self.queue()
        self.channel.queue_bind(name, exchange, key, arguments=dict(arguments or {}))
        return name

    def publish(self, body: bytes | str, queue: str = "", exchange: str = "", key: str = "", **properties: Any) -> None:
        """Publish to a queue or to an exchange; UnroutableError if nobody gets it."""
        self.channel.basic_publish(
            exchange, queue or key, body, pika.BasicProperties(**{"delivery_mode": 2, **properties}), mandatory=True
        )

    def publish_unheard(self, body: bytes, exchange: str, key: str = "", **properties: Any) -> None:
        """Publish to an exchange whether or not anybody gets it."""
        with contextlib.suppress(pika.exceptions.UnroutableError, pika.exceptions.NackError):
            self.publish(body, exchange=exchange, key=key, **properties)

    def take(self, queue: str, count: int = 1) -> list[tuple[Any, pika.BasicProperties, bytes]]:
        """The next `count` messages, taken out: method, properties, body."""
        taken: list[tuple[Any, pika.BasicProperties, bytes]] = []

        def enough() -> bool:
            if self.depth(queue) is None:  # to get from it would end the connection on some brokers
                return False
            while len(taken) < count:
                message = self.channel.basic_get(queue, auto_ack=True)
                if message[0] is None:
                    return False
                taken.append(message)
            return True

        wait_until(enough, SOON, f"{count} messages in {queue}; there are {len(taken)}")
        return taken

    def bodies(self, queue: str, count: int = 1) -> list[bytes]:
        """The bodies of the next `count` messages, taken out."""
        return [body for _, _, body in self.take(queue, count)]

    def depth(self, queue: str) -> int | None:
        """The broker's count of waiting messages; None if there is no such queue."""
        try:
            with self.connection.channel() as channel:
                return int(channel.queue_declare(queue, passive=True).method.message_count)
        except pika.exceptions.ChannelClosedByBroker as closed:
            assert closed.reply_code == 404, closed
            return None

    def until_depth(self, queue: str, count: int) -> None:
        """Wait until the queue has so many messages: the count of a quorum queue lags."""
        wait_until(lambda: self.depth(queue) == count, SOON, f"{count} messages in {queue}")

    def has_exchange(self, name: str) -> bool:
        """Is there such an exchange?"""
        try:
            with self.connection.channel() as channel:
                channel.exchange_declare(name, "", passive=True)
            return True
        except pika.exceptions.ChannelClosedByBroker as closed:
            assert closed.reply_code == 404, closed
            return False

    def clean(self) -> None:
        """Delete what this client has declared."""
        if not self.connection.is_open:
            return
        for name in self._queues:
            self._delete("queue_delete", name)
        for name in self._exchanges:
            self._delete("exchange_delete", name)

    def _delete(self, how: str, name: str) -> None:
        with self.connection.channel() as channel:
            try:
                getattr(channel, how)(name)
            except pika.exceptions.ChannelClosedByBroker as closed:  # some brokers refuse to delete what is not there
                assert closed.reply_code == 404, closed


def bridge(api: Api, queue: str, **parts: Any) -> None:
    """Make a queue with this `_bridge`."""
    create(api, queue, _bridge=parts)


def from_queue(name: str, **more: Any) -> dict[str, Any]:
    """A `source`: an existing queue."""
    return {"queue": name, **more}


def from_exchange(name: str, kind: str = "fanout", **more: Any) -> dict[str, Any]:
    """A `source`: an existing exchange."""
    return {"exchange": name, "type": kind, **more}


def to_exchange(name: str, routing_key: str = "", **more: Any) -> dict[str, Any]:
    """A `target`."""
    return {"exchange": name, "routing_key": routing_key, **more}


def own_queue(api: Api, queue: str) -> str:
    """The gateway's own queue behind a bridge from an exchange."""
    return broker_name(api.project, queue)


def poison_queue(api: Api, queue: str) -> str:
    """Where the queue's poison goes."""
    return broker_name(api.project, queue).replace("marconi.", "marconi-poison.", 1)


def claimed(api: Api, queue: str, count: int, limit: int = 20, seconds: float = SOON) -> list[dict[str, Any]]:
    """Claim until there are `count` messages, and no more of them."""
    messages: list[dict[str, Any]] = []

    def enough() -> bool:
        messages.extend(claim(api, queue, limit)[1])
        return len(messages) >= count

    try:
        wait_until(enough, seconds)
    except TimeoutError:
        raise AssertionError(f"{len(messages)} instead of {count} messages: {messages}") from None
    assert claim(api, queue, limit) == (None, [])
    assert len(messages) == count, messages
    return messages


def post_raw(api: Api, queue: str, *documents: Any) -> Any:
    """The answer to a post of whole documents."""
    return api.post(messages_path(queue), json={"messages": list(documents)})
