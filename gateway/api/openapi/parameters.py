"""Parameters of the query, variables of paths, and headers of requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gateway.access.auth.base import MAX_PROJECT
from gateway.api.openapi.schema import Schema, Setting, boolean, integer, limit, list_of, resolve, text
from gateway.config.limits import DEFAULT_PAGE
from gateway.core.queues.metadata import QUEUE_NAME
from gateway.web.facts import Facts
from gateway.web.operations import BOOLEAN, CLIENT, INTEGER, LIST, PROJECT, STRING, Operation, Parameter
from gateway.web.signed_query import HEADERS as SIGNED_QUERY

VARIABLE = re.compile("{(.*?)}")

_SCHEMAS: dict[str, Schema] = {STRING: text(), INTEGER: integer(), BOOLEAN: boolean(), LIST: list_of(text(at_least=1))}

_IDS = list_of(text(at_least=1), at_least=1, at_most=limit("max_messages_per_page"))

#: What parameters mean, by name, and their schemas where these say more than the type.
QUERY: dict[str, tuple[str, Schema | None]] = {
    "marker": ("Where the page begins: what the last page's link says.", None),
    "limit": ("How many there are at most.", None),
    "pop": ("Take out so many messages, the oldest first. Either `pop` or `ids`.", None),
    "detailed": ("Show all of each.", None),
    "name": ("A part of the name.", None),
    "with_count": ("Show how many match in all.", None),
    "echo": ("Show messages of this client, too.", None),
    "include_claimed": ("Show messages that are claimed, too.", None),
    "include_delayed": ("Show messages that are delayed, too.", None),
    "ids": ("These alone.", _IDS),
    "claim_ids": ("The claims that the messages of `ids` are in.", None),
    "claim_id": ("The claim that the message is in.", None),
    "status": ("Those with this status of HTTP alone.", None),
    "wait": (
        "Wait up to so many seconds until there is something to answer. Not with `ids`.",
        integer(at_least=0, at_most=limit("max_wait")),
    ),
}

_POOL_NAME = text("1 to 64 characters of A-Z a-z 0-9 _ - .", pattern=r"[A-Za-z0-9_.-]{1,64}\Z")

#: Variables of paths.
PATH: dict[str, Schema] = {
    "queue_name": text("1 to 64 characters of A-Z a-z 0-9 _ - ., and not . or ..", pattern=QUEUE_NAME.pattern),
    "topic_name": text("1 to 64 characters of A-Z a-z 0-9 _ - ., and not . or ..", pattern=QUEUE_NAME.pattern),
    "message_id": text(at_least=1),
    "claim_id": text(at_least=1),
    "subscription_id": text(at_least=1),
    "pool_name": text(at_least=1),
    "flavor_name": text(at_least=1),
}

#: The same where something is created under that name.
CREATED: dict[str, Schema] = {"pool_name": _POOL_NAME, "flavor_name": _POOL_NAME}

#: The usual spellings of a UUID. Not the format ``uuid``: generated clients make objects of it that can't be sent.
_UUID = r"(?:[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}|[0-9A-Fa-f]{32})\Z"

_CLIENT_ID = "Names the client, which chooses it: `echo` finds its messages by it. "

_OWN_PROJECT = " Without it the project is that of your credentials, and only administrators may name others."


def parameters(operation: Operation, facts: Facts) -> list[dict[str, Any]]:
    """What an operation takes besides a body and credentials, as the document has it."""
    return [*_path(operation), *_query(operation, facts), *_headers(operation, facts)]


def _path(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in VARIABLE.findall(operation.path):
        schema = CREATED.get(name, PATH[name]) if operation.method == "PUT" else PATH[name]
        yield _shown(name, "path", "", schema, required=True)


def _query(operation: Operation, facts: Facts) -> Iterator[dict[str, Any]]:
    for parameter in operation.parameters:
        description, schema = QUERY.get(parameter.name, ("", None))
        if schema is None:
            schema = _page(operation.page) if parameter.name in ("limit", "pop") else _SCHEMAS[parameter.type]
        if parameter.name == "pop":
            schema = {key: value for key, value in schema.items() if key != "default"}
        shown = _shown(parameter.name, "query", parameter.description or description, resolve(schema, facts, {}))
        yield shown | {"style": "form", "explode": False} if parameter.type == LIST else shown
    if operation.feed is not None and facts.can_share:
        for name, header in SIGNED_QUERY.items():
            stands_for = header.removeprefix("HTTP_").replace("_", "-").lower()
            yield _shown(name, "query", f"In a pre-signed request, in place of the header `{stands_for}`.", text())
    if operation.filters:
        named = [parameter.name for parameter in operation.parameters]
        values = {
            "type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"not": {"enum": named}},
        }
        yield _shown("filters", "query", operation.filters, values) | {"style": "form", "explode": True}


def _page(option: str) -> Schema:
    """From 1 to the limit of that name."""
    return integer(
        at_least=1, at_most=limit(option),
        default=Setting(lambda facts: min(DEFAULT_PAGE, getattr(facts.limits, option))),
    )


def _headers(operation: Operation, facts: Facts) -> Iterator[dict[str, Any]]:
    if CLIENT in operation.needs:
        if facts.client_id_uuid_safe:
            kind, schema = "A UUID.", text(pattern=_UUID, example="3381af92-2b9e-11e3-b191-71861300734c")
        else:
            lowest, highest = facts.client_id_length
            kind, schema = "A text.", text(at_least=lowest, at_most=highest)
        yield _shown("Client-ID", "header", _CLIENT_ID + kind, schema, required=True)
    if PROJECT in operation.needs:
        # Printable ASCII without commas, and not blanks alone.
        project = text(pattern=r"[ -+\--~]*[!-+\--~][ -+\--~]*\Z", at_most=MAX_PROJECT, example="demo")
        believed = facts.auth_strategy == "noauth"
        yield _shown(
            "X-Project-ID", "header", "The project." + ("" if believed else _OWN_PROJECT), project, required=believed
        )
    if operation.waits is not None:
        prefer = "`wait=<seconds>`: wait as with the parameter `wait`, which counts if both are there."
        yield _shown("Prefer", "header", prefer, text(example="wait=10"))
    if operation.feed is not None:
        resumed = "Where a live feed goes on: the `id` of the last event. It counts more than `marker`."
        yield _shown("Last-Event-ID", "header", resumed, text())
    for header in operation.headers:
        yield _shown(header.name, "header", header.description, _SCHEMAS[header.type])


def _shown(name: str, place: str, description: str, schema: Schema, required: bool = False) -> dict[str, Any]:
    described = description or schema.get("description", "")
    schema = {key: value for key, value in schema.items() if key != "description"}
    return {
        "name": name, "in": place, **({"description": described} if described else {}), "required": required,
        "schema": schema,
    }


def is_described(parameter: Parameter) -> bool:
    """Does the document say what it means?"""
    return bool(parameter.description or QUERY.get(parameter.name, ("", None))[0])
