"""Queues in version 1.1, where they are not as in version 2."""

from __future__ import annotations

from typing import Any

from gateway.api.v1_1.version import V1_1
from gateway.web.context import Context

#: The path of a queue.
PATH = f"{V1_1.root}/queues/{{queue_name}}"


def get(context: Context, queue: str) -> dict[str, Any]:
    """A queue's metadata as it was set; a queue that does not exist yet has none."""
    return context.core.queues.stored_metadata(context.project, queue) or {}


def methods(context: Context, queue: str) -> list[str]:
    """The methods that a queue's path has."""
    return sorted(operation.method for operation in context.service.older[V1_1] if operation.path == PATH)
