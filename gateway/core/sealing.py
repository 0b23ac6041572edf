"""Sealed messages on their way: sealed when posted, unsealed when shown, left alone when they can't be unsealed.

A gateway may lack the key of a message (a key is being changed, or its configuration is wrong), and a message may be
damaged or never have been one of ours. None of that may take other messages along, so nobody claims, pops or
acknowledges a sealed message before it has been unsealed. One that can't be unsealed lands free: gateways that have its
key find it there, and this one asks the side-store to leave it out.

``Message.key`` of a sealed message says with what: the key's id, if that is known, and after it a ``?`` with the ring
of each gateway that should be able to unseal it and was not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from gateway.core.demand import Selection
from gateway.core.errors import Busy, Conflict, CoreError, InvalidInput
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.names import client_project, kind_of
from gateway.core.seal import NotUnsealed, Seal
from gateway.observe.metrics import UNOPENED
from storage.model import InGroups, Message, Ring

LOG = logging.getLogger(__name__)

#: Messages that are looked at in one go once one was found that can't be unsealed.
SKIPPING = 100

#: Seconds that one request spends on messages that can't be unsealed, and are in front of those that can.
SKIPPING_BUDGET = 4.0

#: How many messages that can't be unsealed one request moves into the side-store to get at those after them.
SKIPPED = 1000

#: Seconds between two lines in the log about the messages of one queue, and queues that are remembered for that.
LOG_INTERVAL = 60.0
LOGGED_QUEUES = 1000

TITLE = "Message can't be decrypted"
PASSING = "messages that can't be decrypted here are being passed over; try again"


class Sealing:
    """Seals and unseals the messages of all queues."""

    def __init__(self, seal: Seal):
        self._seal = seal
        self._logged: dict[str, float] = {}

    def seal(self, project: str, message: Message) -> None:
        """Seal a message that is being posted."""
        if not self._seal.key:
            raise InvalidInput(
                f"This {kind_of(project)} encrypts its messages, but this service has no encryption key"
            )
        message.body = self._seal.seal(message.body, _context(project, message.id))
        message.encrypted = True
        message.key = self._seal.key

    # -- in the broker ------------------------------------------------------------------------------------------

    def key_of(self, project: str, id_: str, sealed: bytes, named: str) -> str:
        """``Message.key`` of a sealed body out of the broker whose message gets the given id.

        ``named``: the id of the key that the message names, empty if it names none.
        """
        try:
            return self._seal.unseal(sealed, _context(project, id_), named)[0]
        except NotUnsealed:
            return self._tried(named)

    def can_unseal(self, project: str, id_: str, sealed: bytes, named: str) -> bool:
        """Can the body be unsealed here? Arguments as for key_of."""
        try:
            self._seal.unseal(sealed, _context(project, id_), named)
        except NotUnsealed:
            return False
        return True

    # -- landed -------------------------------------------------------------------------------------------------

    def unsealed(self, info: QueueInfo, messages: Sequence[Message]) -> list[Message]:
        """The messages with their bodies unsealed, without those that can't be, which are reported."""
        if not [message for message in messages if message.encrypted]:
            return [*messages]
        return self._unseal(info, messages)[0]

    def found(self, info: QueueInfo, messages: Sequence[Message]) -> list[Message]:
        """Like unsealed, for messages that were asked for: if none of them can be unsealed that is the answer.

        Raises Busy when another gateway may have the key, Conflict when none of this one's keys fits.
        """
        unsealed, failures = self._unseal(info, messages)
        if failures and not unsealed:
            raise _refusal(*failures[0])
        return unsealed

    def free(self, info: QueueInfo, limit: int) -> tuple[list[Message], bool]:
        """Like LandedStore.find_free, of the messages that can be unsealed here; they stay sealed."""
        found, leased = info.pool.store.landed.find_free(info.key, limit)
        if self._all_unseal(info, found):
            return found, leased
        asked, deadline = limit, time.monotonic() + SKIPPING_BUDGET
        while True:
            found, leased = info.pool.store.landed.find_free(info.key, asked, self._seal.ring)
            if self._all_unseal(info, found):
                return found[:limit], leased
            if time.monotonic() > deadline:
                raise Busy(PASSING)
            asked = max(limit, SKIPPING)  # more of the kind that the side-store can't tell from the others

    def in_groups(self, info: QueueInfo, limit: int) -> InGroups:
        """Like LandedStore.find_in_groups; nothing that comes after a message which can't be unsealed here."""
        found = info.pool.store.landed.find_in_groups(info.key, limit)
        deadline = time.monotonic() + SKIPPING_BUDGET
        while not self._all_unseal(info, found.messages):
            if time.monotonic() > deadline:
                raise Busy(PASSING)
            found = info.pool.store.landed.find_in_groups(info.key, limit, self._seal.ring)
        return found

    def page(self, info: QueueInfo, selection: Selection, after: int) -> list[Message]:
        """The selected ones of the landed messages after a position, unsealed, without those that can't be."""
        limit = selection.limit
        page = _read(info, selection, after, limit)
        unsealed = self.unsealed(info, page)
        if len(unsealed) == len(page):
            return unsealed
        asked, full, deadline = limit, len(page) == limit, time.monotonic() + SKIPPING_BUDGET
        while full and len(unsealed) < limit:
            if time.monotonic() > deadline:
                if not unsealed:
                    raise Busy(PASSING)
                break
            page = _read(info, selection, page[-1].seq, asked, self._seal.ring)
            more = self.unsealed(info, page)
            unsealed += more
            full = len(page) == asked
            if len(more) < len(page):
                asked = max(limit, SKIPPING)
        return unsealed[:limit]

    def _all_unseal(self, info: QueueInfo, messages: Sequence[Message]) -> bool:
        sealed = [message for message in messages if message.encrypted]
        return not (sealed and self._unseal(info, sealed)[1])

    def _unseal(
        self, info: QueueInfo, messages: Sequence[Message]
    ) -> tuple[list[Message], list[tuple[Message, NotUnsealed]]]:
        """The messages with their bodies unsealed; those that can't be, with the reason."""
        unsealed: list[Message] = []
        failures: list[tuple[Message, NotUnsealed]] = []
        for message in messages:
            if not message.encrypted:
                unsealed.append(message)
                continue
            key = message.key.partition("?")[0]
            try:
                body = self._seal.unseal(message.body, _context(info.project, message.id), key)[1]
            except NotUnsealed as error:
                failures.append((message, error))
            else:
                unsealed.append(replace(message, body=body, encrypted=False, key=""))
        if failures:
            self._report(info, failures)
            self._mark(info, [message for message, _ in failures])
        return unsealed, failures

    def _tried(self, key: str) -> str:
        """``Message.key`` after none of what this gateway has unsealed it."""
        known, _, rings = key.partition("?")
        ring = self._seal.ring
        if (known and known not in ring.keys) or ring.id in rings.split("?"):
            return key
        return f"{key}?{ring.id}"

    def _mark(self, info: QueueInfo, messages: Sequence[Message]) -> None:
        """Record which messages could not be unsealed, so that they are left out from now on."""
        marked = [replace(message, key=key) for message in messages if (key := self._tried(message.key)) != message.key]
        if marked:
            info.pool.store.landed.mark(info.key, marked)

    def _report(self, info: QueueInfo, failures: Sequence[tuple[Message, NotUnsealed]]) -> None:
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


def _read(
    info: QueueInfo, selection: Selection, after: int, limit: int, ring: Ring | None = None
) -> Sequence[Message]:
    """Up to ``limit`` of the selected messages, still sealed."""
    found: Sequence[Message] = info.pool.store.landed.list_messages(
        info.key, after, limit, not_from=selection.not_from, claimed=selection.claimed, delayed=selection.delayed,
        ring=ring,
    )
    return found


def _context(project: str, id_: str) -> str:
    # A topic's message may get into a queue.
    return f"{client_project(project)}/{id_}"


def _refusal(message: Message, error: NotUnsealed) -> CoreError:
    kind = Conflict if error.damaged else Busy
    return kind(f"Message {message.id} can't be decrypted: {error}", TITLE)
