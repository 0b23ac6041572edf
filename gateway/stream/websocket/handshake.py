"""The handshake of WebSocket (RFC 6455, 4.2): who may connect, and where the connection goes then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.http11 import Request
from websockets.server import ServerProtocol

from gateway.access.auth.base import AuthStrategy
from gateway.core.errors import Forbidden
from gateway.environ import DRAINING, HAND_OVER, raw_path
from gateway.observe.logs import REQUEST_ID, new_request_id
from gateway.stream.websocket.authentication import CREDENTIALS
from gateway.stream.websocket.connection import LIBRARY_LOG
from gateway.stream.websocket.hub import Hub
from gateway.stream.websocket.requests import ROUTE
from gateway.stream.websocket.session import Session
from gateway.web.errors import Unready, answer, json_error
from gateway.web.serving import GUARDS, REQUEST_ID_HEADER, Serving

#: Headers that the handshake is made of, as the WSGI environment has them.
_ASKED = {
    "Connection": "HTTP_CONNECTION", "Upgrade": "HTTP_UPGRADE", "Sec-WebSocket-Key": "HTTP_SEC_WEBSOCKET_KEY",
    "Sec-WebSocket-Version": "HTTP_SEC_WEBSOCKET_VERSION",
}

#: What the library says before its reason.
_FAILED = "Failed to open a WebSocket connection: "

Answer = tuple[int, bytes, dict[str, str]]


class Door:
    """A WSGI application that hands over connections to the hub, if their requests ask for that and may.

    ``prefix``: where links begin. ``paths``: those of WebSocket, None for all; ``otherwise`` answers those that are not
    among them. No extension is agreed on, so nothing is compressed.
    """

    def __init__(
        self, hub: Hub, auth: AuthStrategy, serving: Serving, prefix: str = "", paths: frozenset[str] | None = None,
        otherwise: Callable[..., Iterable[bytes]] | None = None,
    ):
        self._hub = hub
        self._auth = auth
        self._serving = serving
        self._base = prefix.rstrip("/")
        self._paths = paths
        self._otherwise = otherwise

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._otherwise is not None and not self._is_here(environ):
            return self._otherwise(environ, start_response)
        request_id = new_request_id()
        token = REQUEST_ID.set(request_id)
        try:
            refusal = self._open(environ, request_id)
        finally:
            REQUEST_ID.reset(token)
        if refusal is None:
            return ()
        status, body, headers = refusal
        start_response(f"{status} {HTTPStatus(status).phrase.upper()}", [
            *GUARDS, (REQUEST_ID_HEADER, request_id), *headers.items(), ("Content-Length", str(len(body))),
        ])
        return (body,) if environ["REQUEST_METHOD"] != "HEAD" else ()

    def _is_here(self, environ: dict[str, Any]) -> bool:
        path = environ.get("PATH_INFO", "")
        return self._paths is None or (path in self._paths and raw_path(environ) in (path, None))

    def _open(self, environ: dict[str, Any], request_id: str) -> Answer | None:
        """Have the connection handed over; what to answer if that may not be."""
        start = time.perf_counter()
        status, failure = 101, None
        try:
            refusal = self._admit(environ, request_id)
        except Exception as error:
            failure = error
        if failure is not None:  # not inside the except: oslo.log would append the error to each line once more
            status, document, headers = answer(failure)
            body, media_type = json_error(document["title"], document["description"])
            refusal = status, body, {**headers, "Content-Type": media_type}
        elif refusal is not None:
            status = refusal[0]
        self._serving.note(environ, "GET", ROUTE, status, start, request_id, f"GET {ROUTE}")
        return refusal

    def _admit(self, environ: dict[str, Any], request_id: str) -> Answer | None:
        try:
            headers = Headers([(name, environ[key]) for name, key in _ASKED.items() if key in environ])
        except InvalidHandshake as error:
            return _refused(400, str(error), {})
        response = ServerProtocol(logger=LIBRARY_LOG).accept(Request(
            environ.get("PATH_INFO", "/"), headers, environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"]
        ))
        if response.status_code != 101:
            return _refused(response.status_code, response.body.decode().removeprefix(_FAILED), response.headers)
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and not (_host(origin) == environ.get("HTTP_HOST", "").lower() or (
            self._hub.settings.allows(origin)
        )):
            raise Forbidden("Pages of this origin may not connect; the operator can add it to [cors] allowed_origin")
        session = Session(base=self._base, address=environ.get("REMOTE_ADDR"))
        if "HTTP_AUTHORIZATION" in environ and self._auth.is_needed:
            session.credentials = {name: environ[name] for name in CREDENTIALS.values() if name in environ}
            session.expires = self._auth.identify(environ).expires
        if HAND_OVER not in environ:
            return _refused(501, "This server can't hand connections over: run `marconi serve` for WebSocket.", {})
        response.headers[REQUEST_ID_HEADER] = request_id
        hub, accepted = self._hub, response.serialize()
        if environ.get(DRAINING) or not hub.has_room or not environ[HAND_OVER](
            lambda sock, ahead, closed: hub.take(accepted, session, sock, ahead, closed)
        ):
            raise Unready("The gateway has no room for one more WebSocket connection now; try again.")
        return None


def _host(origin: str) -> str | None:
    """Host and port of an origin: what the header Host has if a page connects to where it is from."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _refused(status: int, text: str, headers: Any) -> Answer:
    """An answer that the API has no error for."""
    if status == 426:  # an application may not send the header Upgrade that goes with it
        status, text = 400, "This is a WebSocket (RFC 6455): send Connection: Upgrade and Upgrade: websocket"
    shown = {"Allow": headers["Allow"]} if "Allow" in headers else {}
    if status == 400:  # RFC 6455, 4.4
        shown["Sec-WebSocket-Version"] = "13"
    body, media_type = json_error(HTTPStatus(status).phrase, text.partition("\n")[0].strip())
    return status, body, {**shown, "Content-Type": media_type}
