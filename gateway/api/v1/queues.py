"""Queues in version 1, where they are not as in version 2: they must exist."""

from __future__ import annotations

from typing import Any

from gateway.api.v2 import queues
from gateway.api.v2.queues import QueueStats
from gateway.core.errors import NotFound
from gateway.core.queues.names import titled
from gateway.web.context import Context


def get_metadata(context: Context, queue: str) -> dict[str, Any]:
    """A queue's metadata as it was set. Raises NotFound."""
    metadata = context.core.queues.stored_metadata(context.project, queue)
    if metadata is None:
        raise NotFound(f"{titled(context.project, queue)} does not exist")
    return metadata


def put_metadata(context: Context, queue: str, *, metadata: dict[str, Any]) -> None:
    """Replace a queue's metadata. Raises NotFound."""
    context.core.queues.replace(context.project, queue, metadata, context.identity.roles)


def stats(context: Context, queue: str) -> QueueStats:
    """How many messages a queue has. Raises NotFound."""
    counted = queues.stats(context, queue)
    if not counted.total:
        queues.head(context, queue)
    return counted
