"""TLS to MongoDB, from the options of its URI (MongoDB's specification "URI Options")."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext | None:
    """What the options ask for, as pymongo's parse_uri found them; None without TLS. Raises OSError for bad files."""
    if not options.get("tls"):
        return None
    insecure = options.get("tlsInsecure", False)
    context = ssl.create_default_context(cafile=options.get("tlsCAFile"))
    if insecure or options.get("tlsAllowInvalidCertificates") or options.get("tlsAllowInvalidHostnames"):
        context.check_hostname = False
    if insecure or options.get("tlsAllowInvalidCertificates"):
        context.verify_mode = ssl.CERT_NONE
    if pair := options.get("tlsCertificateKeyFile"):
        context.load_cert_chain(pair, password=options.get("tlsCertificateKeyFilePassword"))
    if revoked := options.get("tlsCRLFile"):
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.load_verify_locations(revoked)
    return context
