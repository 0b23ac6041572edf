"""What the rest of the core gets to know of a queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from bridges.base import Batch
from bridges.foreign import ForeignBridge
from gateway.core.queues.metadata import Settings

if TYPE_CHECKING:  # a pool's parts are given queues
    from gateway.core.pools.pool import Pool


class Reads(Enum):
    """What a queue reads from. It is looked at for each message, so its properties are plain attributes.

    ``has_backlog``: can anything wait in the broker; ``lands``: do lists take that off the broker; ``is_foreign``: is
    it somebody else's queue.
    """

    #: There is no broker, or the queue is bridged to a target alone.
    NOTHING = (False, False, False)
    #: The gateway's queue on the broker, which may be bound to an exchange of others.
    OWN_QUEUE = (True, True, False)
    #: Somebody else's queue. What a list finds there lands if the metadata says so, or stays where it is.
    FOREIGN_QUEUE_LANDED = (True, True, True)
    FOREIGN_QUEUE_PEEKED = (True, False, True)

    def __init__(self, has_backlog: bool, lands: bool, is_foreign: bool):
        self.has_backlog = has_backlog
        self.lands = lands
        self.is_foreign = is_foreign

    @classmethod
    def of(cls, settings: Settings, has_broker: bool) -> Reads:
        """What a queue with these settings reads from."""
        bridging = settings.bridging
        if not has_broker or settings.unusable is not None or (bridging is not None and bridging.source is None):
            return cls.NOTHING
        if bridging is None or bridging.source is None or bridging.source.queue is None:
            return cls.OWN_QUEUE
        return cls.FOREIGN_QUEUE_LANDED if bridging.lands else cls.FOREIGN_QUEUE_PEEKED


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue that exists.

    ``pool`` has its messages, ``key`` is what they are kept under in the pool's side-store, ``broker`` the name of the
    queue on the broker that it reads from, which ``bridge`` reaches. ``read_at``: monotonic seconds when the side-store
    was asked for it. ``notifies``: what is posted goes into the delivery queues of subscriptions, too; ``is_topic``: it
    goes into these alone.
    """

    project: str
    name: str
    pool: Pool
    key: str
    broker: str
    bridge: ForeignBridge  # a Bridge that is no ForeignBridge has no bridged queues
    reads: Reads
    settings: Settings
    read_at: float = field(default=0.0, compare=False)
    notifies: bool = field(default=False, compare=False)
    is_topic: bool = False

    @property
    def copies_on_broker(self) -> bool:
        """Do the messages for its subscriptions wait on the broker?"""
        return self.reads is Reads.OWN_QUEUE or (self.is_topic and self.bridge.has_backlog)

    def fetch(self, limit: int) -> Batch:
        """Up to ``limit`` messages of the backlog; settle or requeue them with ``bridge``."""
        if self.settings.fifo:
            return self.bridge.fetch(self.broker, limit, **self.ordering)
        return (self.bridge.fetch_foreign if self.reads.is_foreign else self.bridge.fetch)(self.broker, limit)

    @property
    def ordering(self) -> dict[str, bool]:
        """Arguments of Bridge.create and Bridge.fetch that say whether messages are handed out in order."""
        return {"in_order": True} if self.settings.fifo else {}

    @property
    def delicate(self) -> tuple[object, ...]:
        """What must hold in all gateways at once when it changes: where posts go, whether they are encrypted, and
        whether groups are kept in order.
        """
        return self.settings.bridging, self.settings.unusable, self.settings.encrypt, self.settings.fifo

    @property
    def is_delicate(self) -> bool:
        """Is any of that other than usual?"""
        return any(self.delicate)
