"""Tests that owners make of their subscriptions: one attempt now, of a message that is in no queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from gateway.core.errors import Busy, Conflict, NotFound, TooFast
from gateway.core.subscriptions.live import LiveSubscriptions
from gateway.core.subscriptions.record import UNCONFIRMED, UNSUBSCRIBED, Subscription
from storage.catalogue import Catalogue

#: Tests of one subscription within PERIOD seconds, counted over all gateways.
MOST, PERIOD = 6, 60

#: Tests that a process makes at the same time: each holds a thread that answers requests.
AT_ONCE = 2

#: Schemes of subscribers that can be tested.
SCHEMES = ("http", "https", "trust+http", "trust+https", "mailto")

#: The body of a test, unless its owner gives one.
BODY = b'"test"'


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of it. ``status``: of HTTP or SMTP, 0 for no answer; ``reason``: class of the failure, empty for none.

    ``response``: the first KiB of a textual answer.
    """

    status: int
    seconds: float
    reason: str
    response: str


class SubscriptionTests:
    """Makes tests. ``send``, which the composition sets, sends a body to a subscriber now."""

    def __init__(self, live: LiveSubscriptions, catalogue: Catalogue):
        self._live = live
        self._catalogue = catalogue
        self._running = threading.Semaphore(AT_ONCE)
        self.send: Callable[[Subscription, bytes], Tested] | None = None

    def run(self, project: str, source: str, id_: str, body: bytes | None) -> Tested:
        """Send ``body``, which is JSON, to the subscriber now.

        Raises NotFound, Conflict for one that has not confirmed or can't be tested, TooFast, Busy.
        """
        found = self._live.get(project, source, id_)
        if self.send is None:
            raise NotFound("This service makes no tests of subscriptions")
        if found.state in (UNCONFIRMED, UNSUBSCRIBED):
            raise Conflict(f"Subscription {id_} is {found.state}; it has to be confirmed first")
        if found.scheme not in SCHEMES:
            raise Conflict(f"Subscribers of type {found.scheme} can't be tested; post a message instead")
        if not self._running.acquire(blocking=False):
            raise Busy("Other subscriptions are being tested; try again")
        try:
            self._count(found)
            return self.send(found, BODY if body is None else body)
        finally:
            self._running.release()

    def _count(self, subscription: Subscription) -> None:
        """Each test takes one of MOST places for PERIOD seconds: locks, which end by themselves."""
        for place in range(MOST):
            # No queue has such a name.
            if self._catalogue.lock(f"/test/{subscription.name}/{place}", uuid4().hex, PERIOD) is not None:
                return
        raise TooFast(f"A subscription may be tested {MOST} times in {PERIOD} seconds", PERIOD // MOST)
