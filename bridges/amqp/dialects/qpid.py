"""Qpid Broker-J, 10.1.

It speaks AMQP 0-9-1, and means other things by some of it:

* ``expiration`` is the time at which a message ends, in milliseconds since the epoch, and not how long it lives.
* A queue's depth counts messages that are delivered and not acknowledged, too.
* A refusal mostly closes the connection and not the channel; so does a basic.get from a queue that there is not.
* An unroutable message is first nacked and then returned; so is one that a full queue does not take.
* Unknown arguments of queues are refused.
* A message for the default exchange goes to the exchange that has the name of its routing key, if there is one, and to
  the queue of that name only else.

Broker-J's source says so (broker-plugins/amqp-0-8-protocol, AMQChannel).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from amqp.exceptions import AccessRefused, NotAllowed, NotFound, ResourceLocked

from bridges.amqp import queues
from bridges.amqp.dialects.base import SINGLE_CONSUMER, Dialect
from bridges.amqp.in_order import ByLock
from bridges.amqp.naming import beside
from bridges.base import Envelope
from bridges.bridging import Binding
from bridges.errors import QueueMissing, SourceUnreadable

if TYPE_CHECKING:
    from bridges.amqp.connection import Connection
    from bridges.amqp.fetcher import Fetcher

#: Header with the TTL of a message that the gateway has sent, in milliseconds: ``expiration`` and ``timestamp`` do not
#: tell it exactly.
TTL = "marconi-ttl"

#: With an alternate exchange that there is not a declaration can't create a queue, and it is not compared with the one
#: of a queue that is there.
NO_ALTERNATE = {"alternateExchange": "marconi-asks"}

_EXCLUSIVE = re.compile(r"is exclusive, but not created on this connection", re.IGNORECASE)
_OTHER_TYPE = re.compile(r"attempt to redeclare exchange.* of type (?P<type>\S+) to ", re.IGNORECASE | re.DOTALL)


class Qpid(Dialect):
    """One type of queues, which keep the order of what comes back."""

    delivery_headers = frozenset({TTL})
    returns_follow_nacks = True
    get_needs_queue = True
    cancel_tells_all = True
    gives_back_at_once = True
    browsing = {"x-filter-no-consume": True}
    in_order = ByLock()

    def outgoing(self, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
        if all(envelope.ttl is None for envelope in envelopes):
            return envelopes
        now = time.time_ns() // 1_000_000
        return [
            envelope if envelope.ttl is None
            else replace(envelope, ttl=now + envelope.ttl, headers={**envelope.headers, TTL: str(envelope.ttl)})
            for envelope in envelopes
        ]

    def ttl(self, properties: Mapping[str, Any]) -> int | None:
        ttl = properties.get("application_headers", {}).get(TTL)
        if isinstance(ttl, str) and ttl.isdecimal():
            return int(ttl)
        expiration = super().ttl(properties)
        if not expiration or expiration < 0:
            return None
        sent = properties.get("timestamp")
        return max(0, expiration - (time.time_ns() // 1_000_000 if sent is None else 1000 * int(sent)))

    def deliveries(self, headers: Mapping[str, Any]) -> int:
        return 0  # it counts them and does not tell

    def queue_arguments(self, queue_type: str, in_order: bool = False) -> dict[str, Any]:
        # There is one type of queues. Order does not need the argument (in_order.py): it keeps consumers of others from
        # having messages of the queue at the same time.
        return {SINGLE_CONSUMER: True} if in_order else {}

    def native_exchange(self, queue: str) -> str:
        return beside(queue, "in")

    def may_consume(self, fetcher: Fetcher, queue: str) -> bool | None:
        """As in Dialect. It tells users whom it lets declare queues of that name; gets end nobody's queue."""
        try:
            if queues.depth(fetcher, queue) is None:
                raise QueueMissing(queue)
            fetcher.channel.queue_declare(queue, durable=True, auto_delete=False, arguments=NO_ALTERNATE)
        except ResourceLocked:  # it may end with its last consumer or connection, or is exclusive to us
            fetcher.channel_reopened()
            return False
        except AccessRefused:
            return False
        except NotFound as error:  # the alternate exchange: the queue was deleted meanwhile
            raise QueueMissing(queue) from error
        except NotAllowed as error:
            if _EXCLUSIVE.search(str(error)):
                raise queues.locked(queue) from error
            raise
        return True

    def in_hand(self, fetcher: Fetcher, queue: str) -> int | None:
        """As in Dialect. The depth counts what waits and what is in hand together: known is that both are none."""
        return None if queues.depth(fetcher, queue) else 0

    def check_exchange(self, connection: Connection, binding: Binding) -> None:
        """As in Dialect. A passive declaration of another type is refused."""
        try:
            connection.channel.exchange_declare(binding.exchange, binding.type, passive=True)
        except NotFound:
            connection.channel_reopened()
        except NotAllowed as error:
            if (other := _OTHER_TYPE.search(str(error))) is None:
                raise
            raise SourceUnreadable(f"exchange {binding.exchange} is {other['type']}, not {binding.type}") from error

    def differs(self, error: BaseException) -> bool:
        return "Cannot re-declare queue" in str(error)

    def is_down(self, error: BaseException) -> bool:
        return False  # what is not found is not there
