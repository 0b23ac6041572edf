"""Message and claim ids: UUID version 7 (RFC 9562, section 5.7), so that an id tells when it was created.

Some ids are *remembered*: their message may be published a second time, so it must not land again once it was deleted.
Such an id says so itself, in its last digit, and the digit before says how long the message can live.
"""

from __future__ import annotations

import os
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID, uuid5

#: What a native producer's message id may look like to be used as it is: safe in a path and in a list of ids.
USABLE_ID = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.:-]{1,64}\Z")

#: Message ids that don't fit are replaced by a UUID version 5 in this namespace: the same again after a redelivery.
FOREIGN_IDS = UUID("6f1b3a52-2f0c-5d5e-9a54-6d6172636f6e")

#: Random bytes that are asked for in one go: each system call lets go of the GIL.
NOISE = 4096

#: The first digit of the fourth part: two random bits after the variant's (RFC 9562, 4.1).
_VARIANT = {f"{digit:x}": "89ab"[digit & 3] for digit in range(16)}

#: The last digit of an id that is remembered as long as its message could live: a client may repeat the post, whenever.
ONCE = "f"

#: The last digit of an id that is remembered for REPEATS_FOLLOW after its message was deleted: only a gateway repeats
#: the publish, within seconds, so a second copy comes out of the broker soon after the first.
IN_ORDER = "e"

#: How long an id with IN_ORDER is remembered after its message was deleted, in milliseconds. The copy is seconds behind
#: it in the broker; consumers that rest meanwhile are the reason for minutes.
REPEATS_FOLLOW = 600_000

#: Lives of messages in seconds that the digit before the last tells apart: the first one that is long enough counts.
#: The last one is longer than any TTL.
LIVES = (
    60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400, 172_800, 345_600, 604_800, 1_209_600, 7_776_000,
    2**31,
)

#: Milliseconds for which an id is remembered longer than its message lives, as clocks of gateways differ a little.
MARGIN = 60_000

MARKS = frozenset({ONCE, IN_ORDER})

#: What the last digit of all other ids is made of: no mark.
_UNMARKED = {f"{digit:x}": f"{digit % 14:x}" for digit in range(16)}

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


class IdMaker:
    """Makes ids that grow strictly within a process, also when the clock stands still or steps back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._noise = b""

    def make(self, now: int, count: int = 1, mark: str = "", ttl: int = 0) -> list[str]:
        """``count`` ids for the time ``now`` (ms). The 12 bits after the time count up (RFC 9562, 6.2, method 1).

        ``mark``: ONCE or IN_ORDER for ids that are remembered, of messages that live ``ttl`` seconds at most.
        """
        with self._lock:
            first = max(now << 12, self._last + 1)
            self._last = first + count - 1
            if len(self._noise) < 8 * count:
                self._noise = os.urandom(max(NOISE, 8 * count))
            noise, self._noise = self._noise[:8 * count], self._noise[8 * count:]
        text = noise.hex()
        made = [_format(first + i, text[16 * i:16 * i + 16]) for i in range(count)]
        if mark:
            end = f"{bisect_left(LIVES, ttl):x}{mark}"
            return [f"{id_[:-2]}{end}" for id_ in made]
        return made


def _format(stamp: int, noise: str) -> str:
    """``stamp``: 48 bits of time and 12 that count; ``noise``: 16 hexadecimal digits, two bits are the variant's."""
    head = f"{stamp & 0xFFF_FFFF_FFFF_FFFF:015x}"
    end = f"{noise[4:15]}{_UNMARKED[noise[15]]}"
    return f"{head[:8]}-{head[8:12]}-7{head[12:]}-{_VARIANT[noise[0]]}{noise[1:4]}-{end}"


def made_at(id_: str) -> int | None:
    """When one of our ids was created (ms since the epoch), or None for an id that is not of our kind."""
    if not _UUID7.match(id_):
        return None
    return int(id_[:8] + id_[9:13], 16)


def is_remembered(id_: str) -> bool:
    """May a message with this id be published a second time?"""
    return id_[-1:] in MARKS and _UUID7.match(id_) is not None


def remembered_until(id_: str, now: int) -> int | None:
    """Until when (ms) a message must not land again that is deleted at ``now`` (ms); None if it may do so already."""
    made = made_at(id_) if id_[-1:] in MARKS else None
    if made is None:
        return None
    until = made + LIVES[int(id_[-2], 16)] * 1000 + MARGIN
    if id_[-1] == IN_ORDER:
        until = min(until, now + REPEATS_FOLLOW)
    return until if until > now else None


def remembered(ids: Sequence[str], clock: Callable[[], int]) -> Mapping[str, int]:
    """Those of the ids that are remembered if their messages are deleted now, and until when (ms).

    ``clock``: the time (ms) of the side-store that the messages are in.
    """
    marked: dict[str, int] = {}
    now = 0
    for id_ in ids:
        if id_[-1:] in MARKS:
            now = now or clock()
            if (until := remembered_until(id_, now)) is not None:
                marked[id_] = until
    return marked


def usable(message_id: str) -> str:
    """A native producer's message id as the API can show it."""
    return message_id if USABLE_ID.match(message_id) else str(uuid5(FOREIGN_IDS, message_id))
