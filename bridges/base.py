"""The bridge interface: what every driver does with messages that wait in a broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from bridges.errors import QueueMissing

if TYPE_CHECKING:
    from bridges.consuming import Consumer, Delivery


@dataclass(slots=True)
class Envelope:
    """One message on its way into the broker or out of it.

    ``ttl`` is in milliseconds; ``timestamp`` in seconds since the epoch. On the way out, what a native producer has
    not set is None; ``redelivered`` says that the broker has handed it out before, ``deliveries`` how
    often it has come back if the broker counts that, and ``exchange`` and ``routing_key`` how it came into its queue.
    ``readable`` is False when its properties are not what the protocol allows; they are left out then.
    """

    body: bytes
    message_id: str | None = None
    ttl: int | None = None
    timestamp: int | None = None
    content_type: str | None = "application/json"
    content_encoding: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    type: str | None = None
    app_id: str | None = None
    redelivered: bool = False
    deliveries: int = field(default=0, compare=False)
    exchange: str = field(default="", compare=False)
    routing_key: str = field(default="", compare=False)
    readable: bool = field(default=True, compare=False)


class Batch:
    """Messages fetched from a broker and not yet settled. Exactly one of ``settle``, ``settle_others`` and
    ``requeue`` ends it."""

    __slots__ = ("envelopes",)

    def __init__(self, envelopes: list[Envelope]):
        self.envelopes = envelopes


class Bridge(ABC):
    """Base class of bridges. All methods are thread-safe and raise :class:`BridgeUnavailable` within ``timeout``.

    A driver is created from a URI and its options (an object with one attribute for each of :attr:`OPTS`, an
    oslo.config group in the service) and must not need the broker to be up at that moment: it connects on first use.
    """

    #: oslo.config options that this driver adds to the ``[bridge]`` section.
    OPTS: ClassVar[Sequence[Any]] = ()

    #: False for a bridge without a broker: posts go to the side-store at once, and there is nothing to fetch.
    has_backlog: ClassVar[bool] = True

    #: Seconds that one call may take.
    timeout: float = 5.0

    #: Seconds after which the broker has got back what a client held that has died.
    gives_back_after: float = 0.0

    #: Of a bridge that is no :class:`~bridges.foreign.ForeignBridge`: its kind, and why no queue can be bridged on it.
    #: Clients get to read it, after "Queue metadata _bridge: ".
    cannot_adopt: ClassVar[str] = "the bridge of this service can't reach queues and exchanges of others"

    @abstractmethod
    def create(self, queue: str, in_order: bool = False) -> None:
        """Create the queue, or adopt the one that is there. Idempotent.

        ``in_order``: a queue for ``fetch`` with ``in_order``. Raises BrokerRefused, with what to do about it, if the
        one that is there can't keep order, or the broker has no such queues.
        """

    @abstractmethod
    def delete(self, queue: str) -> None:
        """Remove the queue and the messages in it; nothing happens when there is none.

        It ends the copying too: the copies stay, with what waits in them, as queues of their own. Repeat ``add_copy``
        for each of them when the queue is created again.
        """

    @abstractmethod
    def purge(self, queue: str) -> None:
        """Remove the messages that wait in the queue; nothing happens when there is none."""

    @abstractmethod
    def depth(self, queue: str) -> int:
        """About how many messages wait in the queue; 0 when there is none."""

    def in_hand(self, queue: str) -> int | None:
        """How many messages of the queue have been fetched by anybody and not been settled; None if nobody knows.

        The queue of a broker that can't tell is kept for ``gives_back_after`` seconds and some more, once it is empty,
        before it is deleted because it has moved to another pool.
        """
        return None

    def is_drained(self, queue: str) -> bool:
        """Has a queue that was created ``in_order`` no messages, neither waiting nor in anybody's hands?

        In doubt it is False, after 0.2 s at most: a client may have messages that the broker does not count.
        """
        return not self.depth(queue) and not self.in_hand(queue)

    @abstractmethod
    def publish(self, queue: str, envelopes: Sequence[Envelope], copied: bool = False) -> None:
        """Return when the broker has confirmed every message, on a majority's disk where the queue is replicated.

        ``copied``: to all copies of the queue as well (``add_copy``), confirmed together with the queue.

        Raises QueueMissing when there is no such queue, or, if ``copied``, perhaps when ``add_copy`` has not been
        called since it was created: the caller creates the queue, repeats ``add_copy`` for each copy, and publishes
        again, without ``copied`` if there are none. Raises MessageTooLarge and QueueFull when the broker refuses, and
        OutcomeUnknown when a confirm did not come in time.
        """

    def publish_copies(self, queue: str, envelopes: Sequence[Envelope]) -> None:
        """As ``publish`` with ``copied``, to the copies alone: there need be no such queue, and no copy.

        Raises QueueMissing, perhaps, when ``add_copy`` has not been called, or not since ``delete(queue)``: the caller
        repeats it for each copy. If there is none it names one that does not exist, without ``create``.
        """
        raise NotImplementedError("this bridge makes no copies of what is published")

    def deposit(self, queue: str, envelopes: Sequence[Envelope]) -> None:
        """As publish, to a queue that is created if there is none: for a caller who holds a batch meanwhile.

        So it must not wait for what a batch holds, such as a connection for fetching.
        """
        try:
            self.publish(queue, envelopes)
        except QueueMissing:
            self.create(queue)
            self.publish(queue, envelopes)

    @abstractmethod
    def fetch(self, queue: str, limit: int, in_order: bool = False) -> Batch:
        """Take up to ``limit`` messages that wait, oldest first, without settling them. No queue: none.

        Of large ones it may be fewer, one at least, so that their bodies fit into memory.

        ``in_order``, for a queue that was created so: until the batch has ended nobody else is given messages of the
        queue, be it in this process or in another. If this client dies, its batch comes again, before all others and in
        order; until the broker knows of its death (``gives_back_after``), nothing comes. The batch has the oldest
        messages of the queue, without a gap; it may be more than ``limit`` where a broker would give back a part of
        what waits in another order. While another client has the queue, the batch is empty, after 0.2 s at most. Do not
        mix it with a fetch that is not ``in_order``, or with a consumer.
        """

    @abstractmethod
    def settle(self, batch: Batch) -> None:
        """Acknowledge all of a batch: the broker forgets it."""

    @abstractmethod
    def requeue(self, batch: Batch) -> None:
        """Give all of a batch back to its place in the queue. Never raises: the broker does it by itself at worst."""

    def settle_others(self, batch: Batch, kept: Sequence[Envelope]) -> None:
        """Acknowledge a batch but for the messages of it that are ``kept``: these go back. It ends the batch.

        A driver that can't give back some of a batch gives back all of it.
        """
        self.requeue(batch)

    def add_copy(self, queue: str, copy: str, create: bool = True) -> None:
        """Create queue ``copy``; from now on ``publish(queue, …, copied=True)`` puts each message into it too.

        Idempotent; ``queue`` need not exist yet, but repeat it after ``create``: a driver may have something to do in
        both queues. A copy is a queue like others for all methods here. Without ``create``, ``copy`` is not created:
        while there is none, ``publish`` goes on without it, and this is repeated once somebody has created it.
        """
        raise NotImplementedError("this bridge makes no copies of what is published")

    def remove_copy(self, queue: str, copy: str, keep: bool = False) -> None:
        """The opposite of ``add_copy``; deletes ``copy`` and what waits in it, unless it is to ``keep`` the queue.

        Idempotent, whatever is missing.
        """
        raise NotImplementedError("this bridge makes no copies of what is published")

    def consume(self, arrived: Callable[[Delivery], None]) -> Consumer:
        """A consumer without queues yet, with connections of its own; ``arrived`` gets each message of those added.

        It is independent of this bridge: the caller closes it.
        """
        raise NotImplementedError("this bridge hands out no messages by itself")

    @abstractmethod
    def ping(self) -> None:
        """Return when the broker answers and takes messages; raise BridgeUnavailable otherwise."""

    @abstractmethod
    def close(self) -> None:
        """Give all connections back. The object is not used afterwards."""

    def connections(self) -> int:
        """Connections open now, those of consumers included, for the metrics."""
        return 0

    def fallbacks(self) -> int:
        """How often this process had to leave a fast way of the driver for a slower one, for the metrics."""
        return 0

    def describe(self) -> str:
        """Where the messages wait, for the operator: of the URI what is no secret."""
        return ""
