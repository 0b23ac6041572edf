"""Queues and exchanges on the broker: single commands on a connection, and the life of the gateway's own queues."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amqp.exceptions import NotFound, PreconditionFailed, ResourceLocked

from bridges.errors import BridgeUnavailable, SourceUnreadable

if TYPE_CHECKING:
    from bridges.amqp.connection import Connection
    from bridges.amqp.pool import Pool


def depth(connection: Connection, queue: str) -> int | None:
    """Messages that wait in the queue, as the broker counts them (see Dialect), or None when there is no such queue."""
    try:
        return connection.channel.queue_declare(queue, passive=True).message_count
    except NotFound as error:
        connection.channel_reopened()
        if connection.dialect.is_down(error):
            raise
        return None


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


class QueueCreation:
    """Creates the gateway's own queues, one at a time.

    Declaring one new quorum queue from several connections at once makes RabbitMQ 3.10 stall.
    """

    def __init__(self, queue_type: str, timeout: float):
        """``queue_type``: quorum or classic; ``timeout``: seconds to wait for others, and then for the broker."""
        self._queue_type = queue_type
        self._timeout = timeout
        self._lock = threading.Lock()

    def create(self, pool: Pool[Any], queue: str, *, keep: bool) -> None:
        """Create a queue, or adopt the one that is there, on a connection of ``pool``, which is kept or not.

        Raises BridgeUnavailable, and what a connection raises.
        """
        deadline = time.monotonic() + self._timeout
        if not self._lock.acquire(timeout=self._timeout):
            raise BridgeUnavailable("other queues are being made, and the broker is slow to answer")
        try:
            connection = pool.take(deadline)
            try:
                self._create(connection, queue)
            except BaseException:
                pool.drop(connection)
                raise
            if keep:
                pool.put(connection)
            else:
                pool.drop(connection)
        finally:
            self._lock.release()

    def _create(self, connection: Connection, queue: str) -> None:
        if depth(connection, queue) is not None:
            return  # adopted as it is: to declare it with other arguments would fail
        created = declare(connection, queue, connection.dialect.queue_arguments(self._queue_type))
        if not created and depth(connection, queue) is None:  # not even created by somebody else just now
            raise BridgeUnavailable(f"the broker refuses to make queue {queue}")
