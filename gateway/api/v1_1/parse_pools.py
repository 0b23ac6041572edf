"""What requests about pools and flavors say in version 1.1, where that is not as in version 2."""

from __future__ import annotations

from typing import Any

from gateway.api.v2 import parse_pools
from gateway.core.errors import InvalidInput
from gateway.web import body, query
from gateway.web.call import Call

#: Some of these must be there to change a pool.
CHANGEABLE = ("weight", "uri", "options")

#: What one pool of a flavor was called until Mitaka.
ONE_POOL = ("pool", "pool_group")


def pool_page(call: Call) -> dict[str, Any]:
    """Which pools to list. A limit that is too high acts as the highest."""
    query.boolean(call.args, "detailed")
    wanted = query.integer(call.args, "limit")
    highest = call.core.limits.max_pools_per_page
    limit = query.check_limit(wanted if wanted is None else min(wanted, highest), highest)
    return {"limit": limit, "marker": call.args.get("marker", "")}


def pool_changes(call: Call) -> dict[str, Any]:
    """What to change of a pool."""
    found = parse_pools.pool_changes(call)
    if not set(CHANGEABLE) & set(found["changes"]):
        raise InvalidInput(f"Give some of {', '.join(CHANGEABLE)}", body.TITLE)
    return found


def flavor(call: Call) -> dict[str, Any]:
    """A flavor."""
    return parse_pools.flavor_of(_with_list(parse_pools.given(call)))


def flavor_changes(call: Call) -> dict[str, Any]:
    """What to change of a flavor."""
    return parse_pools.flavor_changes_of(_with_list(parse_pools.given(call)))


def _with_list(document: dict[str, Any]) -> dict[str, Any]:
    """The description of a flavor with its one pool, if it is called so, as a list."""
    named = [key for key in ONE_POOL if key in document]
    if not named:
        return document
    if len(named) > 1 or "pool_list" in document:
        raise InvalidInput(f"Give one of pool_list, {', '.join(ONE_POOL)}", body.TITLE)
    name = document[named[0]]
    if not isinstance(name, str):
        raise InvalidInput(f"{named[0]!r} must be the name of a pool", body.TITLE)
    return {**{key: value for key, value in document.items() if key != named[0]}, "pool_list": [name]}
