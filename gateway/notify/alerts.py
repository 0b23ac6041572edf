"""Tells the owner of a subscription that it fails: ``_alert`` of its options, by a queue of the project or by mail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from bridges.errors import BridgeError
from gateway.config.mail import MAILTO
from gateway.core.errors import CoreError
from gateway.core.messages.post import Post
from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.subscriber import Subscriber, parse
from gateway.notify.mail import Mailer
from storage.errors import StoreError

LOG = logging.getLogger(__name__)

#: Schemes that alerts may have.
SCHEMES = ("marconi", MAILTO)

#: Events: the 5th failure in a row, nothing is sent any more, a message was given up.
FAILING, IS_DISABLED, EXHAUSTED = "failing", "disabled", "exhausted"

#: Alerts of a process that are under way at the same time; further ones are in the log only.
MOST = 100


class Alerts:
    """For all subscriptions of a process. Belongs to the loop.

    ``messages``: posts, see gateway.core.messages, in one of the ``threads``. ``now``: the side-store's clock, in ms.
    """

    def __init__(self, messages: Any, mailer: Mailer, threads: ThreadPoolExecutor, now: Callable[[], int]):
        self._messages = messages
        self._mailer = mailer
        self._threads = threads
        self._now = now
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, subscription: Subscription, event: str, reason: str) -> None:
        """Tell the owner of an event, if it wants to hear of it. Returns at once."""
        target = subscription.options.get("_alert")
        if not isinstance(target, str):
            return
        if len(self._tasks) >= MOST:
            LOG.warning("subscription %s: too many alerts; left out: %s", subscription.name, event)
            return
        task = asyncio.create_task(self._send(parse(target, SCHEMES), subscription, event, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self, seconds: float) -> None:
        """Wait for those under way, up to so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def _send(self, target: Subscriber, subscription: Subscription, event: str, reason: str) -> None:
        """Nobody could do better for an alert than try once."""
        at = self._now()
        body = orjson.dumps({
            "Message_Type": "Alert",
            "event": event,
            "reason": reason,
            "queue_name": subscription.source,
            "subscription_id": subscription.id,
            "subscriber": subscription.subscriber,
            "at": at,
        })
        if target.scheme == MAILTO:
            await self._mailer.tell(target, f"Subscription to {subscription.source}: {event}", body.decode(), at)
            return
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._threads, self._messages.post, subscription.client_project, target.queue, "", [Post(body)],
                len(body),
            )
        except (CoreError, BridgeError, StoreError) as error:
            LOG.warning("subscription %s: its alert (%s) can't be posted: %s", subscription.name, event, error)
