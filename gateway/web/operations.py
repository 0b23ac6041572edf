"""What operations of an API and endpoints are. Everything that knows them is generated from their one declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

#: Status, document and headers of an answer. The document is any JSON value, bytes to be sent as they are, or None for
#: an answer without a body.
Answer = tuple[int, Any, dict[str, str]]

#: What an operation may need besides its parameters: the project whose queues it works on, and the client that calls.
PROJECT = "project"
CLIENT = "client"

#: Types of query parameters. A list is separated by commas, or the parameter is repeated.
STRING, INTEGER, BOOLEAN, LIST = "string", "integer", "boolean", "list"


class Parameter(NamedTuple):
    """A parameter in the query string."""

    name: str
    type: str = STRING


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

    parameters: tuple[Parameter, ...] = ()

    #: Does it read the request's body?
    body: bool = False

    #: Some of PROJECT and CLIENT.
    needs: frozenset[str] = frozenset({PROJECT, CLIENT})

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
    """Something that belongs to no version of an API and needs no credentials, project or client. Plain data.

    Both listeners serve it: that of the API and, if there is one, that of ``[metrics]``.
    """

    method: ClassVar[str] = "GET"

    #: Its path, as Flask, metrics and documentation write it too.
    route: str

    #: What the documentation says about it, in Markdown, in a table's cell.
    description: str

    #: The answer: gets the Service and the WSGI environment of the request.
    answer: Callable[[Any, dict[str, Any]], Answer]

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
