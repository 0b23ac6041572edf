"""From ``[bridge]`` options to what kombu connects with."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from bridges.errors import BridgeMisconfigured

#: kombu's names for the two transports; both are py-amqp.
TRANSPORTS = {"amqp": "pyamqp", "amqps": "amqps"}

#: Not a word of the URI itself: what is malformed may be the password.
MALFORMED = "[bridge] uri: an address is not host[:port]; in user and password write : / @ as %3A %2F %40"


def broker_uris(uri: str, hosts: list[str]) -> list[str]:
    """One kombu URI for each broker of the cluster.

    ``uri`` may name several brokers (``amqp://user:pass@a:5672,b:5672/vhost``); ``hosts`` adds more, as host[:port].
    A path that is missing or ``/`` means the default vhost.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise BridgeMisconfigured(MALFORMED) from error
    if parts.scheme not in TRANSPORTS or not parts.netloc:
        raise BridgeMisconfigured("[bridge] uri: write amqp://user:password@host:5672/vhost, or amqps://")
    if parts.query or parts.fragment:
        raise BridgeMisconfigured("[bridge] uri: no query is understood here, use the options of [bridge] instead")
    credentials, at, addresses = parts.netloc.rpartition("@")
    vhost = parts.path if len(parts.path) > 1 else "/%2F"
    uris = []
    for address in [*addresses.split(","), *hosts]:
        own = f"{TRANSPORTS[parts.scheme]}://{credentials}{at}{address.strip()}{vhost}"
        try:
            host, _ = urlsplit(own).hostname, urlsplit(own).port
        except ValueError as error:
            raise BridgeMisconfigured(MALFORMED) from error
        if not host or set(address) & set("/?#@"):
            raise BridgeMisconfigured(MALFORMED)
        uris.append(own)
    return uris


def tls_options(options: Any) -> dict[str, Any]:
    """TLS settings for kombu: the broker's certificate is checked against its name unless that is switched off.

    Raises BridgeMisconfigured for a file that can't be read.
    """
    tls: dict[str, Any] = {
        "cert_reqs": ssl.CERT_NONE if options.tls_insecure else ssl.CERT_REQUIRED,
        # kombu puts the host name here; without a name there is no check of it.
        "server_hostname": None,
    }
    if options.tls_insecure:
        del tls["server_hostname"]
    for key, option in (("ca_certs", "tls_ca_file"), ("certfile", "tls_cert_file"), ("keyfile", "tls_key_file")):
        if file := getattr(options, option):
            try:
                open(file, "rb").close()
            except OSError as error:  # later it would not be said which file it is
                raise BridgeMisconfigured(f"[bridge] {option}: {error}") from error
            tls[key] = file
    return tls
