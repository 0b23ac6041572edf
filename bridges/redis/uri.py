"""What a URI of the Redis bridge says. Nothing else reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridges.addresses import Address, decoded, read_address
from bridges.errors import BridgeMisconfigured

#: Ports of Redis and of Sentinel.
PORT, SENTINEL_PORT = 6379, 26379

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+unix")

#: Not a word of the URI itself in any complaint: what is malformed may be the password.
FORM = (
    "[bridge] uri: write redis://user:password@host:6379/0, rediss:// for TLS, redis+sentinel://host:26379,host/service/0"
    " or redis+unix:///path/of/socket?db=0"
)
MALFORMED = "[bridge] uri: an address is not host[:port]; in user and password write : / @ as %3A %2F %40"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and as whom. ``user`` and ``password`` are None where none is given.

    ``servers``: the Redis server, or Sentinels that know it by the name ``service``; none with a socket at ``path``.
    """

    servers: tuple[Address, ...] = ()
    service: str | None = None
    path: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: bool = False

    def __str__(self) -> str:
        """Without user and password, for logs and `marconi check`."""
        if self.path is not None:
            return f"redis+unix://{self.path}?db={self.db}"
        scheme = ("rediss" if self.tls else "redis") + ("+sentinel" if self.service else "")
        hosts = ",".join(str(server) for server in self.servers)
        return f"{scheme}://{hosts}/{f'{self.service}/' if self.service else ''}{self.db}"


def read_uri(uri: str) -> Target:
    """What a URI says. Raises BridgeMisconfigured."""
    scheme, separator, rest = uri.partition("://")
    if scheme not in SCHEMES or not separator or not rest.isprintable() or "#" in rest:
        raise BridgeMisconfigured(FORM)
    if scheme == "redis+unix":
        return _socket(rest)
    if "?" in rest:
        raise BridgeMisconfigured(
            "[bridge] uri: no query is understood here, use the options of [bridge] instead; in user and password write"
            " ? as %3F"
        )
    authority, _, path = rest.partition("/")
    credentials, at, addresses = authority.rpartition("@")
    if not addresses:
        raise BridgeMisconfigured(FORM)
    if "@" in path:  # more likely a password with a slash than a name with an @
        raise BridgeMisconfigured(MALFORMED)
    user, password = _credentials(credentials) if at else (None, None)
    tls = scheme.startswith("rediss")
    if not scheme.endswith("+sentinel"):
        if "," in addresses:
            raise BridgeMisconfigured("[bridge] uri: name one server; several are for redis+sentinel://")
        server = read_address(addresses, PORT, MALFORMED)
        return Target((server,), None, None, user, password, _number(path), tls)
    service, _, number = path.partition("/")
    service = decoded(service, "the service")
    if not service:
        raise BridgeMisconfigured(
            "[bridge] uri: after the Sentinels write /service, the name by which they know the master"
        )
    sentinels = tuple(read_address(text, SENTINEL_PORT, MALFORMED) for text in addresses.split(","))
    return Target(sentinels, service, None, user, password, _number(number), tls)


def _socket(rest: str) -> Target:
    """Of ``[[user]:password@]/path[?db=number]``."""
    address, question, query = rest.partition("?")
    credentials, at, path = address.rpartition("@")
    user, password = _credentials(credentials) if at else (None, None)
    path = decoded(path, "the path")
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise BridgeMisconfigured("[bridge] uri: redis+unix:// needs the absolute path of a socket, with three slashes")
    name, _, number = query.partition("=")
    if question and name != "db":
        raise BridgeMisconfigured(
            "[bridge] uri: of a query only ?db=number is understood here; in user, password and path write ? as %3F"
        )
    return Target((), None, path, user, password, _number(number), False)


def _credentials(text: str) -> tuple[str | None, str | None]:
    """User and password; either may be missing."""
    user, colon, password = text.partition(":")
    return decoded(user, "the user") or None, decoded(password, "the password") if colon else None


def _number(text: str) -> int:
    """The number of the database, 0 where there is none."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise BridgeMisconfigured("[bridge] uri: the database is not a number, such as 0")
    return int(text)
