"""The account of a subscription's deliveries: kept here, and written from time to time for its owner to see."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.subscriptions.status import Attempt, DeliveryStatus

#: Milliseconds of a day.
DAY = 86_400_000

#: Failed messages, and days with failures, below which a subscription is not disabled.
LEAST_MESSAGES = 10
LEAST_DAYS = 2


class Ledger:
    """``status`` as it was when this process took over. ``most``: attempts that are kept."""

    def __init__(self, status: DeliveryStatus, most: int):
        self._status = status
        #: Successes that are not in it yet, and when the last of them was: nearly all attempts are successes.
        self._delivered = self._last_success = 0
        self._most = most
        self._new: list[Attempt] = []
        self.is_changed = False

    @property
    def status(self) -> DeliveryStatus:
        """The status as it is now."""
        if self._delivered:
            delivered, self._delivered = self._status.delivered + self._delivered, 0
            self._status = replace(self._status, delivered=delivered, last_success=self._last_success)
        return self._status

    def change(self, **fields: object) -> None:
        """Set fields of the status."""
        status = self.status
        if any(getattr(status, name) != value for name, value in fields.items()):
            self._status = replace(status, **fields)  # type: ignore[arg-type]
            self.is_changed = True

    def add(self, attempt: Attempt, row: int) -> None:
        """An attempt has ended. ``row``: failures in a row since the last success, this one included."""
        self._new.append(attempt)
        del self._new[:-max(1, self._most)]
        status = self._status
        if attempt.outcome == "delivered":
            if status.row or status.failing_since or status.failed_messages or status.failed_days:
                self.change(row=0, failing_since=0, failed_messages=0, failed_days=0)
            self._delivered += 1
            self._last_success = attempt.at
        elif attempt.outcome in ("failed", "dead"):
            last = status.last_failure
            same_day = status.failed_days and last is not None and last.at // DAY == attempt.at // DAY
            self.change(
                failed=status.failed + 1, last_failure=attempt, row=row,
                failing_since=status.failing_since or attempt.at,
                failed_messages=status.failed_messages + (attempt.attempt == 1),
                failed_days=status.failed_days + (not same_day),
            )
        self.is_changed = True

    def filtered(self) -> None:
        """A message was not for this receiver."""
        self.change(filtered=self.status.filtered + 1)

    def died(self) -> None:
        """A message was given up."""
        self.change(dead=self.status.dead + 1)

    def restarted(self) -> None:
        """The owner has activated the subscription: failures are forgotten."""
        self.change(row=0, failing_since=0, failed_messages=0, failed_days=0, window=1, resting_until=0)

    def is_hopeless(self, now: int, after: int) -> bool:
        """Has it failed for so long that it is to be disabled? ``now`` in ms, ``after`` in seconds."""
        status = self._status
        return (
            status.row > 0 and status.failing_since + after * 1000 <= now
            and status.failed_messages >= LEAST_MESSAGES and status.failed_days >= LEAST_DAYS
        )

    def written(self) -> DeliveryStatus:
        """The status to write; call it when it is about to be written."""
        self._status = self.status.with_attempts(self._new, self._most)
        self._new, self.is_changed = [], False
        return self._status
