"""A message that a client posts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import InvalidInput
from gateway.core.once.attempt import Attempt
from gateway.core.once.key import Key


@dataclass(frozen=True, slots=True)
class Post:
    """A message to post; ``ttl`` and ``delay`` (seconds) are None for the queue's defaults.

    ``properties``: AMQP properties, for a queue that is bridged to a target. ``group`` and ``dedup_id``: for a queue
    with ``_fifo``; None if it has none.
    """

    body: bytes
    ttl: int | None = None
    delay: int | None = None
    properties: dict[str, Any] | None = None
    group: str | None = None
    dedup_id: str | None = None


@dataclass(slots=True)
class PostRequest:
    """Messages that a client posts together, in a request of ``size`` bytes.

    They get the ``ids``. ``attempt``: what is recorded of the request, if it is to happen once.
    """

    client: str
    posts: Sequence[Post]
    size: int
    key: Key | None = None
    ids: Sequence[str] = ()
    attempt: Attempt | None = None


def check_seconds(name: str, value: int, lowest: int, highest: int) -> None:
    """Raises InvalidInput unless ``value`` (seconds) is in its range. ``name``: "ttl" or "delay"."""
    if not lowest <= value <= highest:
        raise InvalidInput(f"The {name} of a message must be from {lowest} to {highest} seconds, not {value}")
