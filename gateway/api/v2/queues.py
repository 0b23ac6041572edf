"""Queues: their metadata, their list, their statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import NotFound
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.listing import ListedQueue, Wanted
from gateway.core.queues.names import titled
from gateway.web.context import Context
from storage.model import Message, Stats

NO_FILTERS: Mapping[str, list[Any]] = {}


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How many messages a queue has, and the oldest and the newest of those that are in the side-store."""

    claimed: int = 0
    free: int = 0
    total: int = 0
    oldest: Message | None = None
    newest: Message | None = None


def put(context: Context, queue: str, *, metadata: dict[str, Any] | None, keep: bool = False) -> bool:
    """Create a queue, or replace the metadata of an existing one unless it is None or to be kept. Was it created?"""
    return context.core.queues.create(context.project, queue, metadata, context.identity.roles, keep=keep)


def get(context: Context, queue: str) -> dict[str, Any]:
    """A queue's metadata."""
    return context.core.queues.metadata(context.project, queue)


def head(context: Context, queue: str) -> None:
    """Raises NotFound if the queue does not exist."""
    if not context.core.queues.exists(context.project, queue):
        raise NotFound(f"{titled(context.project, queue)} does not exist")


def patch(context: Context, queue: str, *, changes: Any) -> dict[str, Any]:
    """Change a queue's metadata; the new metadata."""
    return context.core.queues.patch(context.project, queue, changes, context.identity.roles)


def delete(context: Context, queue: str) -> None:
    """Remove a queue and its messages."""
    context.core.queues.delete(context.project, queue)


def list_(
    context: Context, *, limit: int, marker: str, name: str = "", filters: Mapping[str, list[Any]] = NO_FILTERS,
    detailed: bool, with_count: bool = False, filled: bool = True,
) -> tuple[list[ListedQueue], int | None]:
    """A page of the project's queues by name, and the count of all that match if it was asked for.

    ``filters``: values of metadata, by key, of which a queue must have one. ``filled``: metadata is shown with the
    reserved keys filled in, else as it was set. Raises Busy.
    """

    def matches(metadata: dict[str, Any]) -> bool:
        return all(any(_same(metadata.get(key), wanted) for wanted in values) for key, values in filters.items())

    return context.core.queues.list(
        Wanted(context.project, marker, limit, name, matches if filters else None, detailed, with_count, filled)
    )


def _same(left: Any, right: Any) -> bool:
    """Equality of JSON values: unlike Python's, true is not 1."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def stats(context: Context, queue: str) -> QueueStats:
    """How many messages a queue has."""
    counted = context.on_queue(queue, lambda info: _counted(context, info))
    if counted is None:
        return QueueStats()
    landed, waiting = counted
    total = landed.free + landed.claimed + landed.delayed + waiting
    oldest, newest = (landed.oldest, landed.newest) if total else (None, None)
    return QueueStats(landed.claimed, landed.free + waiting, total, oldest, newest)


def _counted(context: Context, info: QueueInfo) -> tuple[Stats, int] | None:
    """What there is in a queue, None if that is nothing."""
    landed, waiting = context.core.messages.stats(info)
    return (landed, waiting) if waiting or landed.newest is not None else None


def purge(context: Context, queue: str, *, types: list[str]) -> None:
    """Remove all messages if ``types`` has ``messages``, and all subscriptions if it has ``subscriptions``."""
    if "messages" in types:
        context.core.messages.purge(context.project, queue)
    if "subscriptions" in types:
        context.core.subscription_removal.delete_all(context.project, queue)
