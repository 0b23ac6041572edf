"""What queues, messages and claims are, in plain Python: the answers that a gateway must give to calls in a row."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Message:
    """A message that lives. ``order``: its place among all that were posted."""

    id: str
    body: Any
    ttl: int
    client: str
    order: int
    delayed: bool = False
    claim: str | None = None


@dataclass
class Queue:
    """A queue that exists."""

    metadata: dict[str, Any] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)

    def find_free(self) -> list[Message]:
        """What may be claimed, oldest first."""
        return [m for m in self.messages.values() if not m.delayed and m.claim is None]

    def held(self, claim: str) -> list[Message]:
        """What a claim holds, oldest first."""
        return [m for m in self.messages.values() if m.claim == claim]


class Service:
    """All queues of a project. No time passes here: claims and delays are long, the calls are not."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self._order = itertools.count(1)

    def get(self, queue: str) -> Queue:
        """The queue, or what is the same to readers: an empty one."""
        return self.queues.get(queue) or Queue()

    def put(self, queue: str, metadata: dict[str, Any] | None) -> int:
        """The status of a PUT."""
        new = queue not in self.queues
        found = self.queues.setdefault(queue, Queue())
        if metadata is not None:
            found.metadata = dict(metadata)
        return 201 if new else 204

    def patch(self, queue: str, operation: str, key: str, value: Any) -> int:
        """The status of a PATCH with one operation on a key that is not reserved."""
        if queue not in self.queues:
            return 404
        metadata = self.queues[queue].metadata
        if operation != "add" and key not in metadata:
            return 409
        if operation == "remove":
            del metadata[key]
        else:
            metadata[key] = value
        return 200

    def post(self, queue: str, client: str, ids: Sequence[str], documents: Sequence[dict[str, Any]]) -> None:
        """Add what was posted."""
        found = self.queues.setdefault(queue, Queue())
        for id_, document in zip(ids, documents, strict=True):
            delayed = bool(document.get("delay"))
            found.messages[id_] = Message(
                id_, document["body"], document["ttl"], client, next(self._order), delayed
            )

    def page(
        self, queue: str, client: str, after: int, *, echo: bool, claimed: bool, delayed: bool
    ) -> tuple[list[Message], list[Message]]:
        """What a list shows after a place, oldest first; and the delayed messages, whose places are not specified."""
        visible = [
            m for m in self.get(queue).messages.values()
            if (echo or m.client != client) and (claimed or m.claim is None) and (delayed or not m.delayed)
        ]
        return [m for m in visible if not m.delayed and m.order > after], [m for m in visible if m.delayed]

    def delete_message(self, queue: str, id_: str, claim: str | None) -> int:
        """The status of a DELETE of one message."""
        message = self.get(queue).messages.get(id_)
        if message is None:
            return 204
        if claim is None and message.claim is not None:
            return 403
        if claim is not None and message.claim is None:
            return 400
        if claim != message.claim:
            return 403
        del self.queues[queue].messages[id_]
        return 204

    def delete_messages(self, queue: str, ids: Iterable[str], claims: Sequence[str]) -> None:
        """A DELETE of several."""
        found = self.get(queue)
        for id_ in set(ids):
            message = found.messages.get(id_)
            if message is not None and (message.claim is None or message.claim in claims):
                del found.messages[id_]

    def claim(self, queue: str, limit: int, claim: str | None) -> list[Message]:
        """Claim, and what that must have got."""
        wanted = self.get(queue).find_free()[:limit]
        for message in wanted:
            message.claim = claim
        return wanted

    def pop(self, queue: str, limit: int) -> list[Message]:
        """Take out."""
        wanted = self.get(queue).find_free()[:limit]
        for message in wanted:
            del self.queues[queue].messages[message.id]
        return wanted

    def release(self, queue: str, claim: str) -> None:
        """Free a claim's messages."""
        for message in self.get(queue).held(claim):
            message.claim = None

    def purge(self, queue: str) -> None:
        """Drop all messages."""
        self.get(queue).messages.clear()

    def stats(self, queue: str) -> dict[str, int]:
        """The counts of a queue."""
        messages = self.get(queue).messages.values()
        claimed = sum(m.claim is not None for m in messages)
        return {
            "claimed": claimed, "free": len(self.get(queue).find_free()), "total": len(messages),
        }
