"""What waits for a subscription in the side-store: retries, delayed messages, and all messages without a broker.

A claim of its own hides each message until its next attempt, and taking it counts the attempt before it is made: a
crash costs an attempt, and never the count. A worker that dies leaves claims that end by themselves.

Messages that have been claimed once live longer here than their ttl, by LINGER, so that the worker finds those that
expire while they wait, and they die with a letter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from gateway.core.envelopes import LATEST
from gateway.core.taking import Positions
from gateway.notify.clock import elapsed
from gateway.notify.item import Item, read_kept
from storage.errors import QueueGone
from storage.model import Claim, Message

#: Milliseconds that a message stays on after its end.
LINGER = 86_400_000

#: Messages of a subscription of which more is remembered than the side-store keeps.
REMEMBERED = 1000

#: Messages looked through at once for those of a kind.
PAGE = 100


@dataclass(slots=True)
class _History:
    """Of one message: when its first and last attempts were, the last status, and attempts that did not count."""

    first: int = 0
    last: int = 0
    status: int = 0
    uncounted: int = 0


class Retries:
    """The messages under a subscription's key. Methods block; they raise StoreError.

    ``store``: the side-store of the subscription's pool. ``hold``: seconds that a claim lasts while an attempt is made.
    """

    def __init__(self, store: Any, key: str, hold: float, positions: Positions):
        self._store = store
        self._key = key
        self._hold = hold
        self._positions = positions
        self._histories: OrderedDict[str, _History] = OrderedDict()

    # -- taking -------------------------------------------------------------------------------------------------

    def take(self, limit: int) -> list[Item]:
        """Up to ``limit`` messages whose time has come, the oldest first."""
        try:
            found, _ = self._store.landed.find_free(self._key, limit)
        except QueueGone:  # the subscription was deleted
            return []
        return self._claimed(found)

    def take_first(self) -> tuple[list[Item], bool]:
        """The oldest message if its time has come, and whether there is none at all, delayed ones apart."""
        oldest = self._store.landed.list_messages(self._key, 0, 1, claimed=True)
        if not oldest:
            return [], True
        if oldest[0].hidden_until > self._store.now():
            return [], False
        try:
            found, _ = self._store.landed.find_free(self._key, 1)
        except QueueGone:
            return [], True
        return self._claimed(found), False

    def take_requests(self) -> list[Item]:
        """A request to confirm whose time has come, if there is one among those that wait."""
        try:
            self._store.landed.find_free(self._key, 1)  # what has waited until now can't be claimed before that
        except QueueGone:
            return []
        after = 0
        while page := self._store.landed.list_messages(self._key, after, PAGE):
            found = [message for message in page if Item(message, 0, **read_kept(message)).is_request]
            if found:
                return self._claimed(found[:1])
            after = page[-1].seq
        return []

    def _claimed(self, found: Sequence[Message]) -> list[Item]:
        items = []
        for message in found:
            now = self._store.now()
            good_until = elapsed() + self._hold
            keep_until = 0 if message.claims else min(message.expires + LINGER, LATEST)
            claim = Claim(f"notify-{uuid4().hex}", int(self._hold), now + int(self._hold * 1000), keep_until)
            for got in self._store.landed.claim(self._key, [message], claim):
                items.append(self._item(got, claim.id, good_until))
        return items

    def _item(self, got: Message, claim: str, good_until: float) -> Item:
        """What has just been claimed, which has counted."""
        item = Item(
            got, got.expires - LINGER, **read_kept(got), attempt=got.claims, claim=claim, good_until=good_until
        )
        history = self._histories.get(got.id)
        if history is not None:
            item.first, item.last, item.status = history.first, history.last, history.status
            item.attempt = max(1, got.claims - history.uncounted)
        return item

    # -- putting back -------------------------------------------------------------------------------------------

    def land(self, item: Item, wait: float, counts: bool) -> bool:
        """Keep a message of the broker until its next attempt in ``wait`` seconds; False if there is nowhere to.

        ``counts``: was there an attempt. Raises Unstorable for what no side-store takes.
        """
        now = self._store.now()
        message = replace(
            item.message, claims=int(counts), properties=item.kept(),
            expires=min(item.expires + LINGER, LATEST) if counts else item.expires,
        )
        if wait > 0:
            message.hidden_until = now + int(wait * 1000)
            message.claim, message.claim_ttl = f"notify-{uuid4().hex}", int(wait)
        self._positions.number([message], now)
        try:
            self._store.landed.land(self._key, [message])
        except QueueGone:
            return False
        return True

    def postpone(self, item: Item, wait: float, counts: bool) -> None:
        """Keep a message that was taken from here until its next attempt. If its claim has ended others have it."""
        self._remember(item, counts)
        if wait > 0:
            until = self._store.now() + int(wait * 1000)
            self._store.landed.renew_claim(self._key, Claim(item.claim, int(wait), until, 0))
        else:
            self._store.landed.release_claim(self._key, item.claim)

    def _remember(self, item: Item, counts: bool) -> None:
        history = self._histories.pop(item.message.id, None) or _History()
        history.first, history.last, history.status = item.first, item.last, item.status
        history.uncounted += not counts
        self._histories[item.message.id] = history
        if len(self._histories) > REMEMBERED:
            self._histories.popitem(last=False)

    def delete(self, item: Item) -> None:
        """Forget a message that was taken from here."""
        self._store.landed.delete_claimed(self._key, [item.message.id], [item.claim])
        self._histories.pop(item.message.id, None)
