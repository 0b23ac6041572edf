"""Answers of version 1.1, where they are not as in version 2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import orjson

from gateway.api.v2 import render_pools
from gateway.api.v2.home import resources
from gateway.core.pools.record import FlavorRecord
from gateway.web import query
from gateway.web.call import JSON_HOME, PLACES, Call
from gateway.web.operations import Answer, Operation

Render = Callable[..., Answer]

#: Keys of messages that clients of this version don't know.
LATER = ("properties", "group", "dedup_id")


def of_messages(render: Render) -> Render:
    """What renders messages as ``render`` does for version 2, without the keys that came later."""

    def rendered(call: Call, value: Any, **names: str) -> Answer:
        status, shown, headers = render(call, value, **names)
        if shown is not None:
            for message in shown.get("messages", (shown,)):
                for key in LATER:
                    message.pop(key, None)
        return status, shown, headers

    return rendered


def home(call: Call, operations: tuple[Operation, ...]) -> Answer:
    """The home document."""
    return 200, _home(operations, call.base), {"Content-Type": JSON_HOME}


@lru_cache(PLACES)
def _home(operations: tuple[Operation, ...], base: str) -> orjson.Fragment:
    shown = resources(operations, base)
    if "rel/health" in shown:
        health = shown["rel/health"]
        shown["rel/health"] = {"href": health["href-template"], "hints": health["hints"]}
    return orjson.Fragment(orjson.dumps({"resources": shown}))


def allowed(call: Call, methods: Iterable[str], queue: str) -> Answer:
    """204 and the methods of a path."""
    return 204, None, {"Allow": ", ".join(methods)}


# -- pools and flavors ----------------------------------------------------------------------------------------------


def changed_pool(call: Call, value: Any, pool_name: str) -> Answer:
    """200 without a body."""
    return 200, None, {}


def flavor_list(call: Call, page: Sequence[FlavorRecord]) -> Answer:
    """A page of flavors and the link to the next one."""
    detailed = query.boolean(call.args, "detailed")
    status, shown, headers = render_pools.flavor_list(call, page)
    return status, {**shown, "flavors": [_flavor(flavor, detailed) for flavor in shown["flavors"]]}, headers


def flavor(call: Call, record: FlavorRecord, flavor_name: str) -> Answer:
    """One flavor."""
    detailed = query.boolean(call.args, "detailed")
    status, shown, headers = render_pools.flavor(call, record, flavor_name)
    return status, _flavor(shown, detailed), headers


def changed_flavor(call: Call, record: FlavorRecord, flavor_name: str) -> Answer:
    """A flavor that has just been changed."""
    status, shown, headers = render_pools.flavor(call, record, flavor_name)
    return status, _flavor(shown, True), headers


def _flavor(shown: dict[str, Any], detailed: bool) -> dict[str, Any]:
    return {key: shown[key] for key in ("href", "name", *(("capabilities",) if detailed else ()))}
