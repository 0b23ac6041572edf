"""The bounds of WebSocket connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Bytes of a frame on top of the largest body of a post: for the names of the action and of headers, and signatures.
AROUND = 16 * 1024


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """``max_message``: bytes of a request; ``max_connections``: of this process. Times in seconds: between two pings,
    and that a client has to send a whole request or to read what was sent.
    """

    max_message: int = 262144 + AROUND
    max_connections: int = 1000
    ping_interval: float = 30.0
    client_timeout: float = 60.0
    origins: frozenset[str] = frozenset()

    @classmethod
    def from_options(cls, conf: Any, max_body: int) -> WebSocketSettings:
        """From a configuration in which [cors] is registered. ``max_body``: bytes of the largest body of a call."""
        options = conf.websocket
        return cls(
            options.max_message or max_body + AROUND, options.max_connections, options.ping_interval,
            conf.wsgi.client_timeout, frozenset(conf.cors.allowed_origin or ()),
        )

    def allows(self, origin: str) -> bool:
        """May pages of this origin connect?"""
        return origin in self.origins or "*" in self.origins
