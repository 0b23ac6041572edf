"""The interface of a dialect: all that the bridge has to know about a broker besides AMQP 0-9-1 itself.

Each method that has an implementation here does what holds for all brokers known so far.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bridges.base import Envelope
from bridges.bridging import Binding
from bridges.errors import BrokerRefused

if TYPE_CHECKING:
    from bridges.amqp.connection import Connection
    from bridges.amqp.fetcher import Fetcher
    from bridges.amqp.in_order import InOrder

#: Matches the text for a queue that exists but can't be reached now. The broker answers "not found" for these, too.
_DOWN = re.compile(
    r"down or inaccessible|stopped by supervisor|has crashed|timeout|timed out|no leader|not available", re.IGNORECASE
)


#: Argument of a queue that hands its messages to one of its consumers alone.
SINGLE_CONSUMER = "x-single-active-consumer"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Refusals whose text matches ``pattern`` are of a ``kind``; ``advice`` is empty where none fits."""

    pattern: re.Pattern[str]
    kind: type[BrokerRefused]
    advice: str = ""


def refusal_like(pattern: str, kind: type[BrokerRefused], advice: str = "") -> Refusal:
    """A row of a dialect's table of refusals; upper and lower case are the same to it."""
    return Refusal(re.compile(pattern, re.IGNORECASE), kind, advice)


class Dialect(ABC):
    """A kind of AMQP broker. Objects have no state: all connections to such brokers share one."""

    #: Headers that the broker adds when it delivers a message. They are hidden, because the producer did not send them.
    delivery_headers: ClassVar[frozenset[str]] = frozenset()

    #: After basic.nack of a mandatory message the broker sends basic.return, which says why. RabbitMQ sends it first.
    returns_follow_nacks: ClassVar[bool] = False

    #: basic.get from a queue that there is not closes the connection, so the queue is looked for first.
    get_needs_queue: ClassVar[bool] = False

    #: The broker answers basic.cancel after it has sent all that waits, within the consumer's credit. So a consumer is
    #: ended at once, nothing is waited for, and its messages may be acknowledged or given back after that.
    cancel_tells_all: ClassVar[bool] = False

    #: What is given back is in its place when the broker has answered. Else the queue's depth shows it a little later.
    gives_back_at_once: ClassVar[bool] = False

    #: A prefetch limit is one for all consumers of a channel, as AMQP 0-9-1 has it. RabbitMQ gives each one of its own.
    prefetch_is_shared: ClassVar[bool] = True

    #: The broker cancels the consumers of a queue that is deleted, and says so.
    tells_of_deletion: ClassVar[bool] = False

    #: How messages are fetched in order; None if no way is known.
    in_order: ClassVar[InOrder | None] = None

    #: Arguments of a consumer that is shown messages and takes none; None if the broker has no such consumers.
    browsing: ClassVar[Mapping[str, Any] | None] = None

    # -- messages -----------------------------------------------------------------------------------------------

    def outgoing(self, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
        """The envelopes as they are sent: ``ttl`` is what the property ``expiration`` will say."""
        return envelopes

    def ttl(self, properties: Mapping[str, Any]) -> int | None:
        """Milliseconds that a message had to live when it was sent; None if it lives until it is taken."""
        try:
            return int(properties["expiration"])
        except (KeyError, ValueError):
            return None

    @abstractmethod
    def deliveries(self, headers: Mapping[str, Any]) -> int:
        """How often a message has come back to its queue; 0 if the broker does not count that."""

    # -- queues and exchanges -----------------------------------------------------------------------------------

    @abstractmethod
    def queue_arguments(self, queue_type: str, in_order: bool = False) -> dict[str, Any]:
        """Arguments with which the gateway declares queues of its own; ``queue_type``: quorum or classic.

        ``in_order``: for a queue whose messages are fetched in order.
        """

    def check_in_order(self, connection: Connection, queue: str, arguments: Mapping[str, Any]) -> None:
        """Raises BrokerRefused if messages of a queue that is there can't be fetched in order; and what a connection
        raises. ``arguments``: those with which it would be declared.
        """
        return  # a broker that has a way for any queue

    def native_exchange(self, queue: str) -> str:
        """Name of the exchange by which native producers reach a queue of the gateway and its copies."""
        return queue

    @abstractmethod
    def may_consume(self, fetcher: Fetcher, queue: str) -> bool | None:
        """May a consumer come to somebody else's queue and go again? Not if the queue ends with its last consumer.

        None when only a message could tell, and there is none. Raises QueueMissing, and SourceUnreadable for what can't
        be read at all; besides these what py-amqp raises. The channel is open, unless the broker has closed
        the connection.
        """

    @abstractmethod
    def check_exchange(self, connection: Connection, binding: Binding) -> None:
        """Raises SourceUnreadable if the binding's exchange is there and is of another type, and the broker tells."""

    def in_hand(self, fetcher: Fetcher, queue: str) -> int | None:
        """As Bridge.in_hand. AMQP 0-9-1 has no number for it: queue.declare-ok counts "messages not awaiting
        acknowledgment". Raises what a connection raises.
        """
        return None

    # -- errors -------------------------------------------------------------------------------------------------

    def differs(self, error: BaseException) -> bool:
        """Does a refused declaration mean that what was to be created is there, and was declared otherwise?"""
        return "inequivalent arg" in str(error)

    def is_down(self, error: BaseException) -> bool:
        """Does "not found" mean that the thing is there, but can't be reached now?"""
        return _DOWN.search(str(error)) is not None
