"""Messages: post, list, read, delete, pop."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.errors import NotFound
from gateway.core.ids import USABLE_ID
from gateway.core.messages.post import Post
from gateway.core.once.key import Key
from gateway.web.context import Context
from storage.model import Message


def post(
    context: Context, queue: str, *, posts: list[Post], size: int, key: Key | None = None, create: bool = True
) -> list[str]:
    """Post messages, from a request of ``size`` bytes; their ids. With a ``key`` they are posted once.

    Raises NotFound for a queue that does not exist unless it is to be created.
    """
    return context.core.messages.post(context.project, queue, context.client, posts, size, key, create)


def list_(
    context: Context, queue: str, *, ids: list[str] | None = None, marker: str | None = None, limit: int = 0,
    echo: bool = False, claimed: bool = False, delayed: bool = False,
) -> Sequence[Message]:
    """The messages with certain ids, or without ``ids`` a page of up to ``limit`` messages.

    A page begins after ``marker``; it has the caller's own messages with ``echo`` only. Raises NotFound if none of the
    ids is that of a message.
    """
    core = context.core
    if ids is not None:
        found = find(context, queue, ids)
        if not found:
            raise NotFound("None of these messages exists")
        return found
    not_from = None if echo else context.client
    return context.on_queue(
        queue, lambda info: core.messages.list(info, marker, limit, not_from, claimed, delayed)
    ) or ()


def find(context: Context, queue: str, ids: Sequence[str]) -> Sequence[Message]:
    """Those of the messages that exist, in the order asked for."""
    return context.on_queue(queue, lambda info: context.core.messages.get(info, ids)) or ()


def get(context: Context, queue: str, message_id: str) -> Message:
    """One message. Raises NotFound."""
    found = find(context, queue, [message_id] if USABLE_ID.match(message_id) else [])
    if not found:
        raise NotFound(f"Message {message_id} does not exist")
    return found[0]


def delete(context: Context, queue: str, message_id: str, *, claim_id: str | None) -> None:
    """Delete one message, with the claim that it is in."""
    if USABLE_ID.match(message_id):
        context.on_queue(queue, lambda info: context.core.messages.delete(info, message_id, claim_id))


def delete_many(
    context: Context, queue: str, *, ids: list[str] | None = None, claim_ids: list[str] | None = None, pop: int = 0
) -> Sequence[Message] | None:
    """Delete messages by id, those of ``claim_ids`` alone if there are any; without ``ids``, pop the oldest ``pop``.

    The popped messages; None if none were asked for.
    """
    core = context.core
    if ids is None:
        return context.on_queue(queue, lambda info: core.messages.pop(info, pop), sure=True) or ()
    if ids:
        context.on_queue(queue, lambda info: core.messages.delete_many(info, ids, claim_ids)[1])
    return None
