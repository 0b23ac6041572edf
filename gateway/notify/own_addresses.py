"""The gateway's own sockets, its brokers and its side-stores: no notification goes there by accident."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from urllib.parse import unquote

from gateway.config.address import UNIX

#: Ports of URIs that name none, by scheme.
PORTS = {
    "amqp": 5672, "amqps": 5671, "mongodb": 27017, "redis": 6379, "rediss": 6379, "redis+sentinel": 26379,
    "rediss+sentinel": 26379,
}

#: One of the URIs in an option, up to its path. Several are separated by semicolons.
_URI = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#;]*)", re.IGNORECASE)
_HOST = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::([0-9]+))?\Z", re.ASCII)

#: Addresses that stand for all of the machine's.
WILDCARDS = ("0.0.0.0", "::", "")  # nosec B104  # compared, not listened on


def own_addresses(uris: Iterable[str], sockets: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Addresses and ports of what the URIs name, and of the gateway's sockets. Asks the resolver, so it may block.

    A name that can't be resolved now is left out: what it leads to is most likely on a network that is refused anyway.
    """
    places = [place for uri in uris for place in _places(uri)]
    for host, port in sockets:
        if not host.startswith(UNIX):
            names = ("localhost", socket.gethostname()) if host in WILDCARDS else (host,)
            places += [(name, port) for name in names]
    found: dict[tuple[str, int], None] = {}
    for host, port in places:
        with suppress(OSError, UnicodeError):
            for _, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found[str(address[0]), port] = None
    return list(found)


def _places(uri: str) -> Iterator[tuple[str, int]]:
    """Hosts and ports in a URI, several of which may be separated by commas."""
    for scheme, authority in _URI.findall(uri):
        for part in authority.rpartition("@")[2].split(","):
            match = _HOST.match(unquote(part))
            port = PORTS.get(scheme.lower()) if match is None or match[3] is None else int(match[3])
            host = match[1] or match[2] if match else ""
            if host and port:
                yield host, port
