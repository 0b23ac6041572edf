"""The part of the table of version 1.1 that is there in admin mode only: pools and flavors."""

from __future__ import annotations

from functools import partial

from gateway.api.derived import derived
from gateway.api.v1_1 import parse_pools as parse
from gateway.api.v1_1 import render
from gateway.api.v1_1.located import path_and_query
from gateway.api.v1_1.version import V1_1
from gateway.web.operations import Operation

_POOL = "/pools/{pool_name}"
_FLAVOR = "/flavors/{flavor_name}"

_as_v2 = partial(derived, V1_1)

#: In the order of the home document and of docs/api-v1.md.
OPERATIONS: tuple[Operation, ...] = (
    _as_v2("GET", "/pools", parse=parse.pool_page, content_location=path_and_query(200)),
    _as_v2("GET", _POOL),
    _as_v2("PUT", _POOL),
    _as_v2(
        "PATCH", _POOL,
        description="200 without a body: changes some of `weight`, `uri`, `options`, and `flavor` with them",
        parse=parse.pool_changes, render=render.changed_pool,
    ),
    _as_v2("DELETE", _POOL),
    _as_v2(
        "GET", "/flavors",
        description="a page of flavors by name: `limit`, `marker`, `detailed` (with their capabilities)",
        render=render.flavor_list,
    ),
    _as_v2("GET", _FLAVOR, description="a flavor: `name`, with `detailed` also `capabilities`", render=render.flavor),
    _as_v2(
        "PUT", _FLAVOR,
        description="201: the flavor is there, and has the pools of `pool_list`, or the one of `pool` or `pool_group`",
        parse=parse.flavor,
    ),
    _as_v2(
        "PATCH", _FLAVOR,
        description="changes `pool_list` (`pool`, `pool_group`) or `capabilities`; the flavor as it is then",
        parse=parse.flavor_changes, render=render.changed_flavor,
    ),
    _as_v2("DELETE", _FLAVOR),
)
