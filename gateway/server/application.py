"""What the server serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: The body of an answer that the server gives by itself, from a title and a description, and its media type.
ErrorBody = Callable[[str, str], tuple[bytes, str]]


def text_error(title: str, description: str) -> tuple[bytes, str]:
    """An ErrorBody in plain text."""
    return f"{title}: {description}\n".encode(), "text/plain; charset=utf-8"


class Application(Protocol):
    """What is built from a configuration, ready to serve."""

    @property
    def app(self) -> WSGI:
        """Answers the clients."""

    @property
    def monitor(self) -> WSGI:
        """Answers at the address of [metrics] bind."""

    @property
    def websocket(self) -> WSGI:
        """Answers at the address of [websocket] bind."""

    @property
    def max_body(self) -> int:
        """Size of the largest request body, in bytes."""

    def error_body(self, title: str, description: str) -> tuple[bytes, str]:
        """See ErrorBody."""

    def drain(self) -> None:
        """Answer the requests that are suspended, and end the connections that were handed over; must not block."""

    def close(self) -> None:
        """Close its connections to broker and side-store; no more requests come."""


#: Builds the application of a configuration (oslo.config). Raises CannotServe if the configuration is refused.
Build = Callable[[Any], Application]
