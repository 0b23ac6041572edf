"""Claims: take messages for a while, keep them longer, give them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.errors import NotFound
from gateway.web.context import Context
from storage.model import Message


class Held(NamedTuple):
    """A claim and the messages that it still holds; ``ttl`` and ``age`` in seconds."""

    ttl: int
    age: int
    messages: Sequence[Message]


def post(context: Context, queue: str, *, ttl: int | None, grace: int | None, limit: int) -> Sequence[Message]:
    """Claim up to ``limit`` messages for ``ttl`` seconds, each of which lives ``grace`` seconds longer at least."""
    core = context.core
    core.claims.check(ttl, grace)
    return context.on_queue(queue, lambda info: core.claims.create(info, ttl, grace, limit), sure=True) or ()


def get(context: Context, queue: str, claim_id: str) -> Held:
    """A claim. Raises NotFound."""
    messages = context.on_queue(queue, lambda info: context.core.claims.get(info, claim_id))
    if messages is None:
        raise _no_queue(queue, claim_id)
    return Held(messages[0].claim_ttl, context.core.claims.age(messages[0], context.core.now()), messages)


def patch(
    context: Context, queue: str, claim_id: str, *, ttl: int | None, grace: int | None, any_grace: bool = False
) -> None:
    """Let a claim begin again, with new times in seconds; see Claims.check. Raises NotFound."""
    core = context.core
    core.claims.check(ttl, grace, any_grace)
    if context.on_queue(queue, lambda info: core.claims.renew(info, claim_id, ttl, grace, any_grace)) is None:
        raise _no_queue(queue, claim_id)


def delete(context: Context, queue: str, claim_id: str) -> None:
    """Release a claim."""
    context.on_queue(queue, lambda info: context.core.claims.release(info, claim_id))


def _no_queue(queue: str, claim_id: str) -> NotFound:
    return NotFound(f"Claim {claim_id} does not exist: there is no queue {queue}")
