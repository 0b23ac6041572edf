"""How the deliveries of a subscription go: kept by the worker that serves it, shown by the API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from storage.catalogue import Catalogue

#: Kind of the records; their names are those of the subscriptions.
DELIVERY = "delivery"

#: Failures in a row from which on an active subscription is shown as failing.
FAILING_FROM = 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver one message.

    ``at`` and ``next_attempt`` are in milliseconds, the latter 0 if there will be none. ``status``: of HTTP, 0 without
    an answer. ``outcome``: delivered, failed, dead, rest or stop; ``reason``: class of the failure, empty for none.
    ``response``: the first KiB of a textual answer.
    """

    id: str
    message_id: str
    attempt: int
    at: int
    status: int
    seconds: float
    outcome: str
    reason: str = ""
    response: str = ""
    next_attempt: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """Counts since the subscription was created, and how it stands. Times are in milliseconds, 0 for never.

    ``delivered`` and ``filtered`` count messages, ``failed`` attempts, ``dead`` messages that were given up. ``row``:
    failures since the last success, the first of them at ``failing_since`` and of ``failed_messages`` messages on
    ``failed_days`` days. ``window``: deliveries that may be under way at a time; ``in_flight``: those that are.
    ``rate``: deliveries per second that are allowed now, 0 for any. ``oldest``: when the oldest message that is known
    to wait was posted. ``attempts``: the last ones, newest first.

    Activating a subscription (its ``since`` is new then) begins a new row, and the window is 1 again.
    """

    delivered: int = 0
    failed: int = 0
    filtered: int = 0
    dead: int = 0
    row: int = 0
    failing_since: int = 0
    failed_messages: int = 0
    failed_days: int = 0
    window: int = 1
    in_flight: int = 0
    rate: float = 0.0
    oldest: int = 0
    last_success: int = 0
    last_failure: Attempt | None = None
    resting_until: int = 0
    attempts: tuple[Attempt, ...] = field(default=(), repr=False)

    @property
    def is_failing(self) -> bool:
        """Have the last attempts all failed?"""
        return self.row >= FAILING_FROM

    def with_attempts(self, newer: Iterable[Attempt], most: int) -> DeliveryStatus:
        """With more attempts, oldest first, of which it keeps the last ``most`` of all."""
        return replace(self, attempts=(*reversed(list(newer)), *self.attempts)[:most])

    @classmethod
    def read(cls, data: bytes) -> DeliveryStatus:
        """From a record's data. What another version of the gateway has added is left out."""
        stored = {name: value for name, value in orjson.loads(data).items() if name in cls.__dataclass_fields__}
        last = stored.pop("last_failure", None)
        attempts = stored.pop("attempts", ())
        return cls(
            **stored, last_failure=_attempt(last) if last else None, attempts=tuple(_attempt(each) for each in attempts)
        )

    def data(self) -> bytes:
        """The data of its record."""
        return orjson.dumps(asdict(self))


def _attempt(stored: dict[str, Any]) -> Attempt:
    return Attempt(**{name: value for name, value in stored.items() if name in Attempt.__dataclass_fields__})


class DeliveryStatuses:
    """The records, by the names of the subscriptions (Subscription.name)."""

    def __init__(self, catalogue: Catalogue):
        self._catalogue = catalogue

    def get(self, name: str) -> DeliveryStatus:
        """The status of a subscription; an empty one if nothing was delivered yet."""
        found = self._catalogue.get_record(DELIVERY, name)
        return DeliveryStatus.read(found.data) if found else DeliveryStatus()

    def put(self, name: str, status: DeliveryStatus) -> None:
        """Store it. For the worker that serves the subscription, which is one at a time."""
        self._catalogue.put_record(DELIVERY, name, status.data())

    def delete(self, name: str) -> None:
        """Forget it."""
        self._catalogue.delete_record(DELIVERY, name)
