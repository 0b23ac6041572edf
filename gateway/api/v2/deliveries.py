"""Deliveries of a subscription: how they go, what was tried, what died, and once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.subscriptions.progress import Progress
from gateway.core.subscriptions.status import Attempt
from gateway.core.subscriptions.testing import Tested
from gateway.core.subscriptions.waiting import Wanted
from gateway.web.context import Context
from storage.model import Message


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many messages are delivered once more."""

    accepted: int


def status(context: Context, queue: str, subscription_id: str) -> Progress:
    """How the deliveries go. Raises NotFound."""
    return context.core.subscription_progress.of(context.project, queue, subscription_id)


def attempts(
    context: Context, queue: str, subscription_id: str, *, limit: int, marker: str | None, status: int | None
) -> Sequence[Attempt]:
    """A page of the last attempts, newest first. Raises NotFound."""
    return context.core.subscription_progress.attempts(context.project, queue, subscription_id, marker, limit, status)


def dead_letters(
    context: Context, queue: str, subscription_id: str, *, limit: int, marker: str | None
) -> Sequence[Message]:
    """A page of what could not be delivered. Raises NotFound."""
    return context.core.subscription_waiting.dead(context.project, queue, subscription_id, marker, limit)


def delete_dead_letters(context: Context, queue: str, subscription_id: str, *, ids: list[str] | None) -> None:
    """Delete dead letters, None for all. Raises NotFound."""
    context.core.subscription_waiting.delete_dead(context.project, queue, subscription_id, ids)


def replay(
    context: Context, queue: str, subscription_id: str, *, ids: list[str] | None, since: int | None, until: int | None,
    only: str,
) -> Replayed:
    """Deliver messages once more. Raises NotFound."""
    wanted = Wanted(ids, since, until)
    return Replayed(context.core.subscription_waiting.replay(context.project, queue, subscription_id, wanted, only))


def test(context: Context, queue: str, subscription_id: str, *, body: bytes | None) -> Tested:
    """Send one message now. Raises NotFound, Conflict, TooFast, Busy."""
    return context.core.subscription_tests.run(context.project, queue, subscription_id, body)
