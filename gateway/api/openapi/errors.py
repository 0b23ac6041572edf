"""Which errors an operation has, by what it takes and by how the service is configured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gateway.api.openapi.parameters import VARIABLE
from gateway.api.openapi.schema import record, text
from gateway.web.facts import Facts
from gateway.web.operations import Operation


class Described(NamedTuple):
    """A kind of error: its name in the document, what it means, and headers: is each always there?"""

    name: str
    description: str
    headers: dict[str, bool] = {}


#: Kinds of errors by status.
ERRORS: dict[int, Described] = {
    400: Described(
        "BadRequest", "A header, a name, the query or the body breaks a rule; the description says which one."
    ),
    401: Described("Unauthorized", "Credentials are missing or wrong.", {"WWW-Authenticate": True}),
    403: Described(
        "Forbidden", "Your roles don't allow it, `X-Project-ID` is not your project, or it has reached a limit."
    ),
    404: Described(
        "NotFound", "It does not exist; or the request is pre-signed, and its signature is wrong, has expired, or does"
                    " not cover it.",
    ),
    406: Described("NotAcceptable", "`Accept` does not allow `application/json`."),
    409: Described(
        "Conflict", "It does not fit the state of things; the description says why.", {"Retry-After": False}
    ),
    415: Described(
        "UnsupportedMediaType", "The body is compressed, or of another type than this one.", {"Accept-Encoding": False}
    ),
    422: Described("UnprocessableContent", "The `Idempotency-Key` came with another body before."),
    429: Described(
        "TooManyRequests", "The project sends too many requests or bytes, or has too many requests that wait;"
                           " `Retry-After` says when to try again.",
        {"Retry-After": True},
    ),
    503: Described(
        "ServiceUnavailable", "The broker, the side-store or the identity service is down, too slow, or refuses; or the"
                              " gateway is overloaded. `Retry-After` says when to try again.",
        {"Retry-After": True},
    ),
}

#: Statuses that every operation has.
ALWAYS = (400, 404, 406, 503)

#: The body of each error.
ERROR = record("Error", "Every error.", {"title": text("The kind of error."), "description": text("What was wrong.")})

#: The header by which an answer says that ``Prefer`` was heeded (RFC 7240).
APPLIED = "Preference-Applied"

#: Headers of answers.
HEADERS: dict[str, dict[str, Any]] = {
    "X-Openstack-Request-Id": {
        "description": "Names the request, also in the log.",
        "schema": {"type": "string", "pattern": "^req-[0-9a-f-]{36}$"},
    },
    "Location": {"description": "Path of what was created or changed.", "schema": {"type": "string"}},
    "Link": {"description": "Where this document is (RFC 8631).", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
    "Accept-Encoding": {"description": "Codings of bodies that are taken.", "schema": {"type": "string"}},
    APPLIED: {"description": "`wait=<seconds>`, if `Prefer` asked for it.", "schema": {"type": "string"}},
}


def statuses(operation: Operation, facts: Facts) -> Iterator[tuple[int, str]]:
    """Its errors by status, in order. The text is the operation's own, or empty."""
    known = facts.auth_strategy != "noauth"
    counted = (
        facts.counts_requests or (facts.counts_bytes and operation.body is not None)
        or (facts.counts_waiting and operation.waits is not None)
    )
    there = {
        401: known,
        403: known or operation.rule is not None,
        409: VARIABLE.search(operation.path) is not None,
        415: operation.body is not None,
        429: counted,
    }
    for status in ERRORS:
        if status in ALWAYS or status in operation.errors or there.get(status, False):
            yield status, operation.errors.get(status, "")


def responses() -> dict[str, Any]:
    """The document's answers for errors, by their names."""
    return {kind.name: response(status) for status, kind in ERRORS.items()}


def response(status: int, description: str = "", has_body: bool = True) -> dict[str, Any]:
    """The answer of an error. ``description``: of this one; ``has_body``: false for HEAD."""
    kind = ERRORS[status]
    shown: dict[str, Any] = {
        "description": description or kind.description,
        "headers": headers() | {
            name: {**HEADERS[name], "required": required} if required else header(name)
            for name, required in kind.headers.items()
        },
    }
    if has_body:
        shown["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return shown


def headers(*names: str) -> dict[str, Any]:
    """The headers that every answer has, and those of these names, which it always has."""
    return {
        "X-Openstack-Request-Id": header("X-Openstack-Request-Id"),
        **{name: {**HEADERS[name], "required": True} for name in names},
    }


def header(name: str) -> dict[str, Any]:
    """A header that may be there."""
    return {"$ref": f"#/components/headers/{name}"}
