"""The home document of version 1.1."""

from __future__ import annotations

from gateway.api.v1_1.version import V1_1
from gateway.web.context import Context
from gateway.web.operations import Operation


def home(context: Context) -> tuple[Operation, ...]:
    """The operations that the home document shows."""
    return context.service.older[V1_1]
