"""Pools, flavors, and queues that move from one pool to another: what administrators do with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.errors import InvalidInput
from gateway.core.migration.admin import Evacuation, Place
from gateway.core.pools.record import FlavorRecord, PoolRecord
from gateway.web.context import Context

#: Names of pools and flavors are in paths, metrics and messages.
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")

#: Names that mean something else in the answer of a health check.
TAKEN = frozenset({"catalog_reachable", "storage_reachable", "message_volume", "operation_status"})


def _check_name(name: str, what: str) -> None:
    if not NAME.match(name):
        raise InvalidInput(f"A {what}'s name is 1 to 64 characters of A-Z a-z 0-9 _ - .", f"Invalid {what}")


# -- pools ----------------------------------------------------------------------------------------------------------


def list_pools(context: Context, *, limit: int, marker: str) -> list[PoolRecord]:
    """A page of pools by name. The default pool is not one of them."""
    return context.core.pools.page(marker, limit)


def get_pool(context: Context, pool_name: str) -> PoolRecord:
    """One pool. Raises NotFound."""
    return context.core.pools.get(pool_name)


def put_pool(
    context: Context, pool_name: str, *, weight: int, uri: str, flavor: str, options: Mapping[str, Any]
) -> None:
    """Create a pool, or replace an existing one. Raises InvalidInput and Conflict."""
    _check_name(pool_name, "pool")
    if pool_name in TAKEN:
        raise InvalidInput(f"A pool can't be named {pool_name}: /v2/health shows other things there", "Invalid pool")
    context.core.pools.put(pool_name, weight, uri, flavor, options)


def patch_pool(context: Context, pool_name: str, *, changes: Mapping[str, Any]) -> PoolRecord:
    """Change some of a pool's properties; the pool. Raises NotFound, InvalidInput and Conflict."""
    return context.core.pools.patch(pool_name, changes)


def delete_pool(context: Context, pool_name: str) -> None:
    """Remove a pool. Raises Forbidden while a flavor or a queue uses it."""
    context.core.pools.delete(pool_name)


# -- flavors --------------------------------------------------------------------------------------------------------


def list_flavors(context: Context, *, limit: int, marker: str) -> list[FlavorRecord]:
    """A page of flavors by name."""
    return context.core.flavors.page(marker, limit)


def get_flavor(context: Context, flavor_name: str) -> FlavorRecord:
    """One flavor. Raises NotFound."""
    return context.core.flavors.get(flavor_name)


def put_flavor(context: Context, flavor_name: str, *, pools: Sequence[str], capabilities: Sequence[str] | None) -> None:
    """Create a flavor, or replace an existing one. Raises InvalidInput for pools that do not exist."""
    _check_name(flavor_name, "flavor")
    context.core.flavors.put(flavor_name, pools, capabilities or [])


def patch_flavor(
    context: Context, flavor_name: str, *, pools: Sequence[str] | None, capabilities: Sequence[str] | None
) -> FlavorRecord:
    """Change what is given; the flavor. Raises NotFound, and InvalidInput for pools that do not exist."""
    return context.core.flavors.patch(flavor_name, pools, capabilities)


def delete_flavor(context: Context, flavor_name: str) -> None:
    """Remove a flavor. Its pools and queues stay."""
    context.core.flavors.delete(flavor_name)


# -- moves ----------------------------------------------------------------------------------------------------------


def migrate(context: Context, queue: str, *, pool: str) -> None:
    """Begin to move a queue to a pool. Raises NotFound, InvalidInput and Conflict."""
    context.core.migrations.start(context.project, queue, pool)


def migration(context: Context, queue: str) -> Place:
    """Where a queue is, and how far its move has come. Raises NotFound."""
    return context.core.migrations.get(context.project, queue)


def cancel_migration(context: Context, queue: str) -> None:
    """Leave a queue where it is. Raises NotFound, and Conflict when it is too late."""
    context.core.migrations.cancel(context.project, queue)


def evacuate(context: Context, pool_name: str, *, target: str) -> None:
    """Begin to move all queues of a pool. Raises NotFound, InvalidInput and Conflict."""
    context.core.migrations.evacuate(pool_name, target)


def evacuation(context: Context, pool_name: str) -> Evacuation | None:
    """How far the evacuation of a pool is; None if there is none. Raises NotFound."""
    return context.core.migrations.evacuation(pool_name)


def cancel_evacuation(context: Context, pool_name: str) -> None:
    """Move no more queues of a pool. Raises NotFound."""
    context.core.migrations.cancel_evacuation(pool_name)
