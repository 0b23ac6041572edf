"""Subscriptions: create, show, change, confirm, delete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.core.errors import Forbidden
from gateway.core.subscriptions.admin import Subscribed
from gateway.core.subscriptions.record import Subscription, is_queue
from gateway.core.subscriptions.waiting import Waiting
from gateway.web.context import Context

#: The policy's rule for posting messages.
POST_RULE = "messages:create"


@dataclass(frozen=True, slots=True)
class Shown:
    """A subscription, and with ``detailed`` how many messages wait for it."""

    subscription: Subscription
    waiting: Waiting | None = None


def list_(context: Context, queue: str, *, limit: int, marker: str | None, detailed: bool) -> list[Shown]:
    """A page of a queue's subscriptions, oldest first."""
    page = context.core.subscriptions.page(context.project, queue, marker, limit)
    return [_shown(context, each, detailed) for each in page]


def get(context: Context, queue: str, subscription_id: str, *, detailed: bool) -> Shown:
    """A subscription. Raises NotFound."""
    return _shown(context, context.core.subscriptions.get(context.project, queue, subscription_id), detailed)


def _shown(context: Context, subscription: Subscription, detailed: bool) -> Shown:
    return Shown(subscription, context.core.subscription_waiting.count(subscription) if detailed else None)


def post(context: Context, queue: str, *, subscriber: Any, ttl: int | None, options: Any) -> Subscribed:
    """Subscribe somebody to a queue. A queue that is to get the messages is one that the caller may post to."""
    if is_queue(subscriber) and not context.allows(POST_RULE):
        raise Forbidden(f"Your roles don't allow you to have messages put into a queue ({POST_RULE})")
    return context.core.subscriptions.create(
        context.project, queue, subscriber, ttl, options, context.give_trust
    )


def patch(context: Context, queue: str, subscription_id: str, *, changes: dict[str, Any]) -> None:
    """Change subscriber, TTL or options. Raises NotFound, Conflict."""
    context.core.subscriptions.update(context.project, queue, subscription_id, changes, context.give_trust)


def delete(context: Context, queue: str, subscription_id: str) -> None:
    """Delete a subscription and what waits for it."""
    context.core.subscription_removal.delete(context.project, queue, subscription_id)


def confirm(context: Context, queue: str, subscription_id: str, *, confirmed: bool) -> None:
    """Confirm a subscription, or end it. Raises NotFound."""
    context.core.subscription_states.confirm(context.project, queue, subscription_id, confirmed)


def put_state(context: Context, queue: str, subscription_id: str, *, state: str) -> None:
    """Pause a subscription or let it go on. Raises NotFound, Conflict."""
    context.core.subscription_states.set(context.project, queue, subscription_id, state)


def get_secret(context: Context, queue: str, subscription_id: str) -> str:
    """The secret that deliveries are signed with. Raises NotFound."""
    return context.core.subscription_secrets.get(context.project, queue, subscription_id)


def put_secret(context: Context, queue: str, subscription_id: str, *, secret: Any) -> None:
    """Set the secret. Raises NotFound, InvalidInput."""
    context.core.subscription_secrets.put(context.project, queue, subscription_id, secret)


def rotate_secret(context: Context, queue: str, subscription_id: str, *, keep: int | None) -> str:
    """Make a new secret. Raises NotFound, InvalidInput."""
    return context.core.subscription_secrets.rotate(context.project, queue, subscription_id, keep)
