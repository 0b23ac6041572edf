"""What the requests of one connection leave for those after them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from gateway.core.subscriptions.record import Subscription


@dataclass(slots=True)
class Session:
    """One request of a connection works with it at a time.

    ``id``: the connection's, a UUID, by which its subscriptions have a subscriber. ``base``: where links begin;
    ``address``: of the client, for the audit log. ``credentials``: what the authentication strategy wants to see of a
    request, as it is in the WSGI environment; None before the client has authenticated. ``expires``: when they end
    (seconds since the epoch). ``subscriptions``: those of the connection itself, by their names. ``is_binary``: are
    its notifications MessagePack?
    """

    id: str = field(default_factory=lambda: str(uuid4()))
    base: str = ""
    address: str | None = None
    credentials: Mapping[str, Any] | None = field(default=None, repr=False)
    expires: float = math.inf
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    is_binary: bool = False

    @property
    def subscriber(self) -> str:
        """The subscriber of its subscriptions."""
        return f"websocket:{self.id}"
