"""What the URIs of several drivers have in common: addresses of brokers, and what is percent-encoded."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote

from bridges.errors import BridgeMisconfigured

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\s\[\]:;,/?#@%$\\\"'<>{}|^`]+))(?::(?P<port>[0-9]{1,5}))?")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Address:
    """One broker of the cluster."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def decoded(text: str, what: str) -> str:
    """``text`` without its percent-encoding; ``what`` it is, for the complaint. Raises BridgeMisconfigured."""
    if _ESCAPE.search(text):
        raise BridgeMisconfigured(f"[bridge] uri: {what} has a % without two hex digits after it: write % as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BridgeMisconfigured(f"[bridge] uri: {what} is not UTF-8 where it is escaped by %") from None


def read_address(text: str, port: int, complaint: str) -> Address:
    """A host[:port]; ``port`` if it names none. Raises BridgeMisconfigured with the ``complaint``."""
    found = _ADDRESS.fullmatch(text.strip())
    if found is None:
        raise BridgeMisconfigured(complaint)
    number = int(found["port"]) if found["port"] else port
    try:
        host = str(ipaddress.IPv6Address(unquote(found["ipv6"]))) if found["ipv6"] else found["name"]
        if found["name"]:
            host.encode("idna")  # as the resolver will, whose complaint would come with each call
    except ValueError:
        raise BridgeMisconfigured(complaint) from None
    if not 0 < number < 2**16:
        raise BridgeMisconfigured(complaint)
    return Address(host, number)
