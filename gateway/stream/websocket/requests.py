"""A request over WebSocket, from its frame to the frame of its answer. The order of the checks is Zaqar's."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.access.auth.base import Identity, Unauthenticated
from gateway.access.signing import covers
from gateway.core.errors import Forbidden
from gateway.environ import CALLER
from gateway.observe.logs import REQUEST_ID, new_request_id
from gateway.stream.websocket.actions import ACTIONS
from gateway.stream.websocket.actions.action import Action, Answer, Asked
from gateway.stream.websocket.actions.fields import Unusable, check, string
from gateway.stream.websocket.authentication import AUTHENTICATE, authenticate
from gateway.stream.websocket.frames import decode, encode
from gateway.stream.websocket.session import Session
from gateway.web.admission import check_client, check_project, check_queue_name
from gateway.web.context import Service
from gateway.web.errors import answer
from gateway.web.serving import Serving
from gateway.web.version import V2

LOG = logging.getLogger(__name__)

#: What metrics and the audit log have in place of a path.
ROUTE = "/v2/websocket"

#: What metrics have in place of a method where there is no such action.
OTHER = "OTHER"

#: Headers of every request but ``authenticate``.
HEADERS = (string("Client-ID", required=True), string("X-Project-ID", required=True))

SIGNATURE = "URL-Signature"


@dataclass(slots=True)
class _Request:
    """A request as far as it is known: what its answer repeats, and what is recorded of it."""

    document: Any = None
    action: str | None = None
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, Any] | None = None
    environ: dict[str, Any] | None = None
    audited: str | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """As an answer repeats it; without the token of an authentication."""
        if self.action == AUTHENTICATE:
            return {"action": AUTHENTICATE, "body": {}, "headers": {}, "api": "v2"}
        return {"action": self.action, "body": self.body, "headers": self.headers, "api": "v2"}


class Requests:
    """Answers the requests of all connections. Its method blocks."""

    def __init__(self, service: Service, serving: Serving):
        self._service = service
        self._serving = serving

    def serve(self, session: Session, frame: bytes, is_binary: bool) -> bytes:
        """The frame of the answer to a frame of the connection of ``session``. Raises nothing."""
        start = time.perf_counter()
        request_id = new_request_id()
        token = REQUEST_ID.set(request_id)
        request = _Request()
        headers: Mapping[str, Any] = {}
        try:
            failure = None
            try:
                status, body = self._answer(session, request, frame, is_binary)
                sent = _encoded(request, status, {}, body, is_binary)
            except Exception as error:
                failure = error
            if failure is not None:  # not inside the except: oslo.log would append the error to each line once more
                status, body, headers = _refusal(failure)
                sent = _encoded(request, status, headers, body, is_binary)
            action = request.action if request.action in ACTIONS or request.action == AUTHENTICATE else OTHER
            environ = request.environ or {"REQUEST_METHOD": "GET"}
            self._serving.note(environ, str(action), ROUTE, status, start, request_id, request.audited)
            return sent
        finally:
            REQUEST_ID.reset(token)

    def _answer(self, session: Session, request: _Request, frame: bytes, is_binary: bool) -> Answer:
        document = decode(frame, is_binary)
        if not isinstance(document, dict):
            raise Unusable("Unexpected body type. Expected dict")
        name = document.get("action")
        request.action = name if isinstance(name, str) else None
        request.body, request.headers = _part(document, "body"), _part(document, "headers")
        if name == AUTHENTICATE:
            return self._authenticate(session, request)
        action = ACTIONS.get(name) if isinstance(name, str) else None
        if action is None:
            raise Unusable(f"{name} is not a valid action")
        check(request.headers, HEADERS, "headers")
        action.check(request.body)
        return self._do(session, request, action, is_binary)

    def _authenticate(self, session: Session, request: _Request) -> Answer:
        headers = request.headers or {}
        request.environ = {
            "REQUEST_METHOD": "POST", "PATH_INFO": ROUTE, "REMOTE_ADDR": session.address,
            "HTTP_CLIENT_ID": headers.get("Client-ID"),
        }
        request.audited = AUTHENTICATE
        identity = authenticate(self._service, session, headers)
        request.environ[CALLER] = identity, identity.project
        return 200, {"message": "Authenticated."}

    def _do(self, session: Session, request: _Request, action: Action, is_binary: bool) -> Answer:
        service, body, headers = self._service, request.body or {}, request.headers or {}
        said = headers["X-Project-ID"].strip(" \t")
        request.environ = environ = {
            "REQUEST_METHOD": action.operation.method, "PATH_INFO": action.path(body), "REMOTE_ADDR": session.address,
            "HTTP_CLIENT_ID": headers["Client-ID"], "HTTP_X_PROJECT_ID": said,
        }
        request.audited = action.operation.rule or action.name
        is_signed = SIGNATURE in headers
        if is_signed:
            environ["HTTP_URL_SIGNATURE"] = ""
            self._check_signature(session, action, environ["PATH_INFO"], headers)
            identity = Identity(said)
        else:
            identity = self._identify(session, environ, headers)
        environ[CALLER] = identity, said or identity.project
        try:
            project = check_project(service, said, identity)
        except Forbidden as error:
            raise NotAllowed(error.description) from error
        asked = Asked(
            service, project, check_client(service, headers["Client-ID"], V2), identity, body, headers, session,
            is_binary,
        )
        if not is_signed and not action.is_allowed(service, asked):
            raise Forbidden(f"Your roles don't allow this ({action.operation.rule})")
        if service.request_rate is not None:
            service.request_rate.take(project)
        if "queue_name" in body and isinstance(body["queue_name"], str):
            check_queue_name(body["queue_name"])
        return action.run(asked)

    def _identify(self, session: Session, environ: Mapping[str, Any], headers: Mapping[str, Any]) -> Identity:
        """Who is calling: the credentials are looked at again for each request, as over HTTP."""
        known = session.credentials
        if known is None and self._service.auth.is_needed:
            raise NotAllowed("Not authenticated: the first request of a connection must be authenticate")
        roles = headers.get("X-Roles")
        try:
            return self._service.auth.identify({
                "REQUEST_METHOD": environ["REQUEST_METHOD"], "PATH_INFO": ROUTE,
                "HTTP_X_PROJECT_ID": environ["HTTP_X_PROJECT_ID"],
                "HTTP_X_ROLES": roles if isinstance(roles, str) else "", **(known or {}),
            })
        except Unauthenticated as error:
            raise NotAllowed(f"Not authenticated any more: {error}") from error

    def _check_signature(self, session: Session, action: Action, path: str, headers: Mapping[str, Any]) -> None:
        """Raises NotAllowed unless a signature covers the call that the action is like."""
        key = self._service.signing_key
        paths, methods = headers.get("URL-Paths"), headers.get("URL-Methods")
        signature, expires = headers[SIGNATURE], headers.get("URL-Expires")
        if not (
            key is not None and action.is_signable and _are_strings(paths) and _are_strings(methods)
            and isinstance(signature, str) and isinstance(expires, str)
            and covers(
                key, signature, paths or [], methods or [], headers["X-Project-ID"], expires,
                action.operation.method, path, session.base,
            )
        ):
            raise NotAllowed("Not authenticated: the signature does not hold for this request")


class NotAllowed(Exception):
    """Nobody has authenticated whom this request could be from; the text is for the client."""


def _refusal(error: Exception) -> tuple[int, Any, Mapping[str, Any]]:
    """Status, body and headers of an answer for any error: those of the API over HTTP, in Zaqar's forms."""
    if isinstance(error, Unusable):
        return 400, {"error": str(error)}, {}
    if isinstance(error, NotAllowed):
        return 403, {"error": str(error)}, {}
    status, document, headers = answer(error)
    if isinstance(error, Unauthenticated):
        return status, {"error": document["description"]}, {}
    return status, {
        "exception": document["description"], "error": f"{document['title']}: {document['description']}",
    }, headers


def _encoded(request: _Request, status: int, headers: Mapping[str, Any], body: Any, is_binary: bool) -> bytes:
    return encode({"request": request.shown, "headers": {"status": status, **headers}, "body": body}, is_binary)


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The body or the headers of a request; empty without. Raises Unusable."""
    part = document.get(name)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise Unusable(f"{name!r} must be an object")
    return part


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
