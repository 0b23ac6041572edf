"""What the body of a request has to look like, for each action: the names and types that Zaqar's schemas have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Unusable(Exception):
    """A request that no action can be done for; the text is for the client."""


@dataclass(frozen=True, slots=True)
class Field:
    """A member of the body, of the JSON type that ``words`` names."""

    name: str
    type: type
    words: str
    required: bool = False


def string(name: str, required: bool = False) -> Field:
    """A string."""
    return Field(name, str, "a string", required)


def integer(name: str) -> Field:
    """An integer."""
    return Field(name, int, "an integer")


def boolean(name: str) -> Field:
    """A boolean."""
    return Field(name, bool, "a boolean")


def array(name: str, required: bool = False) -> Field:
    """A list."""
    return Field(name, list, "a list", required)


def mapping(name: str) -> Field:
    """An object."""
    return Field(name, dict, "an object")


#: The queue, which nearly all actions need.
QUEUE = string("queue_name", required=True)


def check(document: Mapping[str, Any], fields: tuple[Field, ...], where: str) -> None:
    """Raises Unusable unless the document has all fields that are required, and each of its type.

    One that is not required may be null, which is as good as absent; others than these may be there. ``where``: what
    the document is called.
    """
    for field in fields:
        value = document.get(field.name)
        if value is None:
            if field.required:
                raise Unusable(f"{field.name!r} is a required property of the {where}")
        elif not isinstance(value, field.type) or (field.type is int and isinstance(value, bool)):
            raise Unusable(f"{field.name!r} in the {where} must be {field.words}")
