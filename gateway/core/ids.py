"""Message and claim ids: UUID version 7 (RFC 9562, section 5.7), so that an id tells when it was created."""

from __future__ import annotations

import os
import re
import threading
from uuid import UUID, uuid5

#: What a native producer's message id may look like to be used as it is: safe in a path and in a list of ids.
USABLE_ID = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.:-]{1,64}\Z")

#: Message ids that don't fit are replaced by a UUID version 5 in this namespace: the same again after a redelivery.
FOREIGN_IDS = UUID("6f1b3a52-2f0c-5d5e-9a54-6d6172636f6e")

#: Random bytes that are asked for in one go: each system call lets go of the GIL.
NOISE = 4096

#: The first digit of the fourth part: two random bits after the variant's (RFC 9562, 4.1).
_VARIANT = {f"{digit:x}": "89ab"[digit & 3] for digit in range(16)}

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


class IdMaker:
    """Makes ids that grow strictly within a process, also when the clock stands still or steps back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._noise = b""

    def make(self, now: int, count: int = 1) -> list[str]:
        """``count`` ids for the time ``now`` (ms). The 12 bits after the time count up (RFC 9562, 6.2, method 1)."""
        with self._lock:
            first = max(now << 12, self._last + 1)
            self._last = first + count - 1
            if len(self._noise) < 8 * count:
                self._noise = os.urandom(max(NOISE, 8 * count))
            noise, self._noise = self._noise[:8 * count], self._noise[8 * count:]
        text = noise.hex()
        return [_format(first + i, text[16 * i:16 * i + 16]) for i in range(count)]


def _format(stamp: int, noise: str) -> str:
    """``stamp``: 48 bits of time and 12 that count; ``noise``: 16 hexadecimal digits, two bits are the variant's."""
    head = f"{stamp & 0xFFF_FFFF_FFFF_FFFF:015x}"
    return f"{head[:8]}-{head[8:12]}-7{head[12:]}-{_VARIANT[noise[0]]}{noise[1:4]}-{noise[4:]}"


def made_at(id_: str) -> int | None:
    """When one of our ids was created (ms since the epoch), or None for an id that is not of our kind."""
    if not _UUID7.match(id_):
        return None
    return int(id_[:8] + id_[9:13], 16)


def usable(message_id: str) -> str:
    """A native producer's message id as the API can show it."""
    return message_id if USABLE_ID.match(message_id) else str(uuid5(FOREIGN_IDS, message_id))
