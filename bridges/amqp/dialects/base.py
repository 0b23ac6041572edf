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
from bridges.errors import BrokerRefused
from bridges.foreign import Binding

if TYPE_CHECKING:
    from bridges.amqp.connection import Connection
    from bridges.amqp.fetcher import Fetcher

#: A queue that is there, but can't be reached now: the broker says "not found" of those, too.
_DOWN = re.compile(
    r"down or inaccessible|stopped by supervisor|has crashed|timeout|timed out|no leader|not available", re.IGNORECASE
)


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

    #: Headers that say how the broker has delivered a message, and not what its producer has sent. They are not shown.
    delivery_headers: ClassVar[frozenset[str]] = frozenset()

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

    # -- depth --------------------------------------------------------------------------------------------------

    def expected(self, limit: int, depth: int) -> int:
        """How many messages a consumer will get that asks for ``limit``, when the broker says that ``depth`` wait."""
        return min(limit, depth)

    def depth_when_back(self, depth: int, count: int) -> int:
        """The depth of a queue to which ``count`` messages have gone back; with them delivered it was ``depth``."""
        return depth + count

    # -- queues and exchanges -----------------------------------------------------------------------------------

    @abstractmethod
    def queue_arguments(self, queue_type: str) -> dict[str, Any]:
        """Arguments with which the gateway declares queues of its own; ``queue_type``: quorum or classic."""

    @abstractmethod
    def may_consume(self, fetcher: Fetcher, queue: str) -> bool | None:
        """May a consumer come to somebody else's queue and go again? Not if the queue ends with its last consumer.

        None when only a message could tell, and there is none. Raises QueueMissing, and SourceUnreadable for what can't
        be read at all; besides these what py-amqp raises, with the channel open.
        """

    @abstractmethod
    def check_exchange(self, connection: Connection, binding: Binding) -> None:
        """Raises SourceUnreadable if the binding's exchange is there and is of another type, and the broker tells."""

    # -- errors -------------------------------------------------------------------------------------------------

    def differs(self, error: BaseException) -> bool:
        """Does "precondition failed" mean that what was to be created is there, and was declared otherwise?"""
        return "inequivalent arg" in str(error)

    def is_down(self, error: BaseException) -> bool:
        """Does "not found" mean that the thing is there, but can't be reached now?"""
        return _DOWN.search(str(error)) is not None
