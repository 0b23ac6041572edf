"""Authentication at MongoDB: by SCRAM, or by the certificate of the TLS connection.

Source: MongoDB's specification "Driver Authentication".
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.saslprep import saslprep
from scramp import ScramClient, ScramException

#: Sends a command and returns its answer.
Command = Callable[[Mapping[str, Any]], Mapping[str, Any]]

SHA_256 = "SCRAM-SHA-256"
SHA_1 = "SCRAM-SHA-1"
X509 = "MONGODB-X509"

#: How many rounds of the hash function a server may ask for. Fewer are weak, and more take a second of CPU time.
ROUNDS = range(4096, 1_000_000)


class Refused(Exception):
    """The server does not accept the credentials, or has not proved that it knows the password."""


class UnknownMechanism(Exception):
    """Only the driver can authenticate like this."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and its password. ``mechanism`` is None for the best that the server has for the user."""

    user: str
    password: str
    source: str
    mechanism: str | None

    @classmethod
    def from_uri(cls, uri: Mapping[str, Any]) -> Credentials | None:
        """Those in what pymongo's parse_uri returns; None without any. Raises UnknownMechanism."""
        options = uri["options"]
        mechanism = options.get("authMechanism")
        if mechanism not in (None, X509, SHA_256, SHA_1):
            raise UnknownMechanism(f"the direct way does not know the mechanism {mechanism}")
        if mechanism != X509 and uri["username"] is None:
            return None
        user = uri["username"] or ""
        if mechanism != X509 and not _is_prepared(user):
            raise UnknownMechanism("the name of the user has characters that SCRAM would replace")
        source = options.get("authSource") or uri["database"] or "admin"
        return cls(user, uri["password"] or "", source, mechanism)

    def prove(self, command: Command, offered: list[str]) -> None:
        """Authenticate a connection. ``offered``: the user's mechanisms in the answer to hello. Raises Refused."""
        if self.mechanism == X509:
            _ask(command, {"authenticate": 1, "mechanism": X509, "$db": "$external"})
            return
        mechanism = self.mechanism or (SHA_256 if SHA_256 in offered else SHA_1)
        try:
            self._scram(command, mechanism)
        except ScramException as error:
            raise Refused(f"{mechanism}: {error}") from error

    @property
    def name(self) -> str:
        """The user, as hello wants it to name the mechanisms."""
        return f"{self.source}.{self.user}"

    def _scram(self, command: Command, mechanism: str) -> None:
        nonce = base64.b64encode(secrets.token_bytes(24)).decode()
        client = ScramClient([mechanism], self.user, self._secret(mechanism), c_nonce=nonce)
        answer = _ask(command, {
            "saslStart": 1, "mechanism": mechanism, "payload": client.get_client_first().encode(), "autoAuthorize": 1,
            "options": {"skipEmptyExchange": True}, "$db": self.source,
        })
        client.set_server_first(bytes(answer["payload"]).decode())
        if int(client.iterations) not in ROUNDS:
            raise Refused(f"the server wants {client.iterations} rounds")
        answer = _ask(command, {
            "saslContinue": 1, "conversationId": answer["conversationId"],
            "payload": client.get_client_final().encode(), "$db": self.source,
        })
        client.set_server_final(bytes(answer["payload"]).decode())
        if not answer.get("done"):
            raise Refused("the server does not end the conversation")

    def _secret(self, mechanism: str) -> str:
        if mechanism == SHA_1:  # MongoDB's older way to keep passwords
            return hashlib.md5(  # noqa: S324  # nosec B324
                f"{self.user}:mongo:{self.password}".encode()
            ).hexdigest()
        return self.password


def _is_prepared(user: str) -> bool:
    """SCRAM prepares the names of users (RFC 4013); MongoDB does not."""
    try:
        return saslprep(user) == user
    except ValueError:
        return False


def _ask(command: Command, document: Mapping[str, Any]) -> Mapping[str, Any]:
    answer = command(document)
    if answer.get("ok") != 1:
        raise Refused(str(answer.get("errmsg")))
    return answer
