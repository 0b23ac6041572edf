"""Whether a post that has failed may have enqueued something."""

from __future__ import annotations

from bridges.errors import BridgeError, MessageTooLarge, OutcomeUnknown, QueueFull, Unroutable
from gateway.core.errors import CoreError


def may_be_enqueued(error: BaseException) -> bool:
    """May some of the messages be enqueued, though the post has ended with this error?"""
    if isinstance(error, QueueFull | MessageTooLarge):
        return error.partly
    if isinstance(error, BridgeError):
        return isinstance(error, OutcomeUnknown | Unroutable)
    if isinstance(error, CoreError):
        # What the client is told of a bridge's error; an error of the core itself comes before anything is published.
        return isinstance(error.__cause__, BridgeError) and may_be_enqueued(error.__cause__)
    return True
