"""The older versions of the API. Each is a view of the same queues, messages and claims."""

from __future__ import annotations

from collections.abc import Collection

from gateway.api.v1 import operations as v1
from gateway.api.v1.version import V1
from gateway.api.v1_1 import operations as v1_1
from gateway.api.v1_1.version import V1_1
from gateway.web.operations import Operation
from gateway.web.version import Version

#: Oldest first.
OLDER: dict[Version, tuple[Operation, ...]] = {V1: v1.OPERATIONS, V1_1: v1_1.OPERATIONS}


def switched_on(ids: Collection[str], admin_mode: bool) -> dict[Version, tuple[Operation, ...]]:
    """What is served of the versions with these ids, oldest first."""
    return {
        version: tuple(operation for operation in operations if admin_mode or not operation.admin_mode)
        for version, operations in OLDER.items() if version.id in ids
    }
