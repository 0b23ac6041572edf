"""The part of the table of operations that is there in admin mode only: pools, flavors, moves of queues."""

from __future__ import annotations

from functools import partial

from gateway.access.policy import ADMINISTRATOR
from gateway.api.v2 import parse_pools as parse
from gateway.api.v2 import pools, render, schemas
from gateway.api.v2 import render_pools as show
from gateway.web.operations import BOOLEAN, INTEGER, Operation, Parameter

POOLS, FLAVORS, MIGRATIONS = "Pools", "Flavors", "Migrations"

_POOL = "/v2/pools/{pool_name}"
_FLAVOR = "/v2/flavors/{flavor_name}"
_QUEUE = "/v2/queues/{queue_name}"

_PAGE = (Parameter("marker"), Parameter("limit", INTEGER), Parameter("detailed", BOOLEAN))

_admin = partial(Operation, default_rule=ADMINISTRATOR, admin_mode=True)

#: In the order of the home document and of docs/api.md. Names of rules are Zaqar's, where it has the call.
OPERATIONS: tuple[Operation, ...] = (
    _admin(
        name="pools:get_all", method="GET", path="/v2/pools", relation="rel/pools",
        id="list_pools", tag=POOLS, replies=schemas.pools.LISTED_POOLS, page="max_pools_per_page",
        summary="List pools.",
        description="a page of pools by name: `limit`, `marker`, `detailed` (with their options)",
        parameters=_PAGE, parse=parse.pool_page, handler=pools.list_pools, render=show.pool_list,
    ),
    _admin(
        name="pools:get", method="GET", path=_POOL, relation="rel/pool",
        id="get_pool", tag=POOLS, replies=schemas.pools.GOT_POOL,
        summary="Read a pool.",
        description="a pool: `weight`, `uri`, `flavor`, `options`",
        handler=pools.get_pool, render=show.pool,
    ),
    _admin(
        name="pools:create", method="PUT", path=_POOL, relation="rel/pool",
        id="create_pool", tag=POOLS, body=schemas.pools.POOL, replies=schemas.pools.CREATED,
        summary="Create or replace a pool.",
        description="201: the pool is there, and its broker and side-store have answered",
        parse=parse.pool, handler=pools.put_pool, render=show.created("pools"),
    ),
    _admin(
        name="pools:update", method="PATCH", path=_POOL, relation="rel/pool",
        id="update_pool", tag=POOLS, body=schemas.pools.POOL_CHANGES, replies=schemas.pools.GOT_POOL,
        summary="Change a pool.",
        description='changes some of `weight`, `uri`, `flavor` (`""` for none), `options`; the pool as it is then',
        parse=parse.pool_changes, handler=pools.patch_pool, render=show.pool,
    ),
    _admin(
        name="pools:delete", method="DELETE", path=_POOL, relation="rel/pool",
        id="delete_pool", tag=POOLS, replies=schemas.common.DONE, errors=schemas.pools.IN_USE,
        summary="Delete a pool.",
        description="204: the pool is gone; 403 while a flavor or a queue uses it",
        handler=pools.delete_pool, render=render.nothing,
    ),
    _admin(
        name="pools:evacuate", method="POST", path=f"{_POOL}/evacuate", relation="rel/pool_evacuate",
        id="evacuate_pool", tag=POOLS, body=schemas.pools.EVACUATE, replies=schemas.pools.BEGUN,
        summary="Move all queues of a pool to others.",
        description='202: its queues move to `{"pool": …}`, or without a body each to where a new one would be put',
        parse=parse.evacuation, handler=pools.evacuate, render=show.evacuation_begun,
    ),
    _admin(
        name="pools:get_evacuation", method="GET", path=f"{_POOL}/evacuation", relation="rel/pool_evacuation",
        id="get_evacuation", tag=POOLS, replies=schemas.pools.EVACUATION,
        summary="Read how far the evacuation of a pool is.",
        description="how many queues are still in the pool; `null` if it is not being emptied",
        handler=pools.evacuation, render=show.evacuation,
    ),
    _admin(
        name="pools:cancel_evacuation", method="DELETE", path=f"{_POOL}/evacuation", relation="rel/pool_evacuation",
        id="cancel_evacuation", tag=POOLS, replies=schemas.common.DONE,
        summary="End the evacuation of a pool.",
        description="204: no more queues leave the pool, and new ones are put there again",
        handler=pools.cancel_evacuation, render=render.nothing,
    ),
    _admin(
        name="flavors:get_all", method="GET", path="/v2/flavors", relation="rel/flavors",
        id="list_flavors", tag=FLAVORS, replies=schemas.pools.LISTED_FLAVORS, page="max_flavors_per_page",
        summary="List flavors.",
        description="a page of flavors by name: `limit`, `marker`",
        parameters=_PAGE, parse=parse.flavor_page, handler=pools.list_flavors, render=show.flavor_list,
    ),
    _admin(
        name="flavors:get", method="GET", path=_FLAVOR, relation="rel/flavor",
        id="get_flavor", tag=FLAVORS, replies=schemas.pools.GOT_FLAVOR,
        summary="Read a flavor.",
        description="a flavor: `pool_list`, `capabilities`",
        handler=pools.get_flavor, render=show.flavor,
    ),
    _admin(
        name="flavors:create", method="PUT", path=_FLAVOR, relation="rel/flavor",
        id="create_flavor", tag=FLAVORS, body=schemas.pools.FLAVOR, replies=schemas.pools.CREATED,
        summary="Create or replace a flavor.",
        description="201: the flavor is there, and has these pools and no others",
        parse=parse.flavor, handler=pools.put_flavor, render=show.created("flavors"),
    ),
    _admin(
        name="flavors:update", method="PATCH", path=_FLAVOR, relation="rel/flavor",
        id="update_flavor", tag=FLAVORS, body=schemas.pools.FLAVOR_CHANGES, replies=schemas.pools.GOT_FLAVOR,
        summary="Change a flavor.",
        description="changes `pool_list` or `capabilities`; the flavor as it is then",
        parse=parse.flavor_changes, handler=pools.patch_flavor, render=show.flavor,
    ),
    _admin(
        name="flavors:delete", method="DELETE", path=_FLAVOR, relation="rel/flavor",
        id="delete_flavor", tag=FLAVORS, replies=schemas.common.DONE,
        summary="Delete a flavor.",
        description="204: the flavor is gone; its pools and queues stay",
        handler=pools.delete_flavor, render=render.nothing,
    ),
    _admin(
        name="queues:migrate", method="POST", path=f"{_QUEUE}/migrate", relation="rel/queue_migrate",
        id="migrate_queue", tag=MIGRATIONS, body=schemas.pools.MIGRATE, replies=schemas.pools.BEGUN,
        summary="Move a queue to another pool.",
        description='202: the queue moves to `{"pool": …}` while it is used',
        parse=parse.migration, handler=pools.migrate, render=show.migration_begun,
    ),
    _admin(
        name="queues:get_migration", method="GET", path=f"{_QUEUE}/migration", relation="rel/queue_migration",
        id="get_migration", tag=MIGRATIONS, replies=schemas.pools.MIGRATION,
        summary="Read which pool a queue is in, and how far its move is.",
        description="the queue's pool, and its move: `from`, `to`, `phase`, `moved`, `waiting`, `started`, `error`",
        handler=pools.migration, render=show.migration,
    ),
    _admin(
        name="queues:cancel_migration", method="DELETE", path=f"{_QUEUE}/migration", relation="rel/queue_migration",
        id="cancel_migration", tag=MIGRATIONS, replies=schemas.common.DONE,
        summary="End the move of a queue before it has changed anything.",
        description="204: the queue stays where it is; 409 once it can't",
        handler=pools.cancel_migration, render=render.nothing,
    ),
)
