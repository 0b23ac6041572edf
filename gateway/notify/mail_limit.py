"""How many mails an address gets: a limit per hour, so that nobody has a mailbox filled."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable

#: Seconds that the limit is for.
HOUR = 3600.0

#: Addresses whose last mails are remembered. Beyond that the one that has got none for the longest time is forgotten.
REMEMBERED = 10_000


class MailLimit:
    """Counts the mails of the last hour to each address, in any case, for one process. Thread-safe.

    Times are seconds of a clock.
    """

    def __init__(self, per_hour: int):
        """``per_hour`` 0: no limit."""
        self._per_hour = per_hour
        self._sent: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, addresses: Iterable[str], now: float) -> float:
        """Count a mail to each address. If one has had its share, count none, and return how long to wait (s)."""
        if not self._per_hour:
            return 0.0
        keys = {address.lower() for address in addresses}
        with self._lock:
            wait = max((self._wait(key, now) for key in keys), default=0.0)
            if wait > 0:
                return wait
            for key in keys:
                self._sent.setdefault(key, deque()).append(now)
                self._sent.move_to_end(key)
            while len(self._sent) > REMEMBERED:
                self._sent.popitem(last=False)
        return 0.0

    def _wait(self, key: str, now: float) -> float:
        sent = self._sent.get(key)
        while sent and sent[0] <= now - HOUR:
            sent.popleft()
        return sent[0] + HOUR - now if sent and len(sent) >= self._per_hour else 0.0

    def give_back(self, addresses: Iterable[str], at: float) -> None:
        """The mail that was counted at the time ``at`` has not gone to these addresses."""
        with self._lock:
            for address in addresses:
                sent = self._sent.get(address.lower())
                if sent and at in sent:
                    sent.remove(at)
