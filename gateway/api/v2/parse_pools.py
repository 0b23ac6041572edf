"""What requests about pools, flavors and moves say, as values for the handlers. All raise InvalidInput.

Bodies are those of OpenStack Zaqar's schemas (zaqar/common/schemas/pools.py, flavors.py): PUT takes no other keys, and
PATCH ignores them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.core.errors import InvalidInput
from gateway.web import body, query
from gateway.web.call import Call

#: Largest weight of a pool, as in Zaqar's schema.
MAX_WEIGHT = 2**32 - 1

#: Longest URI of a pool, in characters: a cluster of many nodes has room.
MAX_URI = 2048

#: Longest name of a capability, and most of them.
MAX_CAPABILITY, MAX_CAPABILITIES = 64, 64


def _weight(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_WEIGHT:
        raise InvalidInput(f"'weight' must be an integer from 0 to {MAX_WEIGHT}", body.TITLE)
    return value


def _uri(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_URI:
        raise InvalidInput(f"'uri' must be a text of 1 to {MAX_URI} characters", body.TITLE)
    return value


def _flavor(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise InvalidInput("'flavor' must be the name of a flavor, or null", body.TITLE)
    return value or ""


def _options(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise InvalidInput("'options' must be an object, or null", body.TITLE)
    return value or {}


#: What a pool is described by, and how each value is checked.
_POOL: Mapping[str, Callable[[Any], Any]] = {"weight": _weight, "uri": _uri, "flavor": _flavor, "options": _options}


def page(call: Call, highest: int) -> dict[str, Any]:
    """Which page of a list by name."""
    return {"limit": query.limit(call.args, highest), "marker": call.args.get("marker", "")}


def pool_page(call: Call) -> dict[str, Any]:
    """Which pools to list. ``detailed`` decides what is shown of them."""
    query.boolean(call.args, "detailed")
    return page(call, call.core.limits.max_pools_per_page)


def flavor_page(call: Call) -> dict[str, Any]:
    """Which flavors to list. ``detailed`` decides what is shown of them."""
    query.boolean(call.args, "detailed")
    return page(call, call.core.limits.max_flavors_per_page)


def given(call: Call) -> dict[str, Any]:
    """The body, which must not be left out."""
    return body.parse_object(call.body())


def _check_required(document: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if key not in document:
            raise InvalidInput(f"Missing parameter {key}", body.TITLE)


def pool(call: Call) -> dict[str, Any]:
    """A pool."""
    document = given(call)
    body.check_keys(document, frozenset(_POOL))
    _check_required(document, "weight", "uri")
    return {key: read(document.get(key)) for key, read in _POOL.items()}


def pool_changes(call: Call) -> dict[str, Any]:
    """What to change of a pool."""
    document = given(call)
    changes = {key: read(document[key]) for key, read in _POOL.items() if key in document}
    if not changes:
        raise InvalidInput(f"Give some of {', '.join(_POOL)}", body.TITLE)
    return {"changes": changes}


def _pool_list(document: dict[str, Any]) -> list[str] | None:
    """Names of pools, each once; None without any."""
    names = document.get("pool_list")
    if "pool_list" not in document:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidInput("'pool_list' must be a list of names of pools and not empty", body.TITLE)
    return list(dict.fromkeys(names))


def _capabilities(document: dict[str, Any]) -> list[str] | None:
    """Names of capabilities; None without any. In an object, as Zaqar's schema has it, those that are not false."""
    given = document.get("capabilities")
    if given is None:
        return None
    names = [name for name, value in given.items() if value is not False] if isinstance(given, dict) else given
    if (
        not isinstance(names, list) or len(names) > MAX_CAPABILITIES
        or not all(isinstance(name, str) and 1 <= len(name) <= MAX_CAPABILITY for name in names)
    ):
        raise InvalidInput(
            f"'capabilities' must be a list of at most {MAX_CAPABILITIES} texts of 1 to {MAX_CAPABILITY} characters",
            body.TITLE,
        )
    return list(dict.fromkeys(names))


def flavor(call: Call) -> dict[str, Any]:
    """A flavor."""
    return flavor_of(given(call))


def flavor_of(document: dict[str, Any]) -> dict[str, Any]:
    """A flavor, from its description."""
    body.check_keys(document, frozenset({"pool_list", "capabilities"}))
    _check_required(document, "pool_list")
    return {"pools": _pool_list(document), "capabilities": _capabilities(document)}


def flavor_changes(call: Call) -> dict[str, Any]:
    """What to change of a flavor."""
    return flavor_changes_of(given(call))


def flavor_changes_of(document: dict[str, Any]) -> dict[str, Any]:
    """What to change of a flavor, from a description of it."""
    if not {"pool_list", "capabilities"} & set(document):
        raise InvalidInput("Give some of pool_list, capabilities", body.TITLE)
    return {"pools": _pool_list(document), "capabilities": _capabilities(document)}


def _pool_name(document: dict[str, Any], default: str | None = None) -> str:
    """The member ``pool``, of a body without any other."""
    body.check_keys(document, frozenset({"pool"}))
    name = document.get("pool", default)
    if not isinstance(name, str) or (not name and default is None):
        raise InvalidInput("'pool' must be the name of a pool", body.TITLE)
    return name


def migration(call: Call) -> dict[str, Any]:
    """The pool that a queue goes to."""
    document = given(call)
    _check_required(document, "pool")
    return {"pool": _pool_name(document)}


def evacuation(call: Call) -> dict[str, Any]:
    """The pool that the queues of another go to, empty if each is placed like a new one."""
    return {"target": _pool_name(call.document(), default="")}
