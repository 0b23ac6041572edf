"""RabbitMQ, 3.10 to 4.3.

AMQP 0-9-1 has no way to ask what somebody else's queue or exchange is, so RabbitMQ is made to refuse a declaration that
never can be: the text of its refusal tells the first thing that differs. Where the gateway's user may not declare at
all, a queue's first message tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import amqp
from amqp.exceptions import AccessRefused, AMQPNotImplementedError, NotFound, PreconditionFailed, ResourceLocked

from bridges.amqp import queues
from bridges.amqp.dialects.base import SINGLE_CONSUMER, Dialect
from bridges.amqp.in_order import BySingleConsumer
from bridges.bridging import Binding
from bridges.errors import BrokerRefused, QueueMissing, SourceUnreadable

if TYPE_CHECKING:
    from bridges.amqp.connection import Connection
    from bridges.amqp.fetcher import Fetcher

#: How often a message may return to a quorum queue. With a limit RabbitMQ puts a returned message back in its old
#: place, without one at the end of the queue (RabbitMQ documentation, "Quorum Queues", repeated requeues). The default
#: of RabbitMQ 4, 20, would drop messages after that many crashes, so this limit is one that is never reached.
DELIVERY_LIMIT = 1_000_000

#: Arguments of queues: how often a message may return, and up to which priority messages may overtake others.
LIMIT, PRIORITY = "x-delivery-limit", "x-max-priority"

#: Fewest returns that a queue of others must allow so that we keep it in order: each one is a crash of a gateway, or a
#: pause that was too long, with the message in its hands.
FEWEST_RETURNS = 1000

#: Header that RabbitMQ adds to messages of quorum queues. Since 4.0 only messages that have been returned have it.
DELIVERY_COUNT = "x-delivery-count"

#: A queue type that does not exist, so that a declaration with it can neither match a queue nor create one.
NO_TYPE = "marconi-asks"
TYPE = "x-queue-type"

#: An alternate exchange must be a string, so a declaration with a number can neither match an exchange nor create one.
NO_ALTERNATE = {"alternate-exchange": 1}

#: How RabbitMQ 3.10 to 4.3 refuses a declaration: it names the argument that differs and its present value. A long name
#: of the queue or exchange cuts off the end of the text.
DIFFERENCE = re.compile(
    r"inequivalent arg '(?P<name>[\w-]+)' for (?:queue|exchange) '"
    r"(?:.* but current is (?:the value )?(?:none|'(?P<value>.*?)')(?: of type '(?P<type>\w+)')?$)?",
    re.DOTALL,
)

#: Arguments of queues that the broker deletes with their last consumer or their connection.
LIFETIMES = ("durable", "auto_delete", "exclusive")

#: How many arguments of a queue we ask for, as RabbitMQ names one at a time. It knows about twenty.
MAX_ARGUMENTS = 25

#: How often we try to look at a queue's first message while other consumers take messages away.
LOOKS = 3


class RabbitMQ(Dialect):
    """Quorum or classic queues, which the gateway declares as its operator wants."""

    prefetch_is_shared = False
    tells_of_deletion = True
    in_order = BySingleConsumer()
    # RabbitMQ 4.3 counts acquisitions besides, streams give a place.
    delivery_headers = frozenset({DELIVERY_COUNT, "x-acquired-count", "x-stream-offset"})

    def deliveries(self, headers: Mapping[str, Any]) -> int:
        count = headers.get(DELIVERY_COUNT)
        return count if isinstance(count, int) else 0  # a classic queue passes anybody's header on

    def queue_arguments(self, queue_type: str, in_order: bool = False) -> dict[str, Any]:
        arguments: dict[str, Any] = {TYPE: queue_type}
        if queue_type == "quorum":
            arguments[LIMIT] = DELIVERY_LIMIT
        if in_order:
            arguments[SINGLE_CONSUMER] = True
        return arguments

    def check_in_order(self, connection: Connection, queue: str, arguments: Mapping[str, Any]) -> None:
        """As in Dialect. Arguments that differ are taken over from the queue until all are the same, or it is the one
        that order needs.
        """
        lifetime, tried = {"durable": True, "auto_delete": False, "exclusive": False}, dict(arguments)
        for _ in range(MAX_ARGUMENTS):
            try:
                connection.channel.queue_declare(queue, arguments=tried, **lifetime)
            except PreconditionFailed as error:
                connection.channel_reopened()
                difference = DIFFERENCE.search(str(error))
            else:
                _check_order(queue, tried)
                return
            if difference is None or (name := difference["name"]) == SINGLE_CONSUMER:
                break
            value = difference["value"]
            if name in LIFETIMES and value is not None:
                lifetime[name] = value == "true"
            elif value is not None:
                tried[name] = _typed(value, difference["type"])
            elif tried.pop(name, None) is None:
                break
        raise BrokerRefused(
            f"queue {queue} is there already and may have several consumers at a time, so its messages can't be kept in"
            f" order: delete it, or declare it again with {SINGLE_CONSUMER}"
        )

    def may_consume(self, fetcher: Fetcher, queue: str) -> bool | None:
        """As in Dialect. A refusal in words that are not known is a no: gets end nobody's queue."""
        try:
            if queues.depth(fetcher, queue) is None:
                raise QueueMissing(queue)
            return _may_consume(fetcher, queue)
        except NotFound as error:
            fetcher.channel_reopened()
            if self.is_down(error):
                raise
            raise QueueMissing(queue) from error  # deleted meanwhile
        except ResourceLocked as error:
            fetcher.channel_reopened()
            raise queues.locked(queue) from error

    def check_exchange(self, connection: Connection, binding: Binding) -> None:
        """As in Dialect. RabbitMQ tells only users whom it lets declare exchanges of that name."""
        try:
            connection.channel.exchange_declare(
                binding.exchange, binding.type, auto_delete=False, arguments=NO_ALTERNATE
            )
        except AccessRefused:
            connection.channel_reopened()
        except PreconditionFailed as error:
            connection.channel_reopened()
            difference = DIFFERENCE.search(str(error))
            if difference is not None and difference["name"] == "type":
                real = f"{difference['value']}, not" if difference["value"] else "not of type"
                raise SourceUnreadable(f"exchange {binding.exchange} is {real} {binding.type}") from error


def _check_order(queue: str, arguments: Mapping[str, Any]) -> None:
    """Raises BrokerRefused if a queue with one consumer at a time and these arguments may drop or reorder messages."""
    if arguments.get(PRIORITY):
        raise BrokerRefused(
            f"queue {queue} is there already and has priorities, so its messages can't be kept in order: delete it, or"
            f" declare it again without {PRIORITY}"
        )
    if arguments.get(TYPE) == "quorum" and (arguments.get(LIMIT) or 0) < FEWEST_RETURNS:
        raise BrokerRefused(
            f"queue {queue} is there already, and RabbitMQ drops what comes back to it too often, or puts it at the"
            f" end: delete it, or declare it again with {LIMIT} {DELIVERY_LIMIT}"
        )


def _may_consume(fetcher: Fetcher, queue: str) -> bool | None:
    arguments: dict[str, Any] = {TYPE: NO_TYPE}
    for _ in range(MAX_ARGUMENTS):
        try:
            fetcher.channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
        except AccessRefused:
            fetcher.channel_reopened()
            return _is_quorum(fetcher, queue)
        except PreconditionFailed as error:
            fetcher.channel_reopened()
            difference = DIFFERENCE.search(str(error))
        else:  # a product of that name which takes any type
            return False
        if difference is None:
            if queues.depth(fetcher, queue) is None:
                raise QueueMissing(queue)
            return False
        name, value = difference["name"], difference["value"]
        if name in LIFETIMES:
            return False
        if name == TYPE and "but current is" in difference[0]:
            if value == "stream":
                raise _stream(queue)
            return True
        if name == TYPE or value is None or name in arguments:
            break
        # One of its other arguments, which is named before the type: once it fits the next one is named.
        arguments[name] = _typed(value, difference["type"])
    try:
        _first(fetcher, queue)  # tells a stream from all others
    except ResourceLocked:
        fetcher.channel_reopened()  # a quorum queue with a single active consumer
    else:
        fetcher.give_back()
    return True


def _typed(value: str, kind: str | None) -> Any:
    """The value of an argument from RabbitMQ's text."""
    if kind == "bool":
        return value == "true"
    return int(value) if value.lstrip("-").isdecimal() and kind != "longstr" else value


def _is_quorum(fetcher: Fetcher, queue: str) -> bool | None:
    """Is it a quorum queue? They alone count how often a message has come back, so that the count rises by a look.

    The count's header may also have been sent by a producer, who has got the message from another queue.
    """
    for _ in range(LOOKS):
        try:
            first = _first(fetcher, queue)
            if first is None:
                return None
            fetcher.restore(queue, 1)
            if first.delivery_info["redelivered"] and DELIVERY_COUNT not in (first.headers or {}):
                return False
            again = _first(fetcher, queue)
        except ResourceLocked:
            fetcher.channel_reopened()
            return True  # with a single active consumer they take no gets
        if again is None:
            return None
        fetcher.restore(queue, 1)
        if again.delivery_info["redelivered"]:
            return _count(again) > _count(first)
    return None


def _first(fetcher: Fetcher, queue: str) -> amqp.Message | None:
    try:
        return fetcher.channel.basic_get(queue)
    except AMQPNotImplementedError as error:
        raise _stream(queue) from error


def _count(message: amqp.Message) -> int:
    count = (message.headers or {}).get(DELIVERY_COUNT, 0)
    return count if isinstance(count, int) else 0


def _stream(queue: str) -> SourceUnreadable:
    return SourceUnreadable(f"queue {queue} is a stream, which has no messages to take")
