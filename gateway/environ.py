"""What rooms of the gateway leave for each other in the WSGI environment of a request."""

from __future__ import annotations

import re
from typing import Any

#: Where links begin: what comes before ``/v2``. Missing when that is the host's root.
BASE = "marconi.base"

#: The caller (an Identity) and the project, once they are known.
CALLER = "marconi.caller"

#: Set if a signature was to stand in for credentials, whether it did or not.
SIGNED = "marconi.signed"

#: Set while the server is about to stop.
DRAINING = "marconi.draining"

#: Suspends the request: see gateway.server.connection.ClientConnection.suspend. Missing with other WSGI servers.
SUSPEND = "marconi.suspend"

#: Hands the connection over: see gateway.server.connection.ClientConnection.hand_over. Missing with other WSGI servers.
HAND_OVER = "marconi.hand_over"

#: What makes the answer to a request that was suspended and is resumed: see gateway.web.waiting.Places.
RESUMED = "marconi.resumed"

#: Headers that are added to any answer to the request, as a list of pairs; missing if there are none.
ADDED_HEADERS = "marconi.added_headers"

#: Set once the connection is to be handed over: the application gives no answer.
HANDED_OVER = "marconi.handed_over"

_AUTHORITY = re.compile(r"[a-z][a-z0-9+.-]*://[^/?]*", re.I)


def base_of(environ: dict[str, Any]) -> str:
    """What comes before ``/v2`` in links."""
    return str(environ.get(BASE, ""))


def raw_path(environ: dict[str, Any]) -> str | None:
    """The path as the client or the proxy sent it; None if the WSGI server does not say."""
    uri: str | None = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    if not uri:
        return None
    if not uri.startswith("/"):
        uri = _AUTHORITY.sub("", uri, count=1) or "/"
    return uri.partition("?")[0]


def sent_path(environ: dict[str, Any]) -> str:
    """The path for logs."""
    raw = raw_path(environ)
    return str(environ.get("PATH_INFO", "")) if raw is None else raw
