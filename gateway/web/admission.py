"""Who calls, for which project, as which client, and whether that is allowed."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from uuid import UUID

from werkzeug.wrappers import Request

from gateway.access.auth.base import MAX_PROJECT, Identity, project_header
from gateway.access.policy import ADMIN
from gateway.access.signing import covers, read_expiry
from gateway.core.errors import Forbidden, InvalidInput, NotFound
from gateway.core.queues.metadata import QUEUE_NAME
from gateway.core.queues.names import NAMELESS_PROJECT
from gateway.environ import CALLER, SIGNED, base_of
from gateway.web.accept import accepted
from gateway.web.call import FEED, JSON, MAX_CACHED, Call
from gateway.web.context import Service
from gateway.web.errors import NotAcceptable
from gateway.web.operations import CLIENT, PROJECT, Operation
from gateway.web.signed_query import read_signed_query
from gateway.web.version import Version

#: Usual spellings of a UUID: with dashes or without, in braces or as a URN (RFC 9562, section 4).
_UUID = re.compile(
    r"(?:urn:uuid:)?\{?(?:[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\}?\Z", re.I
)

#: Printable ASCII; a comma would be two headers folded into one.
_PROJECT = re.compile(r"[\x20-\x2b\x2d-\x7e]+\Z")

QUEUE_TITLE = "Invalid queue identification"
TOPIC_TITLE = "Invalid topic identification"


def check_queue_name(name: str) -> None:
    """Raises InvalidInput for what can't be the name of a queue."""
    if not QUEUE_NAME.match(name):
        raise InvalidInput("A queue's name is 1 to 64 characters of A-Z a-z 0-9 _ - ., and not . or ..", QUEUE_TITLE)


def check_topic_name(name: str) -> None:
    """Raises InvalidInput for what can't be the name of a topic."""
    if not QUEUE_NAME.match(name):
        raise InvalidInput("A topic's name is 1 to 64 characters of A-Z a-z 0-9 _ - ., and not . or ..", TOPIC_TITLE)


def admit(service: Service, request: Request, operation: Operation) -> Call:
    """Check what holds for every request, in the order that clients count on.

    Accept, credentials, project, client, the policy's rule if the operation has one, and last the project's rate.
    Raises CoreError, Unauthenticated, IdentityUnavailable.
    """
    environ = request.environ
    accept = environ.get("HTTP_ACCEPT")
    is_feed = False
    if accept is not None:
        admitted = accepted(accept)
        is_feed = admitted.feed and operation.feed is not None
        if is_feed and admitted.both:
            raise InvalidInput(f"Accept names both {JSON}, a page, and {FEED}, a live feed; name one of them")
        if not (admitted.json or is_feed):
            raise NotAcceptable(f"Only {JSON} is served")
    if operation.feed is not None:
        read_signed_query(environ)
    rule = None if operation.default_rule is None else operation.name
    version = operation.version
    if "HTTP_URL_SIGNATURE" in environ and version.signable:
        environ[SIGNED] = True
        identity = _signer(service, environ, operation)
        rule = None  # the signer was allowed what the signature covers
    else:
        identity = service.auth.identify(environ)
    header = project_header(environ)
    environ[CALLER] = identity, header or identity.project
    project = ""
    if PROJECT in operation.needs:
        is_nameless = version.nameless and "HTTP_X_PROJECT_ID" not in environ and _is_anybody(identity)
        project = NAMELESS_PROJECT if is_nameless else check_project(service, header, identity)
    client = ""
    if CLIENT in operation.needs or (version.uuids_only and "HTTP_CLIENT_ID" in environ):
        client = check_client(service, environ.get("HTTP_CLIENT_ID", ""), version)
    call = Call(service, project, client, identity, request, version, is_feed and request.method != "HEAD")
    binds = version.rules_for_anybody or identity.user is not None
    if rule is not None and binds and not call.allows(rule):
        raise Forbidden(f"Your roles don't allow this ({rule})")
    if service.request_rate is not None:
        service.request_rate.take(call.project)
    return call


def _is_anybody(identity: Identity) -> bool:
    """Has nobody authenticated, nor said a project? A user without a project must not get at what others left there."""
    return identity.user is None and not identity.project


def check_project(service: Service, header: str, identity: Identity) -> str:
    """The project that a caller means by X-Project-ID. Raises Forbidden, InvalidInput, IdentityUnavailable."""
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


def check_client(service: Service, text: str, version: Version) -> str:
    """The client that a Client-ID names. Raises InvalidInput."""
    if not service.client_id_uuid_safe and not version.uuids_only:
        lowest, highest = service.client_id_length
        if not lowest <= len(text) <= highest or not text.isprintable():
            raise InvalidInput(f"The Client-ID header must be {lowest} to {highest} characters long")
        return text
    client = client_id(text) if len(text) <= MAX_CACHED else None
    if client is None:
        raise InvalidInput("The Client-ID header must be a UUID" if text else "The Client-ID header is missing")
    return client


@lru_cache(maxsize=4096)
def client_id(text: str) -> str | None:
    """A UUID in its usual spelling, from any spelling; None for other texts."""
    return str(UUID(text)) if _UUID.match(text) else None


def _signer(service: Service, environ: dict[str, Any], operation: Operation) -> Identity:
    """Who has pre-signed a request: a project. Raises NotFound for every fault, so that nothing can be guessed."""
    project = environ.get("HTTP_X_PROJECT_ID", "")
    if service.signing_key is None or not operation.shareable or not covers(
        service.signing_key,
        environ["HTTP_URL_SIGNATURE"],
        environ.get("HTTP_URL_PATHS", "").split(","),
        environ.get("HTTP_URL_METHODS", "").split(","),
        project,
        expires := environ.get("HTTP_URL_EXPIRES", ""),
        environ["REQUEST_METHOD"],
        environ["PATH_INFO"],
        base_of(environ),
    ):
        raise NotFound("There is nothing here for this signature")
    return Identity(project, expires=read_expiry(expires).timestamp())
