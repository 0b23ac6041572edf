"""Operations of an older version of the API: those of version 2, but for what is different there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.access.policy import ADMINISTRATOR
from gateway.api.v2.operations import OPERATIONS
from gateway.web.operations import Operation
from gateway.web.version import V2, Version

_OPERATIONS = {(operation.method, operation.path): operation for operation in OPERATIONS}


def derived(version: Version, method: str, path: str, at: str | None = None, **differences: Any) -> Operation:
    """The operation that version 2 has at ``path``, which is without ``/v2``, as one of an older version.

    ``at``: its path there, if that is another one. ``differences``: attributes of Operation. Older versions have no
    policy rules but those for administrators, who see credentials. No signature covers their paths, nobody waits,
    there are no feeds, and they are not in the OpenAPI document. Raises KeyError if there is no such operation.
    """
    operation = _OPERATIONS[method, V2.root + path]
    values: dict[str, Any] = {
        "id": "", "shareable": False, "more_relations": (), "waits": None, "feed": None, **differences
    }
    if operation.default_rule != ADMINISTRATOR:
        values["default_rule"] = None
    return replace(operation, version=version, path=version.root + (at or path), **values)
