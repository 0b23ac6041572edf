"""Sealed messages on their way: closed when posted, opened when shown, left where they are when they can't be opened.

A gateway may lack the key of a message (a key is being changed, or its configuration is wrong), and a message may be
damaged or never have been one of ours. None of that may take other messages along, so nobody claims, pops or
acknowledges a sealed message before it has been opened. One that can't be opened lands free: gateways that have its
key find it there, and this one asks the side-store to leave it out.

``Message.key`` of a sealed message says with what: the key's id, if that is known, and behind it a ``?`` with the ring
of each gateway that should be able to open it and was not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from bridges.base import Envelope
from gateway.core.errors import Busy, Conflict, CoreError, InvalidInput
from gateway.core.ids import usable
from gateway.core.queues import QueueInfo
from gateway.core.seal import CIPHER, CIPHER_HEADER, KEY_HEADER, KEY_ID, NotOpened, Seal
from gateway.observe.metrics import UNOPENED
from storage.base import SideStore
from storage.model import Message, Ring

LOG = logging.getLogger(__name__)

#: Messages that are looked at in one go once one was found that can't be opened.
SKIPPING = 100

#: Seconds that one request spends on messages that can't be opened, and are in front of those that can.
SKIPPING_BUDGET = 4.0

#: Messages that can't be opened which one request moves into the side-store to get at what is behind them.
SKIPPED = 1000

#: Seconds between two lines in the log about the messages of one queue, and queues that are remembered for that.
LOG_INTERVAL = 60.0
LOGGED_QUEUES = 1000

TITLE = "Message can't be decrypted"
PASSING = "messages that can't be decrypted here are being passed over; try again"


class Sealing:
    """Closes and opens the messages of all queues."""

    def __init__(self, seal: Seal, store: SideStore):
        self._seal = seal
        self._store = store
        self._logged: dict[str, float] = {}

    def close(self, project: str, message: Message) -> None:
        """Seal a message that is being posted."""
        if not self._seal.key:
            raise InvalidInput("This queue encrypts its messages, but this service has no encryption key")
        message.body = self._seal.close(message.body, _context(project, message.id))
        message.encrypted = True
        message.key = self._seal.key

    # -- in the broker ------------------------------------------------------------------------------------------

    def key_of(self, project: str, id_: str, envelope: Envelope) -> str:
        """``Message.key`` of a sealed message that comes out of the broker and gets the given id."""
        named = _named(envelope)
        try:
            return self._seal.unseal(envelope.body, _context(project, id_), named)[0]
        except NotOpened:
            return self._tried(named)

    def opens(self, info: QueueInfo, envelopes: Sequence[Envelope]) -> bool:
        """Can all sealed ones of these messages be opened here?"""
        for envelope in envelopes:
            if envelope.headers.get(CIPHER_HEADER) == CIPHER and info.settings.bridging is None:
                if envelope.message_id is None:
                    return False
                try:
                    context = _context(info.project, usable(envelope.message_id))
                    self._seal.unseal(envelope.body, context, _named(envelope))
                except NotOpened:
                    return False
        return True

    # -- landed -------------------------------------------------------------------------------------------------

    def opened(self, info: QueueInfo, messages: Sequence[Message]) -> list[Message]:
        """The messages with their bodies open, without those that can't be opened, which are reported."""
        if not [message for message in messages if message.encrypted]:
            return [*messages]
        return self._open(info, messages)[0]

    def found(self, info: QueueInfo, messages: Sequence[Message]) -> list[Message]:
        """Like opened, for messages that were asked for: if none of them can be opened that is the answer.

        Raises Busy when another gateway may have the key, Conflict when none of this one's keys fits.
        """
        opened, failures = self._open(info, messages)
        if failures and not opened:
            raise _refusal(*failures[0])
        return opened

    def free(self, info: QueueInfo, limit: int) -> tuple[list[Message], bool]:
        """Like LandedStore.find_free, of the messages that can be opened here; they stay sealed."""
        found, leased = self._store.landed.find_free(info.key, limit)
        if self._all_open(info, found):
            return found, leased
        asked, deadline = limit, time.monotonic() + SKIPPING_BUDGET
        while True:
            found, leased = self._store.landed.find_free(info.key, asked, self._seal.ring)
            if self._all_open(info, found):
                return found[:limit], leased
            if time.monotonic() > deadline:
                raise Busy(PASSING)
            asked = max(limit, SKIPPING)  # more of the kind that the side-store can't tell from the others

    def page(
        self, info: QueueInfo, read: Callable[[int, int, Ring | None], Sequence[Message]], after: int, limit: int
    ) -> list[Message]:
        """Up to ``limit`` opened messages behind a position. ``read`` gets a position, a limit, and a ring or None."""
        page = read(after, limit, None)
        opened = self.opened(info, page)
        if len(opened) == len(page):
            return opened
        asked, full, deadline = limit, len(page) == limit, time.monotonic() + SKIPPING_BUDGET
        while full and len(opened) < limit:
            if time.monotonic() > deadline:
                if not opened:
                    raise Busy(PASSING)
                break
            page = read(page[-1].seq, asked, self._seal.ring)
            more = self.opened(info, page)
            opened += more
            full = len(page) == asked
            if len(more) < len(page):
                asked = max(limit, SKIPPING)
        return opened[:limit]

    def _all_open(self, info: QueueInfo, messages: Sequence[Message]) -> bool:
        sealed = [message for message in messages if message.encrypted]
        return not (sealed and self._open(info, sealed)[1])

    def _open(
        self, info: QueueInfo, messages: Sequence[Message]
    ) -> tuple[list[Message], list[tuple[Message, NotOpened]]]:
        """The messages with their bodies open; those that can't be opened, with the reason."""
        opened: list[Message] = []
        failures: list[tuple[Message, NotOpened]] = []
        for message in messages:
            if not message.encrypted:
                opened.append(message)
                continue
            key = message.key.partition("?")[0]
            try:
                body = self._seal.open(message.body, _context(info.project, message.id), key)
            except NotOpened as error:
                failures.append((message, error))
            else:
                opened.append(replace(message, body=body, encrypted=False, key=""))
        if failures:
            self._report(info, failures)
            self._mark(info, [message for message, _ in failures])
        return opened, failures

    def _tried(self, key: str) -> str:
        """``Message.key`` after what this gateway has could not open it."""
        known, _, rings = key.partition("?")
        ring = self._seal.ring
        if (known and known not in ring.keys) or ring.id in rings.split("?"):
            return key
        return f"{key}?{ring.id}"

    def _mark(self, info: QueueInfo, messages: Sequence[Message]) -> None:
        """Record which messages could not be opened, so that they are left out from now on."""
        marked = [replace(message, key=key) for message in messages if (key := self._tried(message.key)) != message.key]
        if marked:
            self._store.landed.mark(info.key, marked)

    def _report(self, info: QueueInfo, failures: Sequence[tuple[Message, NotOpened]]) -> None:
        for _, error in failures:
            UNOPENED.labels("damaged" if error.damaged else "no_key").inc()
        now = time.monotonic()
        if now - self._logged.get(info.key, float("-inf")) < LOG_INTERVAL:
            return
        if len(self._logged) >= LOGGED_QUEUES:
            self._logged.clear()
        self._logged[info.key] = now
        message, error = failures[0]
        LOG.warning(
            "queue %s: message %s can't be decrypted and is left where it is: %s", info.key, message.id, error
        )


def is_sealed(envelope: Envelope) -> bool:
    """Does a message of a queue of ours say that its body is sealed?"""
    return envelope.headers.get(CIPHER_HEADER) == CIPHER


def _named(envelope: Envelope) -> str:
    """The id of the key that a message names; empty if it names none."""
    key = envelope.headers.get(KEY_HEADER)
    return key if isinstance(key, str) and KEY_ID.match(key) else ""


def _context(project: str, id_: str) -> str:
    return f"{project}/{id_}"


def _refusal(message: Message, error: NotOpened) -> CoreError:
    kind = Conflict if error.damaged else Busy
    return kind(f"Message {message.id} can't be decrypted: {error}", TITLE)
