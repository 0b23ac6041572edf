"""JSON Schemas (2020-12) in a short form, with values of the configuration in them.

Each function returns a schema. A ``record`` is an object with a name: the document has it once, and refers to it. A
value that the operator decides is written as a ``Setting``, which ``resolve`` replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.web.facts import Facts

Schema = Any

#: Where the document keeps schemas with a name.
PLACE = "#/components/schemas/"


class Setting(NamedTuple):
    """A value that depends on the configuration; None leaves it out."""

    of: Callable[[Facts], Any]


def limit(name: str) -> Setting:
    """The value of an option of ``[transport]`` that is one of Limits."""
    return Setting(lambda facts: getattr(facts.limits, name))


def notification(name: str) -> Setting:
    """A value of Notifications."""
    return Setting(lambda facts: getattr(facts.notifications, name))


@dataclass(frozen=True, eq=False)
class Named:
    """A schema with a name."""

    name: str
    schema: Mapping[str, Any]


def _with(schema: dict[str, Any], description: str, **more: Any) -> Schema:
    """``more``: keywords of JSON Schema; those that are None are left out."""
    schema |= {key: value for key, value in more.items() if value is not None}
    return schema | ({"description": description} if description else {})


def anything(description: str = "") -> Schema:
    """Any JSON value."""
    return _with({}, description)


def text(
    description: str = "", *, choices: Sequence[str] | None = None, pattern: str | None = None,
    at_least: Any = None, at_most: Any = None, format: str | None = None, default: Any = None, example: Any = None,
) -> Schema:
    """A string: one of ``choices``, or of so many characters. ``pattern``: a regular expression, as Python has it."""
    return _with(
        {"type": "string"}, description, enum=list(choices) if choices else None,
        pattern=None if pattern is None else portable(pattern), minLength=at_least, maxLength=at_most, format=format,
        default=default, examples=None if example is None else [example],
    )


def portable(pattern: str) -> str:
    """A regular expression that ``re.match`` matches from the beginning to ``\\Z``, as JSON Schema has it."""
    return "^" + pattern.removeprefix("^").replace(r"\Z", "$")


def integer(
    description: str = "", *, at_least: Any = None, at_most: Any = None, default: Any = None, example: Any = None,
) -> Schema:
    """An integer from ``at_least`` to ``at_most``."""
    return _with(
        {"type": "integer"}, description, minimum=at_least, maximum=at_most, default=default,
        examples=None if example is None else [example],
    )


def number(description: str = "", *, at_least: Any = None, at_most: Any = None) -> Schema:
    """A number from ``at_least`` to ``at_most``."""
    return _with({"type": "number"}, description, minimum=at_least, maximum=at_most)


def boolean(description: str = "", *, default: bool | None = None) -> Schema:
    """True or false."""
    return _with({"type": "boolean"}, description, default=default)


def constant(value: Any, description: str = "") -> Schema:
    """This value and no other."""
    return _with({"const": value}, description)


def time(description: str = "") -> Schema:
    """A time in ISO 8601 with its zone, as answers have it."""
    return text(description, format="date-time")


def list_of(
    items: Schema, description: str = "", *, at_least: Any = None, at_most: Any = None, example: Any = None
) -> Schema:
    """An array of so many items."""
    return _with(
        {"type": "array", "items": items}, description, minItems=at_least, maxItems=at_most,
        examples=None if example is None else [example],
    )


def dictionary(
    values: Schema = True, description: str = "", *, at_least: Any = None, at_most: Any = None, example: Any = None
) -> Schema:
    """An object with any keys."""
    return _with(
        {"type": "object", "additionalProperties": values}, description, minProperties=at_least,
        maxProperties=at_most, examples=None if example is None else [example],
    )


def record(
    name: str, description: str, properties: Mapping[str, Schema], *, more: Schema = False, at_least: Any = None,
    example: Any = None,
) -> Named:
    """An object with a name and with these keys; those that end in ``?`` may be missing.

    ``more``: the schema of all other keys, False if there are none.
    """
    return Named(name, _with(
        {
            "type": "object",
            "properties": {key.removesuffix("?"): value for key, value in properties.items()},
            "additionalProperties": more,
        },
        description, required=[key for key in properties if not key.endswith("?")] or None, minProperties=at_least,
        examples=None if example is None else [example],
    ))


def one_of(*schemas: Schema, description: str = "") -> Schema:
    """What fits one of these."""
    return _with({"anyOf": list(schemas)}, description)


def or_null(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(schema, Named) or "type" not in schema or "enum" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def resolve(schema: Schema, facts: Facts, named: dict[str, Any]) -> Any:
    """A schema as JSON. Those with a name are added to ``named``, and referred to."""
    if isinstance(schema, Setting):
        return schema.of(facts)
    if isinstance(schema, Named):
        if schema.name not in named:
            named[schema.name] = {}  # it may be in itself
            named[schema.name] = resolve(schema.schema, facts, named)
        return {"$ref": PLACE + schema.name}
    if isinstance(schema, Mapping):
        resolved = {key: resolve(value, facts, named) for key, value in schema.items()}
        return {key: value for key, value in resolved.items() if value is not None or key == "const"}
    if isinstance(schema, list):
        return [resolve(value, facts, named) for value in schema]
    return schema
