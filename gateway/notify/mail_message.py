"""Mails as they are sent (RFC 5322): headers by hand, as the standard library breaks long ids and addresses apart."""

from __future__ import annotations

import base64
import quopri
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime, formataddr, getaddresses, parseaddr
from typing import Any

import idna

from gateway.config.mail import SENDER_ADDRESS, MailSettings, Template

#: Bytes of a line of text without its end (RFC 5322, 2.1.1).
LONGEST_LINE = 998

#: Characters of a header that stays on one line, its name included.
SHORT_HEADER = 900

#: Characters of a name before an address that stays on one line.
LONGEST_NAME = 200

_PLACE = re.compile(r"\{([012])\}")
_PLAIN = re.compile(rb"[\t\n\x20-\x7e]*\Z")


@dataclass(frozen=True, slots=True)
class Mail:
    """``sender``: the address that errors go back to. ``headers``: besides those of the body; lines may be folded."""

    sender: str
    recipients: tuple[str, ...]
    text: str
    headers: tuple[tuple[str, str], ...] = field(default=())

    @property
    def is_international(self) -> bool:
        """Does it take a server with SMTPUTF8 (RFC 6531)?"""
        return not all(map(str.isascii, (self.sender, *self.recipients)))

    def data(self, line_end: bytes = b"\r\n") -> bytes:
        """The whole mail, whose lines end with ``line_end``."""
        coding, body = _encoded_body(self.text)
        lines = [f"{name}: {value}" for name, value in self.headers]
        charset = "us-ascii" if self.text.isascii() else "utf-8"
        lines += [
            "MIME-Version: 1.0",
            f'Content-Type: text/plain; charset="{charset}"',
            f"Content-Transfer-Encoding: {coding}",
        ]
        data = "\n".join(lines).encode() + b"\n\n" + body
        return data.replace(b"\n", line_end)


def _encoded_body(text: str) -> tuple[str, bytes]:
    """The text's transfer encoding, and the text in it: as it is where that is possible, as scripts may read it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    data = text.encode()
    data += b"" if data.endswith(b"\n") else b"\n"
    if _PLAIN.match(data) and max(map(len, data.split(b"\n"))) <= LONGEST_LINE:
        return "7bit", data
    quoted, encoded = quopri.encodestring(data), base64.encodebytes(data)
    if len(quoted) <= len(encoded):
        return "quoted-printable", quoted
    return "base64", encoded


def text_header(name: str, value: str) -> tuple[str, str]:
    """A header for people: encoded (RFC 2047) if it is long, or not ASCII, or looks as if it were encoded."""
    if value.isascii() and value.isprintable() and "=?" not in value and len(name) + len(value) < SHORT_HEADER:
        return name, value
    return name, Header(value, "utf-8", maxlinelen=75, header_name=name).encode()


def addresses_of(text: str) -> list[tuple[str, str]]:
    """Names and addresses in what a client gives as sender; nothing if there is anything else."""
    found = getaddresses([text]) if text else []
    return found if all(SENDER_ADDRESS.match(address) for _, address in found) else []


def shown_address(name: str, address: str) -> str:
    """An address with a name for people."""
    if not name:
        return address
    if not name.isascii() or "=?" in name or len(name) > LONGEST_NAME:
        return f"{Header(name, 'utf-8', maxlinelen=75).encode()} <{address}>"
    return formataddr((name, address))


def ascii_domain(address: str) -> str:
    """An address whose domain is written as DNS has it (IDNA 2008). Raises ValueError if that can't be."""
    local, _, domain = address.rpartition("@")
    return address if domain.isascii() else f"{local}@{idna.encode(domain.lower()).decode()}"


def recipients_of(addresses: Iterable[str], done: Collection[str]) -> tuple[str, ...]:
    """The addresses of a subscriber as they are mailed to, but for those that have got a mail; each once.

    Raises ValueError for a domain that can't be written as DNS has it.
    """
    return tuple(dict.fromkeys(found for found in map(ascii_domain, addresses) if found not in done))


class MailMaker:
    """Makes mails as the operator's settings say."""

    def __init__(self, settings: MailSettings):
        self._settings = settings
        self._sender = parseaddr(settings.default_sender)

    def notification(
        self, recipients: tuple[str, ...], subject: str | None, options: Mapping[str, Any], text: str, id_: str,
        at: int, unsubscribe: str = "",
    ) -> Mail:
        """``subject``: of the subscriber's URI, which wins over that of the options. ``text``: the body.

        ``id_``: the part of Message-ID before the @. ``at``: when it is sent, in ms. ``unsubscribe``: URL that ends
        the subscription, empty if there is none.
        """
        sender, senders = self._senders(options.get("from") or "")
        if subject is None:
            subject = options.get("subject") or ""
        more = _unsubscribing(unsubscribe)
        return self._mail(sender, recipients, senders, subject, text, id_, at, more)

    def from_template(
        self, template: Template, recipients: tuple[str, ...], values: tuple[str, str, str], id_: str, at: int
    ) -> Mail:
        """``values``: the queue, the project, the link."""
        given = addresses_of(template.sender)
        sender = given[0] if len(given) == 1 else self._sender
        topic, text = (
            _PLACE.sub(lambda place: values[int(place[1])], part) for part in (template.topic, template.body)
        )
        return self._mail(sender[1], recipients, [("From", shown_address(*sender))], topic, text, id_, at)

    def _senders(self, given: str) -> tuple[str, list[tuple[str, str]]]:
        """The address that errors go back to, and the headers that say who has sent a mail."""
        own, domains = ("From", shown_address(*self._sender)), self._settings.domains
        senders = addresses_of(given)
        if not senders:
            return self._sender[1], [own]
        shown = ",\n ".join(shown_address(*sender) for sender in senders)
        is_allowed = domains is None or all(
            address.rpartition("@")[2].lower() in domains for _, address in senders
        )
        if len(senders) > 1 or not is_allowed:
            return self._sender[1], [own, ("Reply-To", shown)]
        return self._sender[1] if self._settings.sender else senders[0][1], [("From", shown)]

    def _mail(
        self, sender: str, recipients: tuple[str, ...], senders: list[tuple[str, str]], subject: str, text: str,
        id_: str, at: int, more: tuple[tuple[str, str], ...] = (),
    ) -> Mail:
        headers = (
            *senders,
            ("To", ",\n ".join(recipients)),
            text_header("Subject", subject),
            ("Date", format_datetime(datetime.fromtimestamp(at // 1000, UTC))),
            ("Message-ID", f"<{id_}@{self._settings.origin}>"),
            ("Auto-Submitted", "auto-generated"),  # RFC 3834, 5
            *more,
        )
        return Mail(sender, recipients, text, headers)


def _unsubscribing(url: str) -> tuple[tuple[str, str], ...]:
    """RFC 2369, 3.2; over https also RFC 8058, whose one click is a POST without a page."""
    if not url or len(url) > SHORT_HEADER:
        return ()
    header = ("List-Unsubscribe", f"<{url}>")
    return (header, ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")) if url.startswith("https:") else (header,)
