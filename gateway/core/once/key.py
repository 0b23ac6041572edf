"""The key of a request that may be sent again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """An Idempotency-Key, and the SHA-256 of the body that it came with: another body is another request."""

    text: str
    fingerprint: bytes
