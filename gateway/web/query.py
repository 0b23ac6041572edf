"""Query strings: integers, booleans and lists."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict

from gateway.config.limits import DEFAULT_PAGE
from gateway.core.errors import InvalidInput

TITLE = "Invalid query"

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

_INTEGER = re.compile(r"-?[0-9]{1,19}\Z", re.ASCII)


def integer(args: MultiDict[str, str], name: str) -> int | None:
    """An integer parameter; None when it is absent."""
    text = args.get(name)
    if text is None:
        return None
    if not _INTEGER.match(text):
        raise InvalidInput(f"{name} must be an integer", TITLE)
    return int(text)


def boolean(args: MultiDict[str, str], name: str) -> bool:
    """A boolean parameter; False when it is absent."""
    text = args.get(name)
    if text is None:
        return False
    try:
        return BOOLEANS[text.lower()]
    except KeyError:
        raise InvalidInput(f"{name} must be one of true, false, yes, no, 1, 0", TITLE) from None


def limit(args: MultiDict[str, str], highest: int) -> int:
    """The page size asked for, from 1 to ``highest``."""
    wanted = integer(args, "limit")
    return check_limit(wanted, highest)


def check_limit(wanted: int | None, highest: int, name: str = "limit") -> int:
    """``wanted`` if it is from 1 to ``highest``; the default page size when it is None."""
    if wanted is None:
        return min(DEFAULT_PAGE, highest)
    if not 1 <= wanted <= highest:
        raise InvalidInput(f"{name} must be from 1 to {highest}", TITLE)
    return wanted


def strings(args: MultiDict[str, str], name: str) -> list[str] | None:
    """A list parameter: separated by commas, repeated, or both; None when it is absent."""
    if name not in args:
        return None
    return [part for text in args.getlist(name) for part in text.split(",") if part]


def next_link(path: str, args: MultiDict[str, str], marker: str) -> list[dict[str, str]]:
    """The ``links`` of a page: the same query behind its last element."""
    kept: Iterable[tuple[str, str]] = ((k, v) for k, v in args.items(multi=True) if k != "marker")
    return [{"rel": "next", "href": f"{path}?{urlencode([*kept, ('marker', marker)])}"}]
