"""Signatures of deliveries by Standard Webhooks (version 1, symmetric), which receivers check with its libraries.

The signature covers the id, the time of the attempt and the body; so each attempt is signed again.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from functools import lru_cache

from gateway.core.subscriptions import webhook_secrets

#: The key of a secret; so many are remembered, as each delivery needs one.
decode = lru_cache(4096)(webhook_secrets.decode)


def headers(id_: str, timestamp: int, body: bytes, secrets: Iterable[str]) -> list[tuple[str, str]]:
    """The headers ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``.

    ``id_`` has no dot (see formats.webhook_id); ``timestamp`` is in seconds since the epoch, ``body`` as it is sent.
    ``secrets``: the valid ones, newest first, each of which signs; without any there is no signature. Raises ValueError
    if one is malformed.
    """
    signed = f"{id_}.{timestamp}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.digest(decode(secret), signed, "sha256")).decode() for secret in secrets
    ]
    found = [("webhook-id", id_), ("webhook-timestamp", str(timestamp))]
    return [*found, ("webhook-signature", " ".join(signatures))] if signatures else found
