"""Topics: names that messages are posted to for those who have subscribed, and where none is kept.

They are the queues of another project, which no client can name; so what is done for queues is done for them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from gateway.api.v2 import queues
from gateway.api.v2.queues import QueueStats
from gateway.core.errors import NotFound
from gateway.core.queues.names import topic_project
from gateway.web.context import Context
from gateway.web.operations import Answer
from storage.model import Message

Handler = Callable[..., Any]
Render = Callable[..., Answer]


def handled(handler: Handler) -> Handler:
    """A handler for topics out of one for queues. What is rendered after it is about topics, too."""

    @wraps(handler)
    def handle(context: Context, topic: str | None = None, **values: Any) -> Any:
        context.project = topic_project(context.project)
        return handler(context, **_named(topic), **values)

    return handle


def rendered(render: Render) -> Render:
    """What renders for a topic what ``render`` does for a queue."""

    @wraps(render)
    def show(call: Any, value: Any, topic: str | None = None, **names: str) -> Answer:
        return render(call, value, **_named(topic), **names)

    return show


def _named(topic: str | None) -> dict[str, str]:
    return {} if topic is None else {"queue": topic}


def get(context: Context, queue: str) -> dict[str, Any]:
    """A topic's metadata."""
    return _shown(queues.get(context, queue))


def patch(context: Context, queue: str, *, changes: Any) -> dict[str, Any]:
    """Change a topic's metadata; the new metadata."""
    return _shown(queues.patch(context, queue, changes=changes))


def _shown(metadata: dict[str, Any]) -> dict[str, Any]:
    """Without the reserved keys that are for queues alone, unless somebody has set them."""
    return {
        key: value for key, value in metadata.items() if not (key.startswith("_") and (value is None or value is False))
    }


def stats(context: Context, queue: str) -> QueueStats:
    """How many messages a topic has."""
    return QueueStats()


def purge(context: Context, queue: str, *, types: list[str]) -> None:
    """Remove all subscriptions if ``types`` has ``subscriptions``. There are no messages."""
    if "subscriptions" in types:
        context.core.subscription_removal.delete_all(context.project, queue)


def list_messages(context: Context, queue: str, *, ids: list[str] | None = None, **_: Any) -> Sequence[Message]:
    """No messages. Raises NotFound if some were asked for by their ids."""
    if ids is not None:
        raise NotFound("None of these messages exists: a topic keeps none")
    return ()


def get_message(context: Context, queue: str, message_id: str) -> Message:
    """Raises NotFound."""
    raise NotFound(f"Message {message_id} does not exist: a topic keeps none")


def delete_message(context: Context, queue: str, message_id: str, *, claim_id: str | None) -> None:
    """There is nothing to delete."""


def delete_messages(context: Context, queue: str, *, pop: int = 0, **_: Any) -> Sequence[Message] | None:
    """There is nothing to delete, or to pop."""
    return () if pop else None
