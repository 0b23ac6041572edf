"""What somebody else's queue or exchange is.

AMQP 0-9-1 has no way to ask, so RabbitMQ is made to refuse a declaration that never can be: the text of its refusal
tells the first thing that differs. Where the gateway's user may not declare at all, a queue's first message tells.
"""

from __future__ import annotations

import re
from typing import Any

import amqp
from amqp.exceptions import AccessRefused, AMQPNotImplementedError, NotFound, PreconditionFailed, ResourceLocked

from bridges.amqp.link import Link
from bridges.amqp.refusals import is_down
from bridges.base import Binding
from bridges.errors import QueueMissing, SourceUnreadable

#: Header that RabbitMQ adds to messages of quorum queues: from 4.0 on only to those that have come back.
DELIVERY_COUNT = "x-delivery-count"

#: Headers that say how the broker has delivered a message, and not what its producer has sent: RabbitMQ 4.3 counts
#: acquisitions besides, streams give a place.
DELIVERY_HEADERS = frozenset({DELIVERY_COUNT, "x-acquired-count", "x-stream-offset"})

#: A type of queues that there is not: with it a declaration can neither fit a queue nor make one.
NO_TYPE = "marconi-asks"
TYPE = "x-queue-type"

#: An alternate exchange must be a name: with a number a declaration can neither fit an exchange nor make one.
NO_ALTERNATE = {"alternate-exchange": 1}

#: RabbitMQ's refusal of a declaration, 3.10 to 4.3: what differs, and how it is. A long name cuts the end off.
DIFFERENCE = re.compile(
    r"inequivalent arg '(?P<name>[\w-]+)' for (?:queue|exchange) '"
    r"(?:.* but current is (?:the value )?(?:none|'(?P<value>.*?)')(?: of type '(?P<type>\w+)')?$)?",
    re.DOTALL,
)

#: Differences of a queue by which it may end with its last consumer or its connection.
LIFETIMES = ("durable", "auto_delete", "exclusive")

#: Arguments of a queue that RabbitMQ may name one after the other: it knows about twenty.
MAX_ARGUMENTS = 25

#: Times that a queue's first message is looked at while others take them.
LOOKS = 3


def may_consume(link: Link, queue: str) -> bool | None:
    """May a consumer come to somebody else's queue and go again? Not if the queue ends with its last consumer.

    None when only a message could tell, and there is none. A refusal in words that are not known is a no: gets end
    nobody's queue. Raises QueueMissing, and SourceUnreadable for what can't be read at all.
    """
    try:
        if link.depth(queue) is None:
            raise QueueMissing(queue)
        return _may_consume(link, queue)
    except NotFound as error:
        link.reopened()
        if is_down(error):
            raise
        # Deleted meanwhile.
        raise QueueMissing(queue) from error
    except ResourceLocked as error:
        link.reopened()
        raise locked(queue) from error


def _may_consume(link: Link, queue: str) -> bool | None:
    arguments: dict[str, Any] = {TYPE: NO_TYPE}
    for _ in range(MAX_ARGUMENTS):
        try:
            link.channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
        except AccessRefused:
            link.reopened()
            return _is_quorum(link, queue)
        except PreconditionFailed as error:
            link.reopened()
            difference = DIFFERENCE.search(str(error))
        else:  # no RabbitMQ
            return False
        if difference is None:
            if link.depth(queue) is None:
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
        _first(link, queue)  # tells a stream from all others
    except ResourceLocked:
        link.reopened()  # a quorum queue with a single active consumer
    else:
        link.give_back()
    return True


def _typed(value: str, kind: str | None) -> Any:
    """The value of an argument from RabbitMQ's text."""
    if kind == "bool":
        return value == "true"
    return int(value) if value.lstrip("-").isdecimal() and kind != "longstr" else value


def _is_quorum(link: Link, queue: str) -> bool | None:
    """Is it a quorum queue? They alone count how often a message has come back, so that the count rises by a look.

    The count's header may also have been sent by a producer, who has got the message from another queue.
    """
    for _ in range(LOOKS):
        try:
            first = _first(link, queue)
            if first is None:
                return None
            link.restore(queue, 1)
            if first.delivery_info["redelivered"] and DELIVERY_COUNT not in (first.headers or {}):
                return False
            again = _first(link, queue)
        except ResourceLocked:
            link.reopened()
            return True  # with a single active consumer they take no gets
        if again is None:
            return None
        link.restore(queue, 1)
        if again.delivery_info["redelivered"]:
            return _count(again) > _count(first)
    return None


def _first(link: Link, queue: str) -> amqp.Message | None:
    try:
        return link.channel.basic_get(queue)
    except AMQPNotImplementedError as error:
        raise _stream(queue) from error


def _count(message: amqp.Message) -> int:
    count = (message.headers or {}).get(DELIVERY_COUNT, 0)
    return count if isinstance(count, int) else 0


def locked(queue: str) -> SourceUnreadable:
    """The error for an exclusive queue."""
    return SourceUnreadable(f"queue {queue} belongs to another connection alone (exclusive)")


def _stream(queue: str) -> SourceUnreadable:
    return SourceUnreadable(f"queue {queue} is a stream, which has no messages to take")


def check_exchange(link: Link, binding: Binding) -> None:
    """Raises SourceUnreadable if an exchange is of another type than the binding is for.

    RabbitMQ tells only whom it lets declare exchanges of that name; there is nothing to say about one that is missing.
    """
    if link.server_properties.get("product") != "RabbitMQ":
        return
    try:
        link.channel.exchange_declare(binding.exchange, binding.type, auto_delete=False, arguments=NO_ALTERNATE)
    except AccessRefused:
        link.reopened()
    except PreconditionFailed as error:
        link.reopened()
        difference = DIFFERENCE.search(str(error))
        if difference is not None and difference["name"] == "type":
            real = f"{difference['value']}, not" if difference["value"] else "not of type"
            raise SourceUnreadable(f"exchange {binding.exchange} is {real} {binding.type}") from error
