"""Request bodies: JSON, checked."""

from __future__ import annotations

import json
from typing import Any

import orjson

from gateway.core.errors import InvalidInput

TITLE = "Invalid request body"

#: So many digits may be an integer beyond 64 bits, which orjson makes a double of.
_LONG = b"0" * 19

#: Every digit becomes 0, and everything else a space.
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))

INT_MIN, INT_MAX = -(2**63), 2**64 - 1


def parse(data: bytes) -> Any:
    """The value of a JSON text in UTF-8 (RFC 8259), with numbers that fit 64 bits. Raises InvalidInput."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The body is not JSON: {error.msg} at character {error.pos}", TITLE) from error
    if _LONG in data.translate(_DIGITS):  # only then it is looked at number by number
        try:
            json.loads(data, parse_int=_integer)
        except (ValueError, RecursionError) as error:
            raise InvalidInput("The body holds a number beyond 64 bits, or is nested too deeply", TITLE) from error
    return value


def parse_object(data: bytes) -> dict[str, Any]:
    """As parse; the value must be an object."""
    value = parse(data)
    if not isinstance(value, dict):
        raise InvalidInput("The body must be a JSON object", TITLE)
    return value


def parse_optional_object(data: bytes) -> dict[str, Any]:
    """As parse_object; no body is an empty object."""
    return parse_object(data) if data else {}


def check_keys(document: dict[str, Any], known: frozenset[str]) -> None:
    """Raises InvalidInput for a body with other keys than those."""
    if unknown := sorted(set(document) - known):
        raise InvalidInput(f"Unknown keys: {', '.join(unknown)}", TITLE)


def check_size(data: bytes, most: int, what: str) -> None:
    """Raises InvalidInput for a body of more than ``most`` bytes as it was sent, white space included."""
    if len(data) > most:
        raise InvalidInput(f"{what} is too large: {len(data)} bytes were sent, the limit is {most}", TITLE)


def integer(document: dict[str, Any], key: str) -> int | None:
    """An integer member; None when it is missing or null."""
    value = document.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise InvalidInput(f"{key!r} must be an integer", TITLE)
    return value


def encode(value: Any) -> bytes:
    """A part of a parsed body as JSON again. Raises InvalidInput when it is nested too deeply for that."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise InvalidInput("The body is nested too deeply", TITLE) from error


def _integer(text: str) -> int:
    value = int(text)
    if not INT_MIN <= value <= INT_MAX:
        raise ValueError(text)
    return value
