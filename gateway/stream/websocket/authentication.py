"""The action ``authenticate``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from gateway.access.auth.base import Identity
from gateway.stream.websocket.actions.fields import Unusable, check, string
from gateway.stream.websocket.session import Session
from gateway.web.context import Service

AUTHENTICATE = "authenticate"

HEADERS = (
    string("X-Project-ID", required=True), string("X-Auth-Token"), string("Authorization"), string("Client-ID")
)

#: Headers that credentials are in, and how the WSGI environment has them.
CREDENTIALS = {"X-Auth-Token": "HTTP_X_AUTH_TOKEN", "Authorization": "HTTP_AUTHORIZATION"}


def authenticate(service: Service, session: Session, headers: Mapping[str, Any]) -> Identity:
    """Find out who is calling. The session has the new credentials then; if they are wrong it keeps those before.

    Without an authentication strategy anybody is let in. Raises Unusable, Unauthenticated, IdentityUnavailable, Busy.
    """
    check(headers, HEADERS, "headers")
    given = {name: headers[header] for header, name in CREDENTIALS.items() if headers.get(header) is not None}
    if not given:
        raise Unusable("'X-Auth-Token' is a required property of the headers")
    # A user whose password came with the handshake may say again that it is so, as python-zaqarclient does.
    credentials = {**(session.credentials or {}), **given}
    identity = service.auth.identify({
        "REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_PROJECT_ID": headers["X-Project-ID"], **credentials,
    })
    session.credentials = credentials
    session.expires = identity.expires
    return identity


def in_time(session: Session) -> float:
    """Seconds until the credentials end."""
    return max(0.0, session.expires - time.time())
