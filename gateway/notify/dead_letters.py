"""Messages that can't be delivered: to the queue that the subscription names, else to its own list."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import orjson

from bridges.errors import BridgeError
from gateway.core.envelopes import LATEST
from gateway.core.errors import CoreError
from gateway.core.messages.post import Post
from gateway.core.subscriptions.letters import Death
from gateway.core.subscriptions.record import Subscription
from gateway.core.taking import Positions
from gateway.notify.item import Item
from storage.errors import StoreError, Unstorable

LOG = logging.getLogger(__name__)

#: The type of a letter, and how many letters may be inside each other: dead letters of dead letters go to the list.
LETTER = "DeadLetter"
MOST_HOPS = 4


class DeadLetters:
    """Puts dead messages away. Methods block.

    ``messages``: posts letters, see gateway.core.messages. ``ttl``: seconds that letters are kept.
    """

    def __init__(self, messages: Any, ttl: int, positions: Positions):
        self._messages = messages
        self._ttl = ttl
        self._positions = positions

    def bury(self, store: Any, subscription: Subscription, item: Item, reason: str, attempts: int) -> None:
        """Put a message away for a reason, after so many attempts. Raises StoreError; then it is still alive.

        That is so, too, if the subscription was deleted or has moved to another side-store.
        ``store``: the side-store of the subscription's pool.
        """
        death = Death(
            reason, item.status, attempts, item.first, item.last, item.ttl,
            orjson.loads(item.properties) if item.properties else None,
        )
        target = subscription.options.get("_dead_letter_queue")
        # What is sealed stays so.
        if target and not item.message.encrypted and self._hops(item.body) < MOST_HOPS:
            try:
                self._post(subscription, target, item, death)
                return
            except (CoreError, BridgeError, StoreError) as error:
                LOG.warning(
                    "subscription %s: a dead letter can't go to queue %s: %s", subscription.name, target, error
                )
        self._keep(store, subscription, item, death)

    def _post(self, subscription: Subscription, target: str, item: Item, death: Death) -> None:
        letter = {
            "Message_Type": LETTER,
            "queue_name": subscription.source,
            "subscription_id": subscription.id,
            "subscriber": subscription.subscriber,
            "reason": death.reason,
            "status": death.status,
            "attempts": death.attempts,
            "first_attempt": death.first_attempt,
            "last_attempt": death.last_attempt,
            "message": {"id": item.message.id, "ttl": item.ttl, "body": orjson.Fragment(item.body)},
        }
        body = orjson.dumps(letter)
        project, client = subscription.client_project, item.message.client
        self._messages.post(project, target, client, [Post(body, self._ttl)], len(body))

    def _keep(self, store: Any, subscription: Subscription, item: Item, death: Death) -> None:
        now = store.now()
        message = replace(
            item.message, expires=min(now + self._ttl * 1000, LATEST), hidden_until=0, claim=None, claim_ttl=0,
            claims=0, properties=death.data(),
        )
        self._positions.number([message], now)
        try:
            store.landed.land(subscription.dead_key, [message])
        except Unstorable as error:
            LOG.error("subscription %s: message %s is lost: %s", subscription.name, message.id, error)

    @staticmethod
    def _hops(body: bytes) -> int:
        """How many letters are inside each other."""
        hops = 0
        try:
            inside = orjson.loads(body)
        except orjson.JSONDecodeError:
            return 0
        while hops < MOST_HOPS and isinstance(inside, dict) and inside.get("Message_Type") == LETTER:
            message = inside.get("message")
            inside = message.get("body") if isinstance(message, dict) else None
            hops += 1
        return hops
