"""Markers of pages: where a list of messages goes on. Clients pass on what marker_after has written."""

from __future__ import annotations

import re

from gateway.core.errors import InvalidInput
from gateway.core.ids import USABLE_ID
from gateway.core.queues.info import QueueInfo
from storage.model import Message

#: A listing's marker: a landing position. Clients may pass a message's id instead.
MARKER = re.compile(r"[0-9]{1,20}\Z")

#: Marker of a page that ended with the n-th message of a queue that is only looked at. Its position is ``-n``.
PEEKED = "peek-"
PEEK_MARKER = re.compile(PEEKED + r"([0-9]{1,4})\Z")

#: Largest landing position: a signed 64-bit integer.
MAX_POSITION = 2**63 - 1


def marker_after(last: Message) -> str:
    """The marker of the page that follows this message, which was the last one of its page."""
    return str(last.seq) if last.seq >= 0 else f"{PEEKED}{-last.seq}"


def position_of(info: QueueInfo, marker: str | None) -> int | None:
    """The landing position after which a page starts; None for a marker that leads nowhere. Raises InvalidInput."""
    if marker is None:
        return 0
    if MARKER.match(marker):
        return min(int(marker), MAX_POSITION)
    if not USABLE_ID.match(marker):
        raise InvalidInput("The marker is neither one of ours nor the id of a message")
    found = info.pool.store.landed.get_messages(info.key, [marker])
    return found[0].seq if found else None


def peeked_by(marker: str | None) -> int | None:
    """How many messages of a queue that is only looked at are in front of a page; None for any other marker."""
    peeked = PEEK_MARKER.match(marker or "")
    return int(peeked[1]) if peeked else None
