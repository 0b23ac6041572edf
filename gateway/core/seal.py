"""Encryption of message bodies at rest and on the broker: AES-256-GCM, with keys that are told apart by their ids."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.model import Ring

#: The cipher, as messages name it.
CIPHER = "AES-256-GCM"

#: What the id of a key looks like. The letter keeps SQLite from taking it for a number.
KEY_ID = re.compile(r"k[0-9a-f]{15}\Z")

#: Bytes of a key, and of the nonce in front of each sealed body (NIST SP 800-38D).
KEY_SIZE = 32
NONCE_SIZE = 12


class NotUnsealed(ValueError):
    """A sealed body that this gateway can't unseal. ``damaged``: no gateway can, as far as this one can tell."""

    def __init__(self, reason: str, *, damaged: bool):
        super().__init__(reason)
        self.damaged = damaged


def key_id(key: bytes) -> str:
    """The id of a key, which may be shown: it says nothing of the key."""
    return f"k{sha256(b'marconi key id ' + key).hexdigest()[:15]}"


class Seal:
    """Seals bodies with ``key``, and unseals those sealed with it or one of ``others`` (32 bytes each).

    Unsealing needs the ``context`` of the sealing. Without a key nothing can be sealed.
    """

    def __init__(self, key: bytes | None = None, others: Sequence[bytes] = ()):
        #: Id of the key that seals; empty if there is none.
        self.key = key_id(key) if key is not None else ""
        self._ciphers = {key_id(each): AESGCM(each) for each in (*([key] if key is not None else []), *others)}
        ids = tuple(self._ciphers)
        #: What the side-store has to know of the keys.
        self.ring = Ring(sha256(",".join(sorted(ids)).encode()).hexdigest()[:8], ids)

    def seal(self, body: bytes, context: str) -> bytes:
        """Nonce and ciphertext of a body."""
        nonce = os.urandom(NONCE_SIZE)
        return nonce + self._ciphers[self.key].encrypt(nonce, body, context.encode())

    def unseal(self, sealed: bytes, context: str, key: str = "") -> tuple[str, bytes]:
        """The id of the key that opens it, and the body again. Raises NotUnsealed.

        ``key``: id of the key that it is sealed with, if that is known.
        """
        if key and key not in self._ciphers:
            raise NotUnsealed(f"it is encrypted with key {key}, which this gateway does not have", damaged=False)
        if not self._ciphers:
            raise NotUnsealed("it is encrypted, and this gateway has no encryption key", damaged=False)
        for id_ in [key] if key else self._ciphers:
            try:
                return id_, self._ciphers[id_].decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], context.encode())
            except (InvalidTag, ValueError):  # ValueError: it is too short to have a nonce
                continue
        if key:
            raise NotUnsealed(f"it is not what key {key} has encrypted for this message", damaged=True)
        raise NotUnsealed("none of the encryption keys of this gateway opens it", damaged=True)


def read_seal(key: str | None, others: Sequence[str]) -> Seal:
    """The seal from the configured form of its keys. Raises ValueError, with no piece of a key in its text."""
    named = [("key", key)] if key else []
    named += [(f"other_keys, number {number}", text) for number, text in enumerate(others, 1)]
    seen: dict[bytes, str] = {}
    for name, text in named:
        read = read_key(text, name)
        if read in seen:
            raise ValueError(f"[encryption] {name} is the same key as {seen[read]}")
        seen[read] = name
    keys = list(seen)
    return Seal(keys[0], keys[1:]) if key else Seal(None, keys)


def read_key(text: str, name: str = "key") -> bytes:
    """A key from its configured form; ``name``: of the option. Raises ValueError."""
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"[encryption] {name} is not base64: {error}") from error
    except ValueError as error:
        raise ValueError(f"[encryption] {name} is not base64: it has characters beyond ASCII") from error
    if len(key) != KEY_SIZE:
        raise ValueError(f"[encryption] {name} has {len(key)} bytes, not {KEY_SIZE}")
    return key
