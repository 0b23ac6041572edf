"""From ``[bridge]`` options to the parts that py-amqp connects with. Nothing else reads the URI."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from kombu import Connection

from bridges.errors import BridgeMisconfigured

#: Ports by scheme.
PORTS = {"amqp": 5672, "amqps": 5671}

#: What RabbitMQ and its clients take if nobody says anything.
GUEST = "guest"

#: Longest name of a virtual host, in bytes: an AMQP short string.
MAX_VHOST = 255

#: SASL mechanisms: user and password, or the TLS certificate.
PLAIN, EXTERNAL = "PLAIN", "EXTERNAL"

#: Not a word of the URI itself in any complaint: what is malformed may be the password.
FORM = "[bridge] uri: write amqp://user:password@host:5672/vhost, or amqps://"
MALFORMED = "[bridge] uri: an address is not host[:port]; in user and password write : / @ as %3A %2F %40"
BAD_HOST = "[bridge] hosts: a name or port is not as in host[:port], host[:port]"

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\s\[\]:;,/?#@%$\\\"'<>{}|^`]+))(?::(?P<port>[0-9]{1,5}))?")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Address:
    """One broker of the cluster."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


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
    vhost = _decoded(path, "the virtual host") or "/"
    if len(vhost.encode()) > MAX_VHOST or "\0" in vhost:
        raise BridgeMisconfigured(f"[bridge] uri: the virtual host is not a name of at most {MAX_VHOST} bytes")
    brokers = [_address(text, PORTS[scheme], MALFORMED) for text in addresses.split(",")]
    brokers += [_address(text, PORTS[scheme], BAD_HOST) for text in hosts]
    return Target(tuple(brokers), user, password, vhost, scheme == "amqps")


def _credentials(text: str) -> tuple[str, str]:
    user, _, password = text.partition(":")
    if not user:
        raise BridgeMisconfigured("[bridge] uri: there is no user in front of the : or @; leave out both, or write one")
    pair = _decoded(user, "the user"), _decoded(password, "the password")
    if any("\0" in part for part in pair):
        raise BridgeMisconfigured("[bridge] uri: user and password can't have a %00 in them")
    return pair


def _decoded(text: str, what: str) -> str:
    if _ESCAPE.search(text):
        raise BridgeMisconfigured(f"[bridge] uri: {what} has a % without two hex digits after it: write % as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BridgeMisconfigured(f"[bridge] uri: {what} is not UTF-8 where it is escaped by %") from None


def _address(text: str, port: int, complaint: str) -> Address:
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


def tls_options(options: Any) -> dict[str, Any]:
    """TLS settings for py-amqp, but for the broker's name. Raises BridgeMisconfigured for a file that can't be used."""
    tls: dict[str, Any] = {"cert_reqs": ssl.CERT_NONE if options.tls_insecure else ssl.CERT_REQUIRED}
    for key, option in (("ca_certs", "tls_ca_file"), ("certfile", "tls_cert_file"), ("keyfile", "tls_key_file")):
        if file := getattr(options, option):
            try:
                open(file, "rb").close()
            except OSError as error:  # later it would not be said which file it is
                raise BridgeMisconfigured(f"[bridge] {option}: {error}") from error
            tls[key] = file
    if "keyfile" in tls and "certfile" not in tls:
        raise BridgeMisconfigured("[bridge] tls_key_file is of no use without tls_cert_file")
    _load(tls)
    return tls


def _load(tls: dict[str, Any]) -> None:
    """Raises BridgeMisconfigured for files that are no certificates or keys, or don't belong together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def no_passphrase() -> str:  # OpenSSL would ask on the terminal, and wait
        raise BridgeMisconfigured("[bridge] tls_key_file has a passphrase: give the gateway a key without one")

    if "ca_certs" in tls:
        try:
            context.load_verify_locations(tls["ca_certs"])
        except OSError as error:
            raise BridgeMisconfigured(f"[bridge] tls_ca_file {tls['ca_certs']}: no PEM certificate: {error}") from error
    if "certfile" in tls:
        try:
            context.load_cert_chain(tls["certfile"], tls.get("keyfile"), no_passphrase)
        except OSError as error:
            raise BridgeMisconfigured(
                f"[bridge] tls_cert_file {tls['certfile']} and tls_key_file {tls.get('keyfile', 'none')} are no PEM"
                f" certificate with its key: {error}"
            ) from error


def check_login(options: Any, target: Target) -> None:
    """Raises BridgeMisconfigured when the login by certificate lacks something."""
    if options.login_method != EXTERNAL:
        return
    if not target.tls:
        raise BridgeMisconfigured("[bridge] login_method = EXTERNAL: [bridge] uri must begin with amqps://")
    if not options.tls_cert_file:
        raise BridgeMisconfigured("[bridge] login_method = EXTERNAL: tls_cert_file is not set")
