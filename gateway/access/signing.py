"""Pre-signed requests: the right to some methods on some paths of one queue, till a certain time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlencode

#: No part may have one: between the parts stand a backslash and an n, and other parts would have the same signature.
SEPARATOR = "\\"

#: Form of the expiry in the signed text.
EXPIRES = "%Y-%m-%dT%H:%M:%S"


def sign(key: str, paths: Iterable[str], methods: Iterable[str], project: str, expires: str) -> str:
    """The signature: hex HMAC-SHA256 over the four parts, joined by a backslash and an n as existing clients do."""
    text = rf"{','.join(sorted(paths))}\n{','.join(sorted(methods))}\n{project}\n{expires}"
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def covers(
    key: str, signature: str, paths: list[str], methods: list[str], project: str, expires: str, method: str, path: str,
    base: str = "",
) -> bool:
    """Does the signature hold, and cover this method and path now? A path covers itself and what is below it.

    ``base``: where links begin. A signature says the path with it; without it too, if it is older than the base.
    """
    if any(SEPARATOR in part for part in (*paths, *methods, project, expires)):
        return False
    right = hmac.compare_digest(sign(key, paths, methods, project, expires).encode(), signature.encode())
    try:
        until = read_expiry(expires)
    except ValueError:
        return False
    covered = any(p and f"{place}/".startswith(f"{p}/") for p in paths for place in (base + path, path))
    return right and datetime.now(UTC) < until and method in methods and covered


def read_expiry(text: str) -> datetime:
    """The time till which a signature holds, in UTC. Raises ValueError."""
    return datetime.strptime(text, EXPIRES).replace(tzinfo=UTC)


def signed_url(
    path: str, project: str, paths: Iterable[str], methods: Iterable[str], expires: str, signature: str
) -> str:
    """A path with all that opens it in its query; see gateway.web.signed_query. Callers add a ``client_id``."""
    return f"{path}?" + urlencode({
        "url_signature": signature, "url_expires": expires, "url_methods": ",".join(methods),
        "url_paths": ",".join(paths), "project_id": project,
    })
