"""What every call needs: who calls, for which project, as which client."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Request

from gateway.access.auth.base import MAX_PROJECT, AuthStrategy, Identity, project_header
from gateway.access.policy import ADMIN, Policy
from gateway.access.rate_limit import RateLimit
from gateway.access.signing import covers
from gateway.core.core import Core
from gateway.core.errors import Forbidden, InvalidInput, NotFound
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.metadata import QUEUE_NAME
from gateway.environ import CALLER, base_of
from gateway.web import body
from gateway.web.errors import NotAcceptable, UnsupportedCoding

T = TypeVar("T")

#: Characters of a header or query string that is worth remembering what it says; what is longer would fill the memory.
MAX_REMEMBERED = 256

#: Usual spellings of a UUID: with dashes or without, in braces or as a URN (RFC 9562, section 4).
_UUID = re.compile(
    r"(?:urn:uuid:)?\{?(?:[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\}?\Z", re.I
)

#: What an Accept header may say to get JSON. The home document has a type of its own, which is JSON too.
_JSON_RANGES = frozenset({"application/json", "application/json-home", "application/*", "*/*", "*"})

#: Printable ASCII; a comma would be two headers folded into one.
_PROJECT = re.compile(r"[\x20-\x2b\x2d-\x7e]+\Z")

JSON = "application/json"
JSON_HOME = "application/json-home"
FORM = "application/x-www-form-urlencoded"

QUEUE_TITLE = "Invalid queue identification"


@dataclass(frozen=True, slots=True)
class Service:
    """What the handlers work with; made once."""

    core: Core
    auth: AuthStrategy
    policy: Policy
    signing_key: str | None
    admin_mode: bool
    enable_checksum: bool
    client_id_uuid_safe: bool
    client_id_length: tuple[int, int]
    request_rate: RateLimit | None
    byte_rate: RateLimit | None


@dataclass(slots=True)
class Call:
    """One request, admitted."""

    service: Service
    request: Request
    project: str
    client: str
    identity: Identity

    @property
    def core(self) -> Core:
        """The core that answers."""
        return self.service.core

    def allows(self, rule: str) -> bool:
        """Does the policy let the caller do what a rule is for?"""
        return self.service.policy.allows(rule, self.identity, self.project)

    @property
    def args(self) -> MultiDict[str, str]:
        """What the query string says; not to be changed, as other calls with the same one share it."""
        text = self.request.environ.get("QUERY_STRING", "")
        return (_args if len(text) <= MAX_REMEMBERED else parse_args)(text)

    def body(self) -> bytes:
        """The request's body as it came."""
        coding = self.request.environ.get("HTTP_CONTENT_ENCODING")
        data = self.request.get_data(cache=False)
        if coding is not None and data:
            _check_coding(coding)
        if data and self.request.mimetype == FORM:
            raise InvalidInput(f"Send JSON with Content-Type: {JSON}", "Invalid Content-Type")
        return data

    def document(self) -> dict[str, Any]:
        """The body as a JSON object; empty without a body."""
        return body.parse_optional_object(self.body())

    def on_queue(self, name: str, work: Callable[[QueueInfo], T], *, sure: bool = False) -> T | None:
        """What ``work`` comes to on a queue, None if there is no such queue; see Directory.on."""
        return self.core.directory.on(self.project, name, work, sure=sure)


def _check_coding(coding: str) -> None:
    if any(word.strip(" \t") not in ("identity", "") for word in coding.lower().split(",")):
        raise UnsupportedCoding("Send the body as it is, without Content-Encoding: this service inflates none")


def check_queue_name(name: str) -> None:
    """Raises InvalidInput for what can't be the name of a queue."""
    if not QUEUE_NAME.match(name):
        raise InvalidInput("A queue's name is 1 to 64 characters of A-Z a-z 0-9 _ - ., and not . or ..", QUEUE_TITLE)


def admit(service: Service, request: Request, rule: str | None) -> Call:
    """Check what holds for every request, in the order that clients count on.

    Accept, credentials, project, client, the policy's ``rule`` if there is one, and last the project's rate.
    """
    environ = request.environ
    accept = environ.get("HTTP_ACCEPT")
    if accept is not None and not (_accepts_json if len(accept) <= MAX_REMEMBERED else accepts_json)(accept):
        raise NotAcceptable(f"Only {JSON} is served")
    if "HTTP_URL_SIGNATURE" in environ:
        identity = Identity(_signed_project(service, environ))
        rule = None  # what it covers was allowed to who signed it
    else:
        identity = service.auth.identify(environ)
    environ[CALLER] = identity, project_header(environ) or identity.project
    project = _project(service, environ, identity)
    call = Call(service, request, project, _client(service, environ), identity)
    if rule is not None and not call.allows(rule):
        raise Forbidden(f"Your roles don't allow this ({rule})")
    if service.request_rate is not None:
        service.request_rate.take(call.project)
    return call


def _project(service: Service, environ: dict[str, Any], identity: Identity) -> str:
    header = project_header(environ)
    if not header:
        if not identity.project:
            raise InvalidInput("The X-Project-ID header is missing or empty", "Project-Id Missing")
        return identity.project
    usable = len(header) <= MAX_PROJECT and _PROJECT.match(header)
    if header != identity.project and not (usable and service.policy.allows(ADMIN, identity, header)):
        raise Forbidden("X-Project-ID names another project than yours")
    if not usable:
        raise InvalidInput(f"A project id is 1 to {MAX_PROJECT} printable ASCII characters, no commas", QUEUE_TITLE)
    return header


def _client(service: Service, environ: dict[str, Any]) -> str:
    text = environ.get("HTTP_CLIENT_ID", "")
    if not service.client_id_uuid_safe:
        lowest, highest = service.client_id_length
        if not lowest <= len(text) <= highest or not text.isprintable():
            raise InvalidInput(f"The Client-ID header must be {lowest} to {highest} characters long")
        return text
    client = client_id(text) if len(text) <= MAX_REMEMBERED else None
    if client is None:
        raise InvalidInput("The Client-ID header must be a UUID" if text else "The Client-ID header is missing")
    return client


def parse_args(text: str) -> MultiDict[str, str]:
    """A query string, as werkzeug reads it."""
    return Request({"QUERY_STRING": text}, populate_request=False).args


_args = lru_cache(maxsize=4096)(parse_args)


@lru_cache(maxsize=4096)
def client_id(text: str) -> str | None:
    """A UUID in its usual spelling, whatever spelling it came in; None for what is none."""
    return str(UUID(text)) if _UUID.match(text) else None


def accepts_json(accept: str) -> bool:
    """Does an Accept header admit JSON (RFC 9110, 12.5.1)?"""
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        refused = any(re.fullmatch(r"q\s*=\s*0(\.0*)?", parameter) for parameter in parameters)
        if kind in _JSON_RANGES and not refused:
            return True
    return not accept.strip()


_accepts_json = lru_cache(maxsize=1024)(accepts_json)


def _signed_project(service: Service, environ: dict[str, Any]) -> str:
    """The project that a pre-signed request is for. Raises NotFound for every fault, so that nothing can be guessed."""
    project = environ.get("HTTP_X_PROJECT_ID", "")
    if service.signing_key is None or not covers(
        service.signing_key,
        environ["HTTP_URL_SIGNATURE"],
        environ.get("HTTP_URL_PATHS", "").split(","),
        environ.get("HTTP_URL_METHODS", "").split(","),
        project,
        environ.get("HTTP_URL_EXPIRES", ""),
        environ["REQUEST_METHOD"],
        environ["PATH_INFO"],
        base_of(environ),
    ):
        raise NotFound("There is nothing here for this signature")
    return project
