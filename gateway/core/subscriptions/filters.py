"""Filters: which messages a subscription gets, by their JSON bodies. The language is a part of Amazon SNS's.

``{"key": ["a", 1, {"prefix": "x"}, {"anything-but": ["b"]}, {"exists": true}, {"numeric": [">", 0]}]}``: every key must
match one of its conditions. Keys may be nested. Where the message has an array, one element of it must match.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

#: Keys of a filter, nested ones not counted.
MAX_KEYS = 5

#: The most value combinations: the product, over all arrays, of the number of conditions times the levels of nesting.
MAX_COMBINATIONS = 150

#: The most levels of nesting.
MAX_LEVELS = 20

#: Is a value one that the condition wants?
Condition = Callable[[Any], bool]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge, ">": operator.gt,
}

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Filter:
    """What a body must look like: for each key the conditions of its value, or the filter of the object there."""

    keys: Mapping[str, Filter | tuple[Condition, ...]]

    @classmethod
    def parse(cls, value: Any) -> Filter:
        """Raises ValueError with a sentence for the client."""
        if not isinstance(value, dict) or not value:
            raise ValueError("must be an object with at least one key")
        if len(value) > MAX_KEYS:
            raise ValueError(f"must have at most {MAX_KEYS} keys")
        parsed, combinations = _parse(value, 1)
        if combinations > MAX_COMBINATIONS:
            raise ValueError(_TOO_MANY)
        return parsed

    def matches(self, body: bytes) -> bool:
        """Does a message with this body, which is JSON, get through? Never raises: what is no JSON doesn't."""
        try:
            return self.accepts(orjson.loads(body))
        except ValueError:
            return False

    def accepts(self, value: Any) -> bool:
        """Does a message whose body is this value get through?"""
        return isinstance(value, dict) and all(
            _accepts(wanted, value.get(key, _MISSING)) for key, wanted in self.keys.items()
        )


_TOO_MANY = (
    f"must have at most {MAX_COMBINATIONS} value combinations: the product of the number of values of each key, times"
    " its level"
)


def _accepts(wanted: Filter | tuple[Condition, ...], value: Any) -> bool:
    if isinstance(wanted, Filter):
        if value is _MISSING:  # a key in it may have to be missing
            return wanted.accepts({})
        return any(wanted.accepts(element) for element in _elements(value))
    return any(condition(element) for element in _elements(value) for condition in wanted)


def _elements(value: Any) -> Iterator[Any]:
    """The value, or what is in an array, also in arrays within it. Of an empty array, the array itself."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list) and value:
            waiting += value
        else:
            yield value


def _parse(value: dict[str, Any], level: int) -> tuple[Filter, int]:
    """The filter and its combinations."""
    if level > MAX_LEVELS:
        raise ValueError(f"must be nested at most {MAX_LEVELS} levels deep")
    keys: dict[str, Filter | tuple[Condition, ...]] = {}
    combinations = 1
    for key, wanted in value.items():
        if isinstance(wanted, dict) and wanted:
            keys[key], factor = _parse(wanted, level + 1)
        elif isinstance(wanted, list) and wanted:
            factor = level * len(wanted)
            if factor > MAX_COMBINATIONS:
                raise ValueError(_TOO_MANY)
            keys[key] = tuple(map(_condition, wanted))
        else:
            raise ValueError("each key must have an array of conditions or an object, neither of them empty")
        combinations *= factor
        if combinations > MAX_COMBINATIONS:
            raise ValueError(_TOO_MANY)
    return Filter(keys), combinations


def _condition(wanted: Any) -> Condition:
    if not isinstance(wanted, dict):
        return _equals(wanted)
    if len(wanted) != 1:
        raise ValueError("a condition must be an object with one key")
    ((name, operand),) = wanted.items()
    make = _CONDITIONS.get(name)
    if make is None:
        raise ValueError(f"a condition must be a value or one of {', '.join(_CONDITIONS)}")
    return make(operand)


def _equals(wanted: Any) -> Condition:
    if wanted is not None and not isinstance(wanted, str | bool | int | float):
        raise ValueError("a value must be a string, a number, true, false or null")
    return lambda value: _same(wanted, value)


def _same(one: Any, other: Any) -> bool:
    """Are two JSON values the same? 1 is 1.0, but unlike in Python, true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _prefix(operand: Any) -> Condition:
    if not isinstance(operand, str) or not operand:
        raise ValueError("prefix must have a string that is not empty")
    return lambda value: isinstance(value, str) and value.startswith(operand)


def _anything_but(operand: Any) -> Condition:
    values = operand if isinstance(operand, list) else [operand]
    if not 0 < len(values) <= MAX_COMBINATIONS:
        raise ValueError(f"anything-but must have a value or an array of 1 to {MAX_COMBINATIONS} values")
    unwanted = [_condition(value) if isinstance(value, dict) and "prefix" in value else _equals(value)
                for value in values]
    return lambda value: value is not _MISSING and not any(condition(value) for condition in unwanted)


def _exists(operand: Any) -> Condition:
    if not isinstance(operand, bool):
        raise ValueError("exists must be true or false")
    return lambda value: (value is not _MISSING) is operand


def _numeric(operand: Any) -> Condition:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise ValueError("numeric must have an array of one or two comparisons, such as [\">\", 0, \"<=\", 5]")
    pairs = list(zip(operand[::2], operand[1::2], strict=True))
    for sign, number in pairs:
        if not isinstance(sign, str) or sign not in _COMPARE or not _is_number(number):
            raise ValueError(f"numeric must have signs of {' '.join(_COMPARE)}, each followed by a number")
    return lambda value: _is_number(value) and all(_COMPARE[sign](value, number) for sign, number in pairs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CONDITIONS: dict[str, Callable[[Any], Condition]] = {
    "prefix": _prefix, "anything-but": _anything_but, "exists": _exists, "numeric": _numeric,
}
