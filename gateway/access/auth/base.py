"""The interface of authentication strategies."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

#: Characters of a project's id.
MAX_PROJECT = 256


#: Roles that others bring along, as Keystone has it since the roles of secure RBAC.
IMPLIED = {"admin": ("member", "reader"), "member": ("reader",)}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling. ``project`` is empty when the credentials are for none; ``token``: of Keystone, if any.

    ``expires``: when the credentials end, in seconds since the epoch.
    """

    project: str
    user: str | None = None
    roles: tuple[str, ...] = ()
    token: str = field(default="", repr=False, compare=False)
    expires: float = field(default=math.inf, repr=False, compare=False)


def with_implied(names: Iterable[str]) -> tuple[str, ...]:
    """Names of roles in lower case, with those that they imply, each once."""
    roles = {name.lower() for name in names}
    return tuple(sorted(roles.union(*(IMPLIED.get(role, ()) for role in roles))))


def project_header(environ: Mapping[str, Any]) -> str:
    """What X-Project-ID says; empty without it."""
    header: str = environ.get("HTTP_X_PROJECT_ID", "")
    return header.strip(" \t")  # RFC 9110, 5.5; no other space is like none


class Unauthenticated(Exception):
    """Credentials are missing or wrong. ``challenge`` goes into the WWW-Authenticate header (RFC 9110, 11.6.1)."""

    def __init__(self, description: str, challenge: str):
        super().__init__(description)
        self.challenge = challenge


class IdentityUnavailable(Exception):
    """What knows the callers and their rights can't be reached now; the text is for the log."""


class AuthStrategy(ABC):
    """Tells from a request's WSGI environment who is calling."""

    #: Does a caller have to show anything?
    is_needed: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, conf: Any):
        """Read the strategy's options. Raises ValueError with a text for the operator."""

    @abstractmethod
    def identify(self, environ: Mapping[str, Any]) -> Identity:
        """The caller. Raises Unauthenticated, IdentityUnavailable, and the core's Busy when too many want to know."""

    def ping(self) -> str:
        """What the strategy works with, in words; raises ValueError if that does not work."""
        return ""

    def find_public_url(self) -> str:
        """URL of this service by which others find it, without /v2; empty if there is none. May block for a timeout."""
        return ""
