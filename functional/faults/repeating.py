"""Producers that repeat what was not answered, as clients should that want each message there exactly once."""

from __future__ import annotations

import time
from typing import Any

from functional.faults.clients import RETRY_PAUSE, Producer
from functional.faults.history import Call

#: Seconds for which a post is repeated that is not answered, longer than any fault and what follows it.
ANSWERED = 120.0

#: Share of posts that are repeated although they were answered.
FORGETFUL = 0.1


class Repeater(Producer):
    """Repeats each post until it is answered, at one gateway after the other, and then at one of them now and then.

    With ``keys`` each post has an idempotency key.
    """

    def __init__(self, *arguments: Any, keys: bool = True, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._keys = keys

    def _send(self, messages: list[dict[str, Any]], details: dict[str, Any], key: str | None = None) -> Call:
        key = f"{self.name}-{details['numbers'][0]}" if self._keys else None
        deadline = time.monotonic() + ANSWERED
        while not (call := super()._send(messages, details, key)).succeeded and time.monotonic() < deadline:
            self._go_to_next()
            time.sleep(RETRY_PAUSE)
        if key and self.random.random() < FORGETFUL:
            self._go_to_next()
            super()._send(messages, details, key)
        return call
