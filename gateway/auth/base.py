"""The interface of authentication strategies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Characters of a project's id.
MAX_PROJECT = 256


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling. ``project`` is None when the strategy leaves it to the caller's X-Project-ID header."""

    project: str | None
    user: str | None = None
    roles: tuple[str, ...] = ()


class Unauthenticated(Exception):
    """Credentials are missing or wrong. ``challenge`` goes into the WWW-Authenticate header (RFC 9110, 11.6.1)."""

    def __init__(self, description: str, challenge: str):
        super().__init__(description)
        self.challenge = challenge


class AuthStrategy(ABC):
    """Tells from a request's WSGI environment who is calling."""

    @abstractmethod
    def __init__(self, conf: Any):
        """Read the strategy's options. Raises ValueError with a text for the operator."""

    @abstractmethod
    def identify(self, environ: Mapping[str, Any]) -> Identity:
        """The caller. Raises Unauthenticated."""
