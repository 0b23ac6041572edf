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


#: By what the service knows that a post is repeated: an idempotency key, a dedup_id of each message, or nothing.
KEY, DEDUP_ID, NOTHING = "key", "dedup_id", "nothing"


class Repeater(Producer):
    """Repeats each post until it is answered, at one gateway after the other, and then once more now and then.

    ``by``: how it is told from a new one. By nothing, a post that was answered is not repeated.
    """

    def __init__(self, *arguments: Any, by: str = KEY, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._by = by

    def _send(self, messages: list[dict[str, Any]], details: dict[str, Any], key: str | None = None) -> Call:
        name = f"{self.name}-{details['numbers'][0]}"
        key = name if self._by == KEY else None
        if self._by == DEDUP_ID:
            messages = [message | {"dedup_id": f"{name}-{n}"} for n, message in enumerate(messages)]
        deadline = time.monotonic() + ANSWERED
        while not (call := super()._send(messages, details, key)).succeeded and time.monotonic() < deadline:
            self._go_to_next()
            time.sleep(RETRY_PAUSE)
        if self._by != NOTHING and self.random.random() < FORGETFUL:
            self._go_to_next()
            super()._send(messages, details, key)
        return call
