"""How subscriptions are shared out among the processes that deliver: each part belongs to one process at a time."""

from __future__ import annotations

import zlib

#: Subscriptions are shared out in this many parts.
SLOTS = 64


def slot_of(id_: str) -> int:
    """The part that the subscription with this id is in; the same in all gateways."""
    return zlib.crc32(id_.encode()) % SLOTS


def slot_lock(slot: int) -> str:
    """Name of the lock that whoever serves a part holds."""
    return f"notify-{slot}"
