"""Encryption of message bodies at rest and on the broker: AES-256-GCM."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: Value of the AMQP header that marks a sealed body.
CIPHER = "AES-256-GCM"

#: Bytes of a key, and of the nonce in front of each sealed body (NIST SP 800-38D).
KEY_SIZE = 32
NONCE_SIZE = 12


class Seal:
    """Seals bodies with one key (32 bytes). What is sealed opens only under the same ``context``."""

    def __init__(self, key: bytes):
        self._cipher = AESGCM(key)

    def close(self, body: bytes, context: str) -> bytes:
        """Nonce and ciphertext of a body."""
        nonce = os.urandom(NONCE_SIZE)
        return nonce + self._cipher.encrypt(nonce, body, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """The body again. Raises ValueError when key, context or a bit of it is wrong."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], context.encode())
        except InvalidTag as error:
            raise ValueError("not sealed with this key, or changed since") from error
