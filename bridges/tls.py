"""The options ``tls_*`` of the ``[bridge]`` section, checked when a driver is made."""

from __future__ import annotations

import ssl
from typing import Any

from bridges.errors import BridgeMisconfigured


def tls_options(options: Any) -> dict[str, Any]:
    """TLS settings by the names of Python's ssl module: cert_reqs, ca_certs, certfile, keyfile.

    Raises BridgeMisconfigured for a file that can't be used.
    """
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
