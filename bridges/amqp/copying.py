"""Copies of what is published to a queue: the exchanges that make them.

A queue with copies has two durable fanout exchanges:

* ``<queue>.~copies`` leads to the copies. The gateway publishes to it and to the queue in one write, so that it knows
  of the queue itself whether that is there.
* The one with the queue's own name leads to the queue and to the copies: for native producers, whose messages reach the
  copies in no other way. On Broker-J it is ``<queue>.~in`` (Dialect.native_exchange).

The exchanges come with the first copy, so a queue without copies costs nothing more than before. They stay when the
last copy has gone, as gateways go on to publish to them, and go with the queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp.exceptions import NotFound

from bridges.amqp import queues
from bridges.amqp.naming import beside

if TYPE_CHECKING:
    from bridges.amqp.connection import Connection

FANOUT = "fanout"


def copies_of(queue: str) -> str:
    """The exchange that leads to a queue's copies."""
    return beside(queue, "copies")


def add(connection: Connection, queue: str, copy: str) -> None:
    """Have both exchanges lead to ``copy``, if that is there; and the native producers' one to ``queue``, if that is.

    Raises what a connection raises; amqp's NotFound if an exchange or ``copy`` is deleted meanwhile.
    """
    native = connection.dialect.native_exchange(queue)
    is_there = queues.depth(connection, copy) is not None
    for exchange in (copies_of(queue), native):
        queues.declare_exchange(connection, exchange, FANOUT, durable=True)
        if is_there:
            queues.bind(connection, copy, exchange, "", {})
    if queues.depth(connection, queue) is not None:
        queues.bind(connection, queue, native, "", {})


def remove(connection: Connection, queue: str, copy: str) -> None:
    """Have the exchanges lead to ``copy`` no longer, which stays; nothing happens if one of them is missing.

    Raises what a connection raises.
    """
    for exchange in (copies_of(queue), connection.dialect.native_exchange(queue)):
        try:
            connection.channel.queue_unbind(copy, exchange)
        except NotFound:
            connection.channel_reopened()


def end(connection: Connection, queue: str) -> None:
    """Delete the queue's exchanges, if there are any. Its copies stay. Raises what a connection raises."""
    for exchange in (copies_of(queue), connection.dialect.native_exchange(queue)):
        try:
            connection.channel.exchange_delete(exchange)
        except NotFound:  # RabbitMQ answers the same whether or not there is one
            connection.channel_reopened()
