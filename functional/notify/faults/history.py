"""What subscribers have got, and what their owners have asked for and been told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from functional.faults.history import History

#: What an owner does to a subscription.
PAUSE, RESUME, UNSUBSCRIBE, REMOVE = "pause", "resume", "unsubscribe", "delete"


@dataclass
class Change:
    """A request to change a subscription, in seconds of the calls' clock; ``status`` None: no answer came."""

    kind: str
    invoked: float
    returned: float = 0.0
    status: int | None = None

    @property
    def succeeded(self) -> bool:
        """Was it done for certain?"""
        return self.status is not None and 200 <= self.status < 300


@dataclass
class Subscribed:
    """A subscription. ``name`` is in its URL and unique in a run; ``most``: deliveries at a time.

    ``made``: when the answer came that it is there. ``dead``: ids of its dead letters, as they were listed in the end.
    """

    name: str
    queue: str
    receiver: str
    most: int
    id: str
    secret: str
    made: float
    changes: list[Change] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)

    @property
    def ended(self) -> float:
        """Since when it may have been deleted or unsubscribed; never: infinity."""
        return min((each.invoked for each in self.changes if each.kind in (REMOVE, UNSUBSCRIBE)), default=float("inf"))


@dataclass
class Attempt:
    """One request that a receiver got: from ``at`` until ``ended``, just before its answer was sent.

    ``status``: the answer's, None if there was none. ``stamped``: the second in which it began, by its own signature
    (seconds of the calls' clock, up to one too early). ``body`` is JSON as it was sent.
    """

    subscription: str
    at: float
    stamped: float
    webhook_id: str
    timestamp: str
    signature: str
    number: int
    body: str
    ended: float | None = None
    status: int | None = None

    @property
    def taken(self) -> bool:
        """Did the receiver say that it has the message?"""
        return self.status is not None and 200 <= self.status < 300


class NotifyHistory(History):
    """Calls and faults, subscriptions by name, and what receivers got, in the order in which it came.

    ``looked``: when dead letters were listed for the last time; ``timeout``: seconds that an attempt may take.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout
        self.subscriptions: dict[str, Subscribed] = {}
        self.attempts: list[Attempt] = []
        self.looked = 0.0
        self._offset = time.time() - self.now()

    def since_began(self, epoch: float) -> float:
        """A time of the day on the calls' clock."""
        return epoch - self._offset

    def items(self) -> list[Any]:
        """Everything that is to be saved."""
        return [*super().items(), *self.subscriptions.values(), *self.attempts]
