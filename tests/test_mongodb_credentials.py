"""Authentication at MongoDB, by the examples of the RFCs and of MongoDB's specification of drivers."""

import base64
import secrets
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote

import pytest
from pymongo.uri_parser import parse_uri

from storage.mongodb.direct.credentials import Credentials, Refused, UnknownMechanism


class Server:
    """Says its lines, and keeps what it was told."""

    def __init__(self, *lines: str, **more: Any):
        self.told: list[dict[str, Any]] = []
        self._lines = iter(lines)
        self._more = more

    def command(self, document: Mapping[str, Any]) -> dict[str, Any]:
        self.told.append(dict(document))
        return {"ok": 1.0, "conversationId": 1, "done": True, "payload": next(self._lines).encode(), **self._more}

    @property
    def payloads(self) -> list[str]:
        return [told["payload"].decode() for told in self.told]


def nonce(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(secrets, "token_bytes", lambda count: base64.b64decode(text))


def credentials(uri: str) -> Credentials | None:
    return Credentials.from_uri(parse_uri(uri))


# RFC 7677, section 3
SHA256_FIRST = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SHA256_LAST = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_scram_sha_256(monkeypatch: pytest.MonkeyPatch) -> None:
    nonce(monkeypatch, "rOprNGfwEbeRWgbNEkqO")
    server = Server(SHA256_FIRST, SHA256_LAST)
    Credentials("user", "pencil", "admin", None).prove(server.command, ["SCRAM-SHA-1", "SCRAM-SHA-256"])
    assert server.told[0]["mechanism"] == "SCRAM-SHA-256"
    assert server.payloads == [
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    ]


def test_scram_sha_1(monkeypatch: pytest.MonkeyPatch) -> None:
    # MongoDB specification "Driver Authentication", SCRAM-SHA-1
    nonce(monkeypatch, "fyko+d2lbbFgONRv9qkxdawL")
    server = Server(
        "r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,s=rQ9ZY3MntBeuP3E1TDVC4w==,i=10000",
        "v=UMWeI25JD1yNYZRMpZ4VHvhZ9e0=",
    )
    Credentials("user", "pencil", "db", None).prove(server.command, ["SCRAM-SHA-1"])
    assert server.payloads[1] == (
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,p=MC2T8BvbmWRckDw8oWl5IVghwCY="
    )
    assert {told["$db"] for told in server.told} == {"db"}


@pytest.mark.parametrize(("first", "last"), [
    (SHA256_FIRST, "v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
    (SHA256_FIRST, "e=other-error"),
    (SHA256_FIRST.replace("rOprNGf", "another"), SHA256_LAST),
    (SHA256_FIRST.replace("4096", "1"), SHA256_LAST),
    (SHA256_FIRST.replace("4096", "99999999"), SHA256_LAST),
])
def test_server_that_does_not_know_the_password_is_refused(
    monkeypatch: pytest.MonkeyPatch, first: str, last: str
) -> None:
    nonce(monkeypatch, "rOprNGfwEbeRWgbNEkqO")
    with pytest.raises(Refused):
        Credentials("user", "pencil", "admin", "SCRAM-SHA-256").prove(Server(first, last).command, [])


def test_conversation_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nonce(monkeypatch, "rOprNGfwEbeRWgbNEkqO")
    with pytest.raises(Refused):
        server = Server(SHA256_FIRST, SHA256_LAST, done=False)
        Credentials("user", "pencil", "admin", "SCRAM-SHA-256").prove(server.command, [])


def test_refusal_has_the_servers_reason() -> None:
    server = Server("", ok=0.0, errmsg="Authentication failed.")
    with pytest.raises(Refused, match="Authentication failed"):
        Credentials("user", "wrong", "admin", None).prove(server.command, [])


def test_x509_needs_no_password() -> None:
    server = Server("")
    found = credentials("mongodb://h/?authMechanism=MONGODB-X509&tls=true")
    assert found is not None
    found.prove(server.command, [])
    assert server.told == [{"authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external"}]


@pytest.mark.parametrize(("uri", "source"), [
    ("mongodb://u:p@h/", "admin"),
    ("mongodb://u:p@h/marconi", "marconi"),
    ("mongodb://u:p@h/marconi?authSource=users", "users"),
])
def test_source(uri: str, source: str) -> None:
    found = credentials(uri)
    assert found == Credentials("u", "p", source, None)
    assert found.name == f"{source}.u"


def test_without_a_user_nothing_is_proved() -> None:
    assert credentials("mongodb://h/marconi") is None


def test_unknown_mechanism_is_left_to_the_driver() -> None:
    with pytest.raises(UnknownMechanism, match="GSSAPI"):
        credentials("mongodb://u@h/?authMechanism=GSSAPI")


@pytest.mark.parametrize(("user", "known"), [("u", True), ("ü", True), ("ª", False), ("a\u00adb", False)])
def test_user_whose_name_scram_would_change_is_left_to_the_driver(user: str, known: bool) -> None:
    """MongoDB does not prepare the names of users, as RFC 5802 wants it."""
    with nullcontext() if known else pytest.raises(UnknownMechanism):
        credentials(f"mongodb://{quote(user)}:p@h/")


def test_names_are_escaped() -> None:
    server = Server("", ok=0.0)
    with pytest.raises(Refused):
        Credentials("a=b,c", "p", "admin", None).prove(server.command, [])
    assert server.payloads[0].startswith("n,,n=a=3Db=2Cc,r=")
