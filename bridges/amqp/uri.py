"""From ``[bridge]`` options to the parts that py-amqp connects with. Nothing else reads the URI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from kombu import Connection

from bridges.addresses import Address, decoded, read_address
from bridges.errors import BridgeMisconfigured

#: Ports by scheme.
PORTS = {"amqp": 5672, "amqps": 5671}

#: Defaults of RabbitMQ and its clients.
GUEST = "guest"

#: Maximum length of a virtual host's name, in bytes: it is an AMQP short string.
MAX_VHOST = 255

#: SASL mechanisms: user and password, or the TLS certificate.
PLAIN, EXTERNAL = "PLAIN", "EXTERNAL"

#: Error texts quote nothing from the URI, because the malformed part may be the password.
FORM = "[bridge] uri: write amqp://user:password@host:5672/vhost, or amqps://"
MALFORMED = "[bridge] uri: an address is not host[:port]; in user and password write : / @ as %3A %2F %40"
BAD_HOST = "[bridge] hosts: a name or port is not as in host[:port], host[:port]"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and as whom."""

    brokers: tuple[Address, ...]
    user: str
    password: str = field(repr=False)
    vhost: str
    tls: bool

    def __str__(self) -> str:
        """Without user and password, for logs and `marconi check`."""
        hosts = ",".join(str(broker) for broker in self.brokers)
        return f"{'amqps' if self.tls else 'amqp'}://{hosts}/{quote(self.vhost, safe='')}"


def read_uri(uri: str, hosts: Sequence[str] = ()) -> Target:
    """What a URI says.

    It may name several brokers (``amqp://user:pass@a:5672,b:5672/vhost``); ``hosts`` adds more, as host[:port]. A path
    that is missing or ``/`` means the virtual host ``/``.
    """
    scheme, separator, rest = uri.partition("://")
    if scheme not in PORTS or not separator or not rest.isprintable():
        raise BridgeMisconfigured(FORM)
    if "?" in rest or "#" in rest:
        raise BridgeMisconfigured(
            "[bridge] uri: no query is understood here, use the options of [bridge] instead; in user, password and"
            " virtual host write ? # as %3F %23"
        )
    authority, _, path = rest.partition("/")
    credentials, at, addresses = authority.rpartition("@")
    if not addresses:
        raise BridgeMisconfigured(FORM)
    if "@" in path:  # more likely a password with a slash than a virtual host with an @
        raise BridgeMisconfigured(f"{MALFORMED}, and in the virtual host @ as %40")
    user, password = _credentials(credentials) if at else (GUEST, GUEST)
    vhost = decoded(path, "the virtual host") or "/"
    if len(vhost.encode()) > MAX_VHOST or "\0" in vhost:
        raise BridgeMisconfigured(f"[bridge] uri: the virtual host is not a name of at most {MAX_VHOST} bytes")
    brokers = [read_address(text, PORTS[scheme], MALFORMED) for text in addresses.split(",")]
    brokers += [read_address(text, PORTS[scheme], BAD_HOST) for text in hosts]
    return Target(tuple(brokers), user, password, vhost, scheme == "amqps")


def _credentials(text: str) -> tuple[str, str]:
    user, _, password = text.partition(":")
    if not user:
        raise BridgeMisconfigured("[bridge] uri: there is no user in front of the : or @; leave out both, or write one")
    pair = decoded(user, "the user"), decoded(password, "the password")
    if any("\0" in part for part in pair):
        raise BridgeMisconfigured("[bridge] uri: user and password can't have a %00 in them")
    return pair


def connection(target: Target, broker: Address, options: Any, tls: dict[str, Any] | None) -> Connection:
    """A kombu connection to one broker, not open yet.

    What has to arrive as it is goes past kombu as an option of the transport: kombu parses what it takes for a URI,
    and puts its defaults for what is empty.
    """
    return Connection(
        transport="pyamqp",
        # Without a name there is no check of it; for None kombu would put one.
        ssl=tls if not tls or options.tls_insecure else {**tls, "server_hostname": broker.host},
        connect_timeout=options.timeout,
        heartbeat=options.heartbeat,
        transport_options={
            # Without brackets: py-amqp takes what follows the last colon for the port, and knows no zone in brackets.
            "host": f"{broker.host}:{broker.port}",
            "userid": target.user, "password": target.password, "virtual_host": target.vhost,
            "login_method": options.login_method, "client_properties": {"connection_name": "marconi"},
        },
    )


def check_login(options: Any, target: Target) -> None:
    """Raises BridgeMisconfigured when the login by certificate lacks something."""
    if options.login_method != EXTERNAL:
        return
    if not target.tls:
        raise BridgeMisconfigured("[bridge] login_method = EXTERNAL: [bridge] uri must begin with amqps://")
    if not options.tls_cert_file:
        raise BridgeMisconfigured("[bridge] login_method = EXTERNAL: tls_cert_file is not set")
