"""Messages in version 1, where they are not as in version 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.api.v2 import messages
from gateway.web.context import Context
from storage.model import Message


def list_(context: Context, queue: str, *, ids: list[str] | None = None, **page: Any) -> Sequence[Message]:
    """Those of the messages with certain ids that exist, or a page of messages; see gateway.api.v2.messages."""
    return messages.list_(context, queue, **page) if ids is None else messages.find(context, queue, ids)
