"""Secrets that deliveries are signed with, in the form of Standard Webhooks: ``whsec_`` and padded base64."""

from __future__ import annotations

import base64
import secrets

PREFIX = "whsec_"

#: Bytes of the secrets that we make, and of those that clients may set.
SIZE = 32
MIN_SIZE, MAX_SIZE = 24, 64


def make() -> str:
    """A new secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SIZE)).decode()


def check(secret: object) -> str:
    """The secret that a client sent. Raises ValueError with a sentence for it, which does not repeat the secret."""
    if isinstance(secret, str) and secret.startswith(PREFIX):
        text = secret.removeprefix(PREFIX)
        try:
            key = base64.b64decode(text, validate=True)
        except ValueError:
            key = b""
        if MIN_SIZE <= len(key) <= MAX_SIZE and base64.b64encode(key).decode() == text:
            return secret
    raise ValueError(f"The secret must be {PREFIX} and the padded base64 of {MIN_SIZE} to {MAX_SIZE} bytes")


def decode(secret: str) -> bytes:
    """The key to sign with: the bytes in the base64, never the text. Raises ValueError as ``check`` does."""
    return base64.b64decode(check(secret).removeprefix(PREFIX))
