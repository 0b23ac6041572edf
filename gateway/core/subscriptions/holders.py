"""Leases of the processes that have subscriptions of connections: who among them lives."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.core.subscriptions.record import Subscription
from storage.catalogue import Catalogue

#: Kind of the records, whose names are those of holders; the data is until when the lease lasts (ms).
HOLDER = "holder"

#: Records read at once.
PAGE = 200


class Holders:
    """Reads and writes the leases. ``now``: the clock of the catalogue, in ms.

    ``lease``: seconds that one of this process lasts unless it is renewed.
    """

    def __init__(self, catalogue: Catalogue, now: Callable[[], int], lease: float = 0.0):
        self._catalogue = catalogue
        self._now = now
        self.lease = lease

    def begin(self, holder: str) -> None:
        """Begin a lease."""
        self._catalogue.put_record(HOLDER, holder, self._data())

    def renew(self, holder: str) -> bool:
        """Renew a lease; False if it has ended, or others have seen that it had."""
        found = self._catalogue.get_record(HOLDER, holder)
        if found is None or int(found.data) <= self._now():
            return False
        return self._catalogue.put_record(HOLDER, holder, self._data(), found.version)

    def _data(self) -> bytes:
        return str(self._now() + int(self.lease * 1000)).encode()

    def end(self, holder: str) -> None:
        """End a lease."""
        self._catalogue.delete_record(HOLDER, holder)

    def bury(self) -> bool:
        """Remove the leases that are over, so that nobody renews them; were there any?"""
        dead = [name for name, until in self._all() if until <= self._now()]
        for name in dead:
            self._catalogue.delete_record(HOLDER, name)
        return bool(dead)

    def without(self, subscriptions: Iterable[Subscription]) -> list[Subscription]:
        """Those of some subscriptions whose holder is gone. The leases are read after the subscriptions."""
        held = [each for each in subscriptions if each.holder]
        living = {name for name, until in self._all() if until > self._now()} if held else set()
        return [each for each in held if each.holder not in living]

    def _all(self) -> Iterable[tuple[str, int]]:
        last = ""
        while page := self._catalogue.list_records(HOLDER, last, PAGE):
            yield from ((record.name, int(record.data)) for record in page)
            last = page[-1].name
