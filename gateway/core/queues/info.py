"""What the rest of the core gets to know of a queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridges.base import Batch
from bridges.foreign import ForeignBridge
from gateway.core.queues.metadata import Settings

if TYPE_CHECKING:  # a pool's parts are given queues
    from gateway.core.pool import Pool


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue that exists.

    ``pool`` has its messages, ``key`` is what they are kept under in the pool's side-store, ``broker`` the name of the
    queue on the broker that it reads from, which ``bridge`` reaches. ``has_backlog``: can there be anything to read.
    ``read_at``: monotonic seconds when the side-store was asked for it.
    """

    project: str
    name: str
    pool: Pool
    key: str
    broker: str
    bridge: ForeignBridge  # a Bridge that is no ForeignBridge has no bridged queues
    has_backlog: bool
    settings: Settings
    read_at: float = field(default=0.0, compare=False)

    @property
    def is_foreign(self) -> bool:
        """Does it read from somebody else's queue?"""
        bridging = self.settings.bridging
        return bridging is not None and bridging.source is not None and bridging.source.queue is not None

    def fetch(self, limit: int) -> Batch:
        """Up to ``limit`` messages of the backlog; settle or requeue them with ``bridge``."""
        return (self.bridge.fetch_foreign if self.is_foreign else self.bridge.fetch)(self.broker, limit)

    @property
    def lands(self) -> bool:
        """Do lists take messages off the broker? Not off other people's queues, unless they are told to."""
        bridging = self.settings.bridging
        return self.has_backlog and (bridging is None or bridging.lands)

    @property
    def delicate(self) -> tuple[object, bool]:
        """What must hold in all gateways at once when it changes: where posts go, and whether they are encrypted."""
        return self.settings.bridging, self.settings.encrypt

    @property
    def is_delicate(self) -> bool:
        """Is any of that other than usual?"""
        return any(self.delicate)
