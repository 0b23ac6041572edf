"""Subscribers: the URIs of those who get notifications, checked and taken apart.

Names are not resolved here. Only hosts that are literal addresses are judged; all else is judged when it is connected
to, by the address that the system's resolver finds: it reads ``0``, ``127.1`` and ``0x7f.1`` as loopback, and no parser
of ours would agree with it in every case.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, unquote_to_bytes

import idna

from gateway.core.queues.metadata import QUEUE_NAME
from gateway.core.subscriptions.addresses import Rules

#: Every kind of subscriber. The gateway itself makes those of ``websocket:``, for its connections.
TYPES = ("http", "https", "mailto", "trust+http", "trust+https", "marconi", "websocket")

#: What begins the schemes of subscribers that get a Keystone token.
TRUST = "trust+"

PORTS = {"http": 80, "https": 443}

#: Characters of a subscriber.
MAX_LENGTH = 8192

#: Characters of a host name and of one of its labels (RFC 1035, 2.3.4), and of a mail address (RFC 5321, 4.5.3.1.3).
MAX_HOST = 253
MAX_LABEL = 63
MAX_MAIL_ADDRESS = 254

#: Mail addresses of one subscriber.
MAX_RECIPIENTS = 20

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)\Z", re.DOTALL)
_AUTHORITY = re.compile(r"//([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?\Z", re.DOTALL)
_HOST = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]*))?\Z", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_-]+\Z")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAIL_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\\\"]+@[^\s@,;:<>()\[\]\\\"]+\Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

#: What may stay as it is in a path and a query (RFC 3986, 3.3 and 3.4); all else is percent-encoded as UTF-8.
_PATH = "/!$&'()*+,;=:@%~"
_QUERY = _PATH + "?"


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscriber, taken apart. Which fields are set depends on ``scheme``; the others are empty.

    ``scheme``: http, https, mailto, marconi or websocket; with ``trust``, deliveries carry a token of Keystone.
    http and https: ``url`` is what to request, with neither fragment nor trust, its host as DNS has it; ``host``
    (IPv6 without brackets) and ``port`` are whom to connect to. mailto: ``recipients``, and ``subject`` if the URI has
    one. marconi: ``queue``, a queue of the same project. websocket: ``connection``, a UUID.
    """

    scheme: str
    trust: bool = False
    url: str = ""
    host: str = ""
    port: int = 0
    recipients: tuple[str, ...] = ()
    subject: str | None = None
    queue: str = ""
    connection: str = ""

    @property
    def type(self) -> str:
        """One of TYPES."""
        return TRUST + self.scheme if self.trust else self.scheme

    @property
    def is_http(self) -> bool:
        """Is it reached by HTTP, with or without TLS?"""
        return self.scheme in PORTS


def parse(text: object, types: Collection[str] = TYPES, rules: Rules | None = None) -> Subscriber:
    """The subscriber of a URI. ``types``: those of TYPES that are supported; ``rules`` judge literal addresses.

    Raises ValueError with a sentence for the client.
    """
    if not isinstance(text, str) or not text:
        raise ValueError("The subscriber must be a URI")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"The subscriber is too long: {len(text)} characters, at most {MAX_LENGTH} are allowed")
    if _UNPRINTABLE.search(text) or "\\" in text:
        raise ValueError("The subscriber must not contain blanks, control characters or backslashes")
    match = _SCHEME.match(text)
    type_ = match[1].lower() if match else ""
    if match is None or type_ not in types or type_ not in TYPES:
        raise ValueError(
            f"The type of the subscriber must be supported in the list {', '.join(sorted(types))}"
        )
    rest = match[2]
    if type_ == "mailto":
        return _mail(rest)
    if type_ == "marconi":
        if not QUEUE_NAME.match(rest):
            raise ValueError("A subscriber marconi:<queue> must name a queue: 1 to 64 characters of A-Z a-z 0-9 _ - .")
        return Subscriber("marconi", queue=rest)
    if type_ == "websocket":
        if not _UUID.match(rest):
            raise ValueError("A subscriber websocket:<id> must have a UUID")
        return Subscriber("websocket", connection=rest)
    return _http(type_.removeprefix(TRUST), type_.startswith(TRUST), rest, rules)


def _http(scheme: str, trust: bool, rest: str, rules: Rules | None) -> Subscriber:
    match = _AUTHORITY.match(rest)
    if match is None or not match[1]:
        raise ValueError(f"A subscriber of type {scheme} must have a host: {scheme}://<host>")
    authority, path, query = match[1], match[2] or "/", match[3] or ""
    if "@" in authority:
        raise ValueError("The subscriber must not contain a user or a password; use the option post_headers")
    parts = _HOST.match(authority)
    if parts is None:
        raise ValueError("The subscriber's host or port is malformed")
    port = _port(parts["port"], scheme)
    host = _host(parts["name"]) if parts["six"] is None else _ipv6(parts["six"])
    if rules is not None and _is_literal(host):
        verdict = rules.judge(host, port, trust, plain=scheme == "http")
        if not verdict.allowed:
            raise ValueError(f"The subscriber's address is refused: {verdict.reason}")
    shown = f"[{host}]" if ":" in host else host
    place = shown if port == PORTS[scheme] else f"{shown}:{port}"
    url = f"{scheme}://{place}{quote(path, safe=_PATH)}{quote(query, safe=_QUERY)}"
    return Subscriber(scheme, trust, url, host, port)


def _port(digits: str | None, scheme: str) -> int:
    if not digits:
        return PORTS[scheme]
    if len(digits) > 5 or not 0 < int(digits) < 65536:
        raise ValueError("The subscriber's port must be from 1 to 65535")
    return int(digits)


def _host(name: str) -> str:
    """A host name as DNS has it: in lower case, other letters than ASCII's encoded by IDNA 2008 (RFC 5891)."""
    labels = name.removesuffix(".").split(".")
    encoded = ".".join(map(_label, labels))
    if len(encoded) > MAX_HOST:
        raise ValueError(f"The subscriber's host is longer than {MAX_HOST} characters")
    return encoded


def _label(label: str) -> str:
    if not 0 < len(label) <= MAX_LABEL:
        raise ValueError(f"The parts of the subscriber's host must have 1 to {MAX_LABEL} characters")
    if label.isascii():
        if not _LABEL.match(label):
            raise ValueError("The subscriber's host may only contain letters, digits, '-', '_' and '.'")
        return label.lower()
    try:
        return idna.alabel(label.lower()).decode()
    except ValueError as error:  # idna.IDNAError is one
        raise ValueError(f"The subscriber's host is not a name by IDNA 2008: {error}") from error


def _ipv6(text: str) -> str:
    if "%" in text:
        raise ValueError("The subscriber's address must not have a zone")
    try:
        return str(IPv6Address(text))
    except ValueError as error:
        raise ValueError("The subscriber's host in brackets must be an IPv6 address") from error


def _is_literal(host: str) -> bool:
    """Is it an address in its canonical form?"""
    if ":" in host:
        return True
    try:
        return str(IPv4Address(host)) == host
    except ValueError:
        return False


def _mail(rest: str) -> Subscriber:
    """RFC 6068. Of its header fields only the subject counts: cc, bcc and body would send others' mail to strangers."""
    to, _, query = rest.partition("#")[0].partition("?")
    recipients = tuple(_decoded(address) for address in to.split(","))
    if len(recipients) > MAX_RECIPIENTS:
        raise ValueError(f"The subscriber has more than {MAX_RECIPIENTS} mail addresses")
    for address in recipients:
        if not _MAIL_ADDRESS.match(address) or _CONTROL.search(address) or len(address) > MAX_MAIL_ADDRESS:
            raise ValueError("A subscriber of type mailto must have mail addresses: mailto:<name>@<domain>")
    fields = (field.partition("=") for field in query.split("&"))
    subject = next((_decoded(value) for name, _, value in fields if name.lower() == "subject"), None)
    if subject is not None and _CONTROL.search(subject):
        raise ValueError("The subject of the subscriber must not contain control characters")
    return Subscriber("mailto", recipients=recipients, subject=subject)


def _decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise ValueError("The subscriber's percent-encoding is not UTF-8") from error
