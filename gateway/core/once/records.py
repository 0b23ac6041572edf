"""What is recorded of posts that are to happen once, and under which names."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from uuid import UUID

#: Parts of a record of a key: whether it is done, until when (ms) it runs, when (ms) it began, and the fingerprint.
_KEYED = struct.Struct(">?QQ32s")

#: Bytes of an id.
_ID = 16


def name_of(kind: str, queue_key: str, text: str) -> str:
    """The name of a reservation. A queue that is created again has another ``queue_key``, so it begins anew."""
    return hashlib.sha256(f"{kind}\n{queue_key}\n{text}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class KeyedRecord:
    """A post with an Idempotency-Key: ``ids`` are those of its messages.

    Until it is ``done`` a request works on it up to ``running_until`` (ms), 0 if none does. ``began``: when the first
    request came (ms).
    """

    fingerprint: bytes
    ids: list[str]
    began: int
    running_until: int = 0
    done: bool = False

    def pack(self) -> bytes:
        """As bytes: 16 for each id, since a large post has very many."""
        head = _KEYED.pack(self.done, self.running_until, self.began, self.fingerprint)
        return head + b"".join([UUID(id_).bytes for id_ in self.ids])

    @classmethod
    def unpack(cls, data: bytes) -> KeyedRecord:
        """The opposite of pack."""
        done, running_until, began, fingerprint = _KEYED.unpack_from(data)
        ids = [str(UUID(bytes=data[at:at + _ID])) for at in range(_KEYED.size, len(data), _ID)]
        return cls(fingerprint, ids, began, running_until, done)


@dataclass(frozen=True, slots=True)
class DedupRecord:
    """The message that had a dedup_id first, and whether the broker has confirmed it."""

    id: str
    confirmed: bool = False

    def pack(self) -> bytes:
        """As bytes."""
        return bytes([self.confirmed]) + UUID(self.id).bytes

    @classmethod
    def unpack(cls, data: bytes) -> DedupRecord:
        """The opposite of pack."""
        return cls(str(UUID(bytes=data[1:])), bool(data[0]))
