"""What a notifier knows of the subscriptions, and how old that is: no attempt begins on old knowledge."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.subscriptions.live import HEEDED_WITHIN
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.records import SubscriptionRecords
from gateway.core.subscriptions.slots import slot_of
from gateway.notify.clock import elapsed

#: Seconds between two looks for changes.
LOOK = 0.4


class Watch:
    """All subscriptions that are served by workers, by name, as they were at the last look.

    ``schemes``: those of subscribers that this notifier can reach.
    """

    def __init__(
        self, records: SubscriptionRecords, schemes: frozenset[str], clock: Callable[[], float] = elapsed
    ):
        self._records = records
        self._schemes = schemes
        self._clock = clock
        self._version = 0
        self._looked_at = float("-inf")
        #: By name. Replaced as a whole, so any thread may read it.
        self.subscriptions: dict[str, Subscription] = {}

    def look(self) -> tuple[bool, float]:
        """Look for changes: have there been any, and when the look began. Raises StoreError. For one thread at a time.

        Tell ``heeded`` the latter when everybody knows what is in ``subscriptions`` now.
        """
        began = self._clock()
        version = self._records.version()
        if version == self._version:
            return False, began
        self.subscriptions = {
            found.name: found for found in self._records.all() if found.scheme in self._schemes
        } if version else {}
        self._version = version
        return True, began

    def heeded(self, began: float) -> None:
        """What the look that began at this time has found is known to everybody."""
        self._looked_at = began

    @property
    def is_fresh(self) -> bool:
        """Is the last look recent enough for an attempt to begin?"""
        return self._clock() - self._looked_at <= HEEDED_WITHIN

    def used_slots(self) -> set[int]:
        """The parts that have subscriptions."""
        return {slot_of(found.id) for found in self.subscriptions.values()}
