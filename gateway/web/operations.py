"""What operations of an API and endpoints are. Everything that knows them is generated from their one declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from gateway.web.version import V2, Version

#: Status, document and headers of an answer. The document is any JSON value, bytes to be sent as they are, or None for
#: an answer without a body.
Answer = tuple[int, Any, dict[str, str]]

#: What an operation may need besides its parameters: the project whose queues it works on, and the client that calls.
PROJECT = "project"
CLIENT = "client"

#: What an operation does that may wait until there are messages: it takes them from others, or it only reads them.
TAKING = "taking"
READING = "reading"

#: Types of query parameters. A list is separated by commas, or the parameter is repeated.
STRING, INTEGER, BOOLEAN, LIST = "string", "integer", "boolean", "list"


#: A JSON Schema (2020-12), as gateway.api.openapi.schema writes it.
Schema = Any


class Parameter(NamedTuple):
    """A parameter in the query string, or a header. ``description``: what it means, if it means that here alone."""

    name: str
    type: str = STRING
    description: str = ""


class Body(NamedTuple):
    """A request's body. It may be left out unless it is ``required``."""

    schema: Schema
    required: bool = False
    media_type: str = "application/json"


class Reply(NamedTuple):
    """An answer that is no error.

    ``schema``: of its body in JSON, None if it has none. ``headers``: names of those that it has besides those of every
    answer. ``others``: schemas of other bodies that it may have instead, by media type.
    """

    description: str
    schema: Schema = None
    headers: tuple[str, ...] = ()
    others: Mapping[str, Schema] = {}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Operation:
    """Something that clients can ask for. Plain data: it does nothing by itself.

    Operations may share a name: those that read the same thing in two ways, which are allowed together.
    """

    #: The policy's rule, like ``messages:create``, where there is one.
    name: str

    #: An HTTP method. ``HEAD`` needs an operation only where it is not answered as ``GET`` without the body.
    method: str

    #: A path with variables, like ``/v2/queues/{queue_name}``.
    path: str

    #: One sentence, for the policy's sample and for lists of operations.
    summary: str

    #: What the documentation says about it, in Markdown, in a table's cell.
    description: str

    #: Does it: gets a Context, the path's variables and what ``parse`` returned by name; returns plain values.
    handler: Callable[..., Any]

    #: The answer for what the handler returned: gets the Call, that value, and the path's variables by name.
    render: Callable[..., Answer]

    #: Values for the handler, by name, from the query and the body of a Call; None if the handler needs none.
    parse: Callable[[Any], dict[str, Any]] | None = None

    #: Values for a live feed of it, by name, from a Call; None if there is none. What has one may also be pre-signed in
    #: the query, as browsers read feeds.
    feed: Callable[[Any], dict[str, Any]] | None = None

    #: The policy's default: who may call, in oslo.policy's language. None: there is no rule, and anybody may.
    default_rule: str | None = None

    #: Is it there only if ``[DEFAULT] admin_mode`` is on?
    admin_mode: bool = False

    #: Name in the home document; operations of one relation stand there together. None: it is not there.
    relation: str | None = None

    #: More relations of the home document that it stands under.
    more_relations: tuple[str, ...] = ()

    #: Can the right to it be shared by a signature?
    shareable: bool = True

    #: More methods that the home document shows for its relation.
    more_methods: tuple[str, ...] = ()

    #: TAKING or READING if a client may wait until what the handler returns is true. The path has a ``queue_name``.
    waits: str | None = None

    parameters: tuple[Parameter, ...] = ()

    #: Headers that it reads besides those of every request.
    headers: tuple[Parameter, ...] = ()

    #: The request's body; None: it reads none.
    body: Body | None = None

    #: Its name in the OpenAPI document, of which generated clients make that of a function; empty: it is not there.
    id: str = ""

    #: The operations that it stands among there.
    tag: str = ""

    #: Answers by status, without errors.
    replies: Mapping[int, Reply] = field(default_factory=dict)

    #: Errors by status that it has besides those of every operation, or for a reason of its own: why.
    errors: Mapping[int, str] = field(default_factory=dict)

    #: The limit of ``[transport]`` for its parameters ``limit`` and ``pop``.
    page: str = ""

    #: What parameters of the query mean that it does not name; empty: nothing.
    filters: str = ""

    #: Some of PROJECT and CLIENT.
    needs: frozenset[str] = frozenset({PROJECT, CLIENT})

    version: Version = V2

    #: Is HEAD answered as GET without the body, where it has no operation of its own? If not it is a 405.
    heads: bool = True

    #: What Content-Location says: gets the WSGI environment and the status; None for an answer without that header.
    content_location: Callable[[dict[str, Any], int], str | None] | None = None

    @property
    def rule(self) -> str | None:
        """The policy's rule that is asked before the handler runs."""
        return None if self.default_rule is None else self.name

    @property
    def route(self) -> str:
        """The path as Flask, metrics and documentation write it, like ``/v2/queues/<queue>``."""
        return self.path.replace("{queue_name}", "{queue}").replace("{topic_name}", "{topic}").translate(_BRACKETS)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Endpoint:
    """Something that needs no credentials, project or client. Plain data.

    The API's listener serves it and, if there is one, that of ``[metrics]``.
    """

    method: ClassVar[str] = "GET"

    #: Its path, as Flask, metrics and documentation write it too.
    route: str

    #: What the documentation says about it, in Markdown, in a table's cell.
    description: str

    #: The answer: gets the Service and the WSGI environment of the request.
    answer: Callable[[Any, dict[str, Any]], Answer]

    #: As those of an Operation.
    id: str
    summary: str
    replies: Mapping[int, Reply]

    #: Is it about the API, so that the listener of ``[metrics]`` has no use for it?
    api_only: bool = False

    #: There is one path to it, without a slash at its end and without ``[wsgi] prefix``, so that a proxy can refuse it.
    exact: bool = False

    #: Not for clients: the API's listener serves it only if ``[metrics]`` has none.
    private: bool = False


#: From a path's variables to Flask's.
_BRACKETS = str.maketrans("{}", "<>")


def by_route(operations: Iterable[Operation]) -> dict[str, dict[str, Operation]]:
    """Operations by route and method, in the order of the table."""
    routes: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        routes.setdefault(operation.route, {})[operation.method] = operation
    return routes
