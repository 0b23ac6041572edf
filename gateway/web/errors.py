"""From exceptions to answers: one table, one shape."""

from __future__ import annotations

import logging

import orjson
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.exceptions import NotFound as NoSuchPath

from bridges.errors import (
    BridgeError,
    BrokerBlocked,
    BrokerRefused,
    LimitReached,
    MessageTooLarge,
    ObjectLocked,
    OutcomeUnknown,
    PublishBlocked,
    QueueFull,
    SourceUnreadable,
)
from gateway.access.auth.base import IdentityUnavailable, Unauthenticated
from gateway.core.errors import (
    Busy,
    Conflict,
    CoreError,
    Forbidden,
    InvalidInput,
    KeyReused,
    NotFound,
    QuotaExceeded,
    StillRunning,
    TooFast,
)
from gateway.web.operations import Answer
from storage.errors import StoreError

LOG = logging.getLogger(__name__)

#: Seconds after which a client is asked to try again when a dependency is down.
RETRY_AFTER = 2


class NotAcceptable(CoreError):
    """The client does not take JSON."""

    title = "Not acceptable"


class UnsupportedMediaType(CoreError):
    """The body is of a type that this call does not take."""

    title = "Unsupported media type"


class UnsupportedCoding(CoreError):
    """The body is compressed."""

    title = "Unsupported content coding"


class Unready(CoreError):
    """This gateway can't do its work now."""

    title = "Service unavailable"


#: Statuses by class of error; a class that is not here has that of the nearest one that it is made of.
STATUSES: dict[type[CoreError], int] = {
    InvalidInput: 400,
    Forbidden: 403,
    QuotaExceeded: 403,
    NotFound: 404,
    NotAcceptable: 406,
    Conflict: 409,
    StillRunning: 409,
    UnsupportedMediaType: 415,
    UnsupportedCoding: 415,
    KeyReused: 422,
    TooFast: 429,
    Busy: 503,
    Unready: 503,
}

#: Seconds after which a client is asked to try again when somebody has to change something first.
REFUSED_RETRY_AFTER = 60

#: Whatever a bridge raises: how the log calls it, what the client is told, and when to try again. The first that fits.
OF_BRIDGES: tuple[tuple[type[BridgeError], str, str, int], ...] = (
    (
        PublishBlocked, "publish",
        "The message broker is short of memory or disk and takes no messages now; these may have been enqueued or not.",
        RETRY_AFTER,
    ),
    (
        OutcomeUnknown, "publish",
        "The broker did not confirm the messages in time; they may have been enqueued or not.", RETRY_AFTER,
    ),
    (
        BrokerBlocked, "publish", "The message broker is short of memory or disk and takes no messages now.",
        RETRY_AFTER,
    ),
    (
        QueueFull, "publish",
        "The message broker did not take the messages: a queue that they go to is full; try again when it is not.",
        RETRY_AFTER,
    ),
    (
        LimitReached, "broker",
        "The message broker refuses this service what the call needs: a limit of queues or connections that is set"
        " there is reached.",
        REFUSED_RETRY_AFTER,
    ),
    (
        ObjectLocked, "broker",
        "The message broker refuses this service the queue: somebody else has it for himself alone.",
        REFUSED_RETRY_AFTER,
    ),
    (
        BrokerRefused, "broker",
        "The message broker refuses this service what the call needs; the service's operator has to see to it.",
        REFUSED_RETRY_AFTER,
    ),
    (
        MessageTooLarge, "publish", "A message is larger than the message broker takes; none was enqueued.",
        REFUSED_RETRY_AFTER,
    ),
    (BridgeError, "broker", "The message broker can't be reached now; try again.", RETRY_AFTER),
)

#: What is added when the broker may have taken some of what was posted.
PARTLY = " Some messages, or other queues, may have been served: a message posted once more may arrive twice."


def answer(error: Exception) -> Answer:
    """Status, document and headers for any error."""
    if isinstance(error, CoreError):
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, TooFast | StillRunning) else None
        if isinstance(error, UnsupportedCoding):  # RFC 7694, 3
            headers = {"Accept-Encoding": "identity"}
        status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
        return _answer(status, error.title, error.description, headers)
    if isinstance(error, SourceUnreadable):  # it has become so after the queue was bridged to it
        return _answer(409, "Conflict", f"What this queue is bridged to can't be read: {error}")
    if isinstance(error, BridgeError):
        return _of_bridge(error)
    if isinstance(error, StoreError):
        LOG.warning("side-store: %s", error)
        return _answer(503, "Service unavailable", "The side-store can't be reached now; try again.")
    if isinstance(error, IdentityUnavailable):
        LOG.warning("identity: %s", error)
        return _answer(
            503, "Service unavailable", "What knows the users and their rights can't be reached now; try again."
        )
    if isinstance(error, Unauthenticated):
        return _answer(401, "Unauthorized", str(error), {"WWW-Authenticate": error.challenge})
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return _answer(405, "Method not allowed", f"Allowed here: {allowed}", {"Allow": allowed})
    if isinstance(error, RequestEntityTooLarge):
        return _answer(400, "Invalid request body", "The request body is larger than this service takes")
    if isinstance(error, NoSuchPath):
        return _answer(404, "Not found", "There is nothing at this path.")
    if isinstance(error, HTTPException) and error.code is not None and 400 <= error.code < 500:
        return _answer(error.code, error.name, error.description or error.name)
    LOG.error("unexpected error", exc_info=error)
    return _answer(500, "Internal server error", "An unexpected error happened; the log has it by the request's id.")


def _of_bridge(error: BridgeError) -> Answer:
    what, description, retry_after = next(row[1:] for row in OF_BRIDGES if isinstance(error, row[0]))
    LOG.warning("%s: %s", what, error)
    if isinstance(error, QueueFull) and error.partly:
        description += PARTLY
    return _answer(503, "Service unavailable", description, {"Retry-After": str(retry_after)})


def _answer(status: int, title: str, description: str, headers: dict[str, str] | None = None) -> Answer:
    if status == 503:
        headers = {"Retry-After": str(RETRY_AFTER), **(headers or {})}
    return status, document(title, description), headers or {}


def document(title: str, description: str) -> dict[str, str]:
    """The document of every error."""
    return {"title": title, "description": description}


def json_error(title: str, description: str) -> tuple[bytes, str]:
    """The body and its media type, for errors that a server answers by itself."""
    return orjson.dumps(document(title, description)), "application/json"
