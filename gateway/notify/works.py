"""What all outlets of a process share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gateway.core.subscriptions.addresses import Rules
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.records import SubscriptionRecords
from gateway.notify.clock import elapsed
from gateway.notify.dead_letters import DeadLetters
from gateway.notify.http import Sender
from gateway.notify.mail import Mailer
from gateway.notify.settings import DeliverySettings
from gateway.notify.terms import SourceTerms
from gateway.notify.trust_tokens import TrustTokens

T = TypeVar("T")

#: Seconds after which the queue of a subscription is looked at again before something is delivered.
TERMS_FOR = 5.0


class Works:
    """``sealing``: the core's. ``now``: the clock of the catalogue, in ms. ``is_open``: may attempts begin for this
    subscription. ``read_terms`` reads what a queue says. ``alert``: tells the owner of an event, with its reason.
    ``tokens``: for subscribers that get one. ``agree``: a receiver has agreed to so many messages a minute.
    """

    def __init__(
        self,
        settings: DeliverySettings,
        sender: Sender,
        mailer: Mailer,
        rules: Rules,
        threads: ThreadPoolExecutor,
        records: SubscriptionRecords,
        dead_letters: DeadLetters,
        sealing: Any,
        now: Callable[[], int],
        is_open: Callable[[Subscription], bool],
        read_terms: Callable[[Subscription], SourceTerms],
        alert: Callable[[Subscription, str, str], None],
        tokens: TrustTokens,
        agree: Callable[[Subscription, int], None],
    ):
        self.settings = settings
        self.sender = sender
        self.mailer = mailer
        self.rules = rules
        self._threads = threads
        self.records = records
        self.dead_letters = dead_letters
        self.sealing = sealing
        self.now = now
        self.is_open = is_open
        self._read_terms = read_terms
        self.alert = alert
        self.tokens = tokens
        self.agree = agree
        #: What was read of queues in the last TERMS_FOR seconds, or is being read, by project and name.
        self._terms: dict[tuple[str, str], asyncio.Future[SourceTerms]] = {}

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """What a call comes to that blocks: it is made by one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    async def terms_of(self, subscription: Subscription, known: SourceTerms | None = None) -> SourceTerms:
        """What the subscription's queue says: ``known`` if that is not too old, or if the queue can't be read now.

        All subscriptions of a queue share what is read.
        """
        if known is not None and elapsed() - known.read_at < TERMS_FOR:
            return known
        place = subscription.project, subscription.source
        reading = self._terms.get(place)
        if reading is None:
            loop = asyncio.get_running_loop()
            reading = self._terms[place] = loop.run_in_executor(self._threads, self._read_terms, subscription)
            reading.add_done_callback(lambda done: self._read(place, done))
        try:
            return await asyncio.shield(reading)
        except Exception:
            if known is None:
                raise
            return known

    def _read(self, place: tuple[str, str], done: asyncio.Future[SourceTerms]) -> None:
        if done.cancelled() or done.exception() is not None:
            del self._terms[place]
        else:
            left = max(0.0, done.result().read_at + TERMS_FOR - elapsed())
            asyncio.get_running_loop().call_later(left, self._terms.pop, place)
