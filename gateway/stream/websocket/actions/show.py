"""Messages as answers over WebSocket show them: as over HTTP, with the claim's id in place of links."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.api.v2.render import fill
from gateway.stream.websocket.actions.action import Asked
from storage.model import Message


def message(asked: Asked, item: Message, now: int) -> dict[str, Any]:
    """A message at the time ``now`` (ms)."""
    is_claimed = item.claim is not None and item.hidden_until > now
    shown: dict[str, Any] = {"id": item.id, "claim_id": item.claim if is_claimed else None}
    fill(shown, item, now, asked.service.enable_checksum)
    return shown


def messages(asked: Asked, items: Iterable[Message]) -> list[dict[str, Any]]:
    """Messages as they are now."""
    now = asked.now()
    return [message(asked, item, now) for item in items]
