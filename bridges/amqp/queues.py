"""Queues and exchanges on the broker: single commands on a connection, and the life of the gateway's own queues."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amqp.exceptions import NotFound, PreconditionFailed, ResourceLocked

from bridges.errors import BridgeUnavailable, BrokerRefused, SourceUnreadable

if TYPE_CHECKING:
    from bridges.amqp.connection import Connection
    from bridges.amqp.pool import Pool


def depth(connection: Connection, queue: str) -> int | None:
    """Messages that wait in the queue, as the broker counts them (see Dialect), or None when there is no such queue."""
    found = counts(connection, queue)
    return found and found[0]


def counts(connection: Connection, queue: str) -> tuple[int, int] | None:
    """Messages that wait in the queue, and its consumers, as the broker counts them; None when there is no queue."""
    try:
        found = connection.channel.queue_declare(queue, passive=True)
    except NotFound as error:
        connection.channel_reopened()
        if connection.dialect.is_down(error):
            raise
        return None
    return found.message_count, found.consumer_count


def declare(connection: Connection, queue: str, arguments: dict[str, Any]) -> bool:
    """Create a durable queue; False when there is one already that is not like that."""
    try:
        connection.channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
    except (PreconditionFailed, ResourceLocked) as error:
        connection.channel_reopened()
        if not connection.dialect.differs(error):  # a limit, or a type of queues that the broker does not create
            raise
        return False
    return True


def delete(connection: Connection, queue: str) -> None:
    """Delete a queue with its messages; nothing happens when there is none."""
    try:
        connection.channel.queue_delete(queue)
    except NotFound as error:  # RabbitMQ answers the same whether or not there is one
        connection.channel_reopened()
        if connection.dialect.is_down(error):
            raise


def has_exchange(connection: Connection, exchange: str) -> bool:
    """Is there such an exchange?"""
    try:
        connection.channel.exchange_declare(exchange, "", passive=True)  # of whatever type
    except NotFound:
        connection.channel_reopened()
        return False
    return True


def declare_exchange(connection: Connection, exchange: str, kind: str, durable: bool) -> None:
    """Create an exchange; one that somebody else has just declared otherwise is left as it is."""
    try:
        connection.channel.exchange_declare(exchange, kind, durable=durable, auto_delete=False)
    except PreconditionFailed as error:
        connection.channel_reopened()
        if not connection.dialect.differs(error):  # a limit
            raise


def bind(connection: Connection, queue: str, exchange: str, key: str, arguments: Mapping[str, Any]) -> None:
    """Bind a queue to an exchange. Raises amqp's NotFound when one of them is missing."""
    try:
        connection.channel.queue_bind(queue, exchange, key, arguments=dict(arguments))
    except NotFound:
        connection.channel_reopened()
        raise


def locked(queue: str) -> SourceUnreadable:
    """The error for an exclusive queue."""
    return SourceUnreadable(f"queue {queue} belongs to another connection alone (exclusive)")


def no_order() -> BrokerRefused:
    """The error for a broker that has no queues for fetches in order."""
    return BrokerRefused(
        "the gateway knows no way to keep the order of messages on a broker of this kind: FIFO queues need RabbitMQ,"
        " Qpid Broker-J or Redis"
    )


class QueueCreation:
    """Creates the gateway's own queues, one at a time.

    Declaring one new quorum queue from several connections at once makes RabbitMQ 3.10 stall.
    """

    def __init__(self, queue_type: str, timeout: float):
        """``queue_type``: quorum or classic; ``timeout``: seconds to wait for others, and then for the broker."""
        self._queue_type = queue_type
        self._timeout = timeout
        self._lock = threading.Lock()

    def create(self, pool: Pool[Any], queue: str, *, keep: bool, in_order: bool = False) -> None:
        """Create a queue, or adopt the one that is there, on a connection of ``pool``, which is kept or not.

        ``in_order``: as in Bridge.create. Raises BridgeUnavailable, BrokerRefused, and what a connection raises.
        """
        deadline = time.monotonic() + self._timeout
        if not self._lock.acquire(timeout=self._timeout):
            raise BridgeUnavailable("other queues are being made, and the broker is slow to answer")
        try:
            connection = pool.take(deadline)
            try:
                self._create(connection, queue, in_order)
            except BaseException:
                pool.drop(connection)
                raise
            if keep:
                pool.put(connection)
            else:
                pool.drop(connection)
        finally:
            self._lock.release()

    def _create(self, connection: Connection, queue: str, in_order: bool) -> None:
        dialect = connection.dialect
        if in_order and dialect.in_order is None:
            raise no_order()
        arguments = dialect.queue_arguments(self._queue_type, in_order)
        if depth(connection, queue) is None:
            if declare(connection, queue, arguments):
                return
            if depth(connection, queue) is None:  # not even created by somebody else just now
                raise BridgeUnavailable(f"the broker refuses to make queue {queue}")
        # It is adopted as it is: to declare it with other arguments would fail.
        if in_order:
            dialect.check_in_order(connection, queue, arguments)
