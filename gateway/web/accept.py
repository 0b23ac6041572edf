"""What an Accept header asks for (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gateway.web.call import FEED, JSON, MAX_CACHED

#: What an Accept header may say to get JSON. The home document has a type of its own, which is JSON too.
_JSON_RANGES = frozenset({"application/json", "application/json-home", "application/*", "*/*", "*"})

_NEVER = re.compile(r"q\s*=\s*0(\.0*)?")


class Accepted(NamedTuple):
    """``json``: is JSON admitted; ``feed``: is the type of live feeds named; ``both``: are both types named."""

    json: bool
    feed: bool
    both: bool


def accepted(accept: str) -> Accepted:
    """What an Accept header asks for."""
    return _read_cached(accept) if len(accept) <= MAX_CACHED else _read(accept)


def _read(accept: str) -> Accepted:
    kinds = set()
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if not any(_NEVER.fullmatch(parameter) for parameter in parameters):
            kinds.add(kind)
    feed = FEED in kinds
    return Accepted(bool(kinds & _JSON_RANGES) or not accept.strip(), feed, feed and JSON in kinds)


_read_cached = lru_cache(maxsize=1024)(_read)
