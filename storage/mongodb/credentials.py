"""Proving to MongoDB who we are.

Sources: MongoDB's specification "Driver Authentication"; SCRAM is RFC 5802, with SHA-256 RFC 7677.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.saslprep import saslprep

#: Sends a command and returns its answer.
Command = Callable[[Mapping[str, Any]], Mapping[str, Any]]

#: Hash functions of the mechanisms with a password, the better one first.
SCRAM = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}

X509 = "MONGODB-X509"

#: Rounds of the hash function that a server may ask for: fewer are none, and more would keep us busy.
_ROUNDS = range(4096, 1_000_000)


class Refused(Exception):
    """The server does not believe us, or we don't believe the server."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are. ``mechanism`` is None for what the server has for the user."""

    user: str
    password: str
    source: str
    mechanism: str | None

    @classmethod
    def from_uri(cls, uri: Mapping[str, Any]) -> Credentials | None:
        """Of what pymongo's parse_uri found; None without any. Raises ValueError for a mechanism we don't know."""
        options = uri["options"]
        mechanism = options.get("authMechanism")
        if mechanism not in (None, X509, *SCRAM):
            raise ValueError(f"authentication by {mechanism}")
        if mechanism != X509 and uri["username"] is None:
            return None
        source = options.get("authSource") or uri["database"] or "admin"
        return cls(uri["username"] or "", uri["password"] or "", source, mechanism)

    def prove(self, command: Command, offered: list[str]) -> None:
        """Authenticate a connection. ``offered``: what its hello said of the user's mechanisms. Raises Refused."""
        if self.mechanism == X509:
            _ask(command, {"authenticate": 1, "mechanism": X509, "$db": "$external"})
            return
        mechanism = self.mechanism or next((name for name in SCRAM if name in offered), "SCRAM-SHA-1")
        self._scram(command, mechanism)

    @property
    def name(self) -> str:
        """The user, as hello wants it to name the mechanisms."""
        return f"{self.source}.{self.user}"

    def _scram(self, command: Command, mechanism: str) -> None:
        digest = SCRAM[mechanism]
        nonce = base64.b64encode(secrets.token_bytes(24)).decode()
        user = self.user.replace("=", "=3D").replace(",", "=2C")
        first = f"n={user},r={nonce}"
        answer = _ask(command, {
            "saslStart": 1, "mechanism": mechanism, "payload": f"n,,{first}".encode(), "autoAuthorize": 1,
            "options": {"skipEmptyExchange": True}, "$db": self.source,
        })
        server_first = bytes(answer["payload"]).decode()
        fields = _fields(server_first)
        rounds = int(fields["i"])
        if not fields["r"].startswith(nonce) or rounds not in _ROUNDS:
            raise Refused("the server does not keep to SCRAM")
        salted = hashlib.pbkdf2_hmac(digest, self._secret(digest), base64.b64decode(fields["s"]), rounds)
        last = f"c=biws,r={fields['r']}"
        signed = f"{first},{server_first},{last}".encode()
        key = _hmac(salted, b"Client Key", digest)
        signature = _hmac(hashlib.new(digest, key).digest(), signed, digest)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        answer = _ask(command, {
            "saslContinue": 1, "conversationId": answer["conversationId"], "payload": f"{last},p={proof}".encode(),
            "$db": self.source,
        })
        expected = _hmac(_hmac(salted, b"Server Key", digest), signed, digest)
        shown = base64.b64decode(_fields(bytes(answer["payload"]).decode()).get("v", ""))
        if not hmac.compare_digest(expected, shown) or not answer.get("done"):
            raise Refused("the server does not know the password itself")

    def _secret(self, digest: str) -> bytes:
        if digest == "sha1":  # MongoDB's older way to keep passwords
            return hashlib.md5(  # noqa: S324  # nosec B324
                f"{self.user}:mongo:{self.password}".encode()
            ).hexdigest().encode()
        return saslprep(self.password).encode()


def _ask(command: Command, document: Mapping[str, Any]) -> Mapping[str, Any]:
    answer = command(document)
    if answer.get("ok") != 1:
        raise Refused(str(answer.get("errmsg")))
    return answer


def _fields(message: str) -> dict[str, str]:
    """The fields of a SCRAM message: single letters and their values."""
    return {part[:1]: part[2:] for part in message.split(",")}


def _hmac(key: bytes, data: bytes, digest: str) -> bytes:
    return hmac.new(key, data, digest).digest()
