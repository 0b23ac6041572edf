"""No authentication: whoever can connect may use every project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access.auth.base import AuthStrategy, Identity, project_header, with_implied

#: Roles of a caller who says none.
USUAL = with_implied(["member"])


class NoAuth(AuthStrategy):
    """Believes the X-Project-ID and X-Roles headers."""

    is_needed = False

    def __init__(self, conf: Any):
        pass

    def identify(self, environ: Mapping[str, Any]) -> Identity:
        said = [role.strip() for role in environ.get("HTTP_X_ROLES", "").split(",")]
        roles = with_implied(filter(None, said)) if any(said) else USUAL
        return Identity(project_header(environ), None, roles)
