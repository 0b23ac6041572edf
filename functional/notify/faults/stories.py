"""What was posted, who was to be told of it, and what they got: read from a history, not judged yet."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from functional.faults.history import POST, Call
from functional.notify.faults.history import Attempt, NotifyHistory, Subscribed

#: The queue, the producer, and its number for a message.
Key = tuple[str, str, int]

NEVER = float("inf")


def body_of(client: str, number: int) -> dict[str, object]:
    """The body of a message: it tells whose it is, and is spoiled if anything of it is lost."""
    return {"producer": client, "number": number, "text": f"{number}. é \u2028 \\ \" " * (number % 7)}


@dataclass(frozen=True)
class Posted:
    """A message; ``id`` is None if its post was not confirmed."""

    post: Call
    number: int
    id: str | None

    @property
    def key(self) -> Key:
        """By which the bodies that receivers get tell of it."""
        return self.post.queue, self.post.client, self.number


@dataclass
class Duty:
    """A subscription is to be told of a message; ``attempts``: what it got."""

    subscription: Subscribed
    message: Posted
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def delivered(self) -> bool:
        """Has the receiver taken the message?"""
        return any(attempt.taken for attempt in self.attempts)

    @property
    def buried(self) -> bool:
        """Is it among the dead letters?"""
        return self.message.id in self.subscription.dead


class Stories:
    """A history as it is now. ``foreign``: attempts for what was not posted like that.

    ``told``: what subscriptions, by name, have got of each message. Attempts for a subscription whose creation was not
    answered are left out.
    """

    def __init__(self, history: NotifyHistory) -> None:
        self.calls = list(history.calls)
        self.subscriptions = dict(history.subscriptions)
        self.attempts = [each for each in list(history.attempts) if each.subscription in self.subscriptions]
        self.messages: dict[Key, Posted] = {}
        self.told: dict[tuple[str, Key], list[Attempt]] = defaultdict(list)
        self.foreign: list[Attempt] = []
        for call in self.calls:
            if call.kind == POST:
                for number, id_ in zip(call.numbers, call.ids or [None] * len(call.numbers), strict=True):
                    posted = Posted(call, number, id_)
                    self.messages[posted.key] = posted
        for attempt in self.attempts:
            self._file(attempt)

    def _file(self, attempt: Attempt) -> None:
        try:
            body = json.loads(attempt.body)["body"]
            key = self.subscriptions[attempt.subscription].queue, body["producer"], body["number"]
        except (ValueError, KeyError, TypeError):
            self.foreign.append(attempt)
            return
        if key in self.messages and body == body_of(body["producer"], body["number"]):
            self.told[attempt.subscription, key].append(attempt)
        else:
            self.foreign.append(attempt)

    def duties(self) -> Iterator[Duty]:
        """All that had to be done, done or not."""
        lasting = [each for each in self.subscriptions.values() if each.ended == NEVER]
        for posted in self.messages.values():
            if posted.id is not None:
                for each in lasting:
                    if each.queue == posted.post.queue and each.made < posted.post.invoked:
                        yield Duty(each, posted, self.told.get((each.name, posted.key), []))


def undelivered(history: NotifyHistory) -> list[Duty]:
    """What was not done by now, as far as time is left for it."""
    now = history.now()
    return [
        duty for duty in Stories(history).duties()
        if not (duty.delivered or duty.buried) and now < duty.message.post.invoked + duty.message.post.ttl
    ]
