"""The home document: what a client can do, without knowing anything."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import orjson

from gateway.web.call import JSON, JSON_HOME, PLACES, Call
from gateway.web.operations import Answer, Operation

_VARIABLE = re.compile("{(.*?)}")


def home(call: Call, operations: tuple[Operation, ...]) -> Answer:
    """JSON home (draft-nottingham-json-home): operations by relation."""
    described = f'<{call.base}/v2/openapi.json>; rel="service-desc"; type="{JSON}"'  # RFC 8631
    return 200, _home(operations, call.base), {"Content-Type": JSON_HOME, "Link": described}


@lru_cache(PLACES)
def _home(operations: tuple[Operation, ...], base: str) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps({"resources": resources(operations, base)}))


def resources(operations: tuple[Operation, ...], base: str = "") -> dict[str, Any]:
    """The home document's resources, by relation, in the order of the table."""
    relations: dict[str, list[Operation]] = {}
    for operation in operations:
        for relation in (operation.relation, *operation.more_relations):
            if relation is not None:
                relations.setdefault(relation, []).append(operation)
    return {relation: _resource(together, base) for relation, together in relations.items()}


def _resource(together: list[Operation], base: str) -> dict[str, Any]:
    """One relation: operations on one path."""
    path = together[0].path
    parameters = [parameter.name for operation in together for parameter in operation.parameters]
    methods = [method for operation in together for method in (operation.method, *operation.more_methods)]
    variables = {name: f"param/{name}" for name in (*_VARIABLE.findall(path), *parameters)}
    template = base + path + ("{?" + ",".join(parameters) + "}" if parameters else "")
    hints: dict[str, Any] = {"allow": methods, "formats": {"application/json": {}}}
    return {"href-template": template, "href-vars": variables, "hints": hints}
