"""The health of each pool: does every kind of operation work there, and how long does it take?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any
from uuid import uuid4

from bridges.errors import BridgeError
from gateway.core.errors import CoreError, NotFound
from gateway.core.messages.post import Post
from gateway.core.pools.pool import Pool
from gateway.core.queues.names import HEALTH_PROJECT
from gateway.core.volume import UNKNOWN, message_volume
from gateway.web.context import Context
from storage.errors import StoreError
from storage.model import DEFAULT_POOL

#: Pools that are tried at the same time; a pool that hangs delays no other.
AT_ONCE = 16

#: What says that something does not work. IndexError: nothing was posted or claimed.
FAULTS = (BridgeError, StoreError, CoreError, IndexError)


def health(context: Context) -> dict[str, Any]:
    """What works in each pool, with timings. Raises NotFound without ``admin_mode``."""
    if not context.service.admin_mode:
        raise NotFound("There is nothing here")
    pools = _pools(context)
    with ThreadPoolExecutor(AT_ONCE, "health") as threads:
        tried = [
            (name, threads.submit(copy_context().run, _try, context, name, pool)) for name, pool in pools
        ]
        shown = {name: future.result() for name, future in tried}
    catalogue = _works(context.core.pool.store.ping)["succeeded"]
    # As long as there is only the default pool it stands at the top level too, as clients know it.
    return {"catalog_reachable": catalogue, **(shown[DEFAULT_POOL] if len(shown) == 1 else {}), **shown}


def _pools(context: Context) -> Sequence[tuple[str, Pool | None]]:
    """All pools; those that this process has open if the catalogue can't be read."""
    try:
        return context.core.all_pools.each()
    except FAULTS:
        return [(pool.name, pool) for pool in context.core.all_pools.opened()]


def _try(context: Context, name: str, pool: Pool | None) -> dict[str, Any]:
    """What works in one pool; None stands for one that this gateway can't use."""
    if pool is None:
        return {"storage_reachable": False, "message_volume": UNKNOWN, "operation_status": {}}
    # Operations first: they may be what finds out that the broker or the side-store is gone.
    operations = _operations(context, name)
    broker, store = _works(pool.bridge.ping), _works(pool.store.ping)
    works = broker["succeeded"] and store["succeeded"]
    in_pool = partial(context.core.pool.store.catalogue.list_in_pool, name)
    return {
        "storage_reachable": works,
        "message_volume": message_volume(pool, in_pool) if works else UNKNOWN,
        "operation_status": {"ping_broker": broker, "ping_side_store": store, **operations},
    }


def _operations(context: Context, pool: str) -> dict[str, Any]:
    """One of each operation, on a queue in the pool that is gone afterwards."""
    core, name = context.core, uuid4().hex
    claimed: list[Any] = []
    ids: list[str] = []

    def create() -> None:
        core.queues.create(HEALTH_PROJECT, name, None, placed=pool)

    def post() -> None:
        ids.extend(core.messages.post(HEALTH_PROJECT, name, context.client, [Post(b'"health"')], 0))

    def list_() -> None:
        core.messages.list(core.directory.ensure(HEALTH_PROJECT, name), None, 1, None, False, False)

    def claim() -> None:
        claimed.extend(core.claims.create(core.directory.ensure(HEALTH_PROJECT, name), None, None, 1))

    def delete() -> None:
        info = core.directory.ensure(HEALTH_PROJECT, name)
        core.messages.delete(info, ids[0], claimed[0].claim)

    def remove() -> None:
        core.queues.delete(HEALTH_PROJECT, name)

    operations = {
        "create_queue": create,
        "post_messages": post,
        "list_messages": list_,
        "claim_messages": claim,
        "delete_messages": delete,
    }
    status = {}
    for operation, run in operations.items():
        status[operation] = _works(run)
        if not status[operation]["succeeded"]:
            break  # what follows needs it, and would only add its own timeout
    if status["create_queue"]["succeeded"]:
        status["delete_queue"] = _works(remove)
    elif pool != DEFAULT_POOL:
        _works(remove)  # it may be in the catalogue although its pool does not answer
    return status


def _works(run: Callable[[], Any]) -> dict[str, Any]:
    start = time.monotonic()
    try:
        run()
        succeeded = True
    except FAULTS:
        succeeded = False
    return {"seconds": round(time.monotonic() - start, 6), "ref": uuid4().hex, "succeeded": succeeded}
