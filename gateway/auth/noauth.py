"""No authentication: whoever can connect may use every project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.auth.base import AuthStrategy, Identity


class NoAuth(AuthStrategy):
    """Believes the X-Project-ID and X-Roles headers."""

    def __init__(self, conf: Any):
        pass

    def identify(self, environ: Mapping[str, Any]) -> Identity:
        roles = environ.get("HTTP_X_ROLES", "")
        return Identity(None, None, tuple(role.strip() for role in roles.split(",") if role.strip()))
