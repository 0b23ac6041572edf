"""The service itself: the home document, ping, health."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

from bridges.errors import BridgeError
from gateway.core.errors import CoreError, NotFound
from gateway.core.messages.post import Post
from gateway.core.queues.names import HEALTH_PROJECT
from gateway.core.volume import UNKNOWN, message_volume
from gateway.web.context import Context
from gateway.web.operations import Operation
from storage.errors import StoreError

#: The one pool that there is.
POOL = "default"


def home(context: Context) -> tuple[Operation, ...]:
    """The operations that the home document shows."""
    return context.service.operations


def ping(context: Context) -> None:
    """Raises an error of broker or side-store if one of them does not answer."""
    context.core.pool.bridge.ping()
    context.core.pool.store.ping()


def health(context: Context) -> dict[str, Any]:
    """Does every kind of operation work, and how long does it take? Raises NotFound without ``admin_mode``."""
    if not context.service.admin_mode:
        raise NotFound("There is nothing here")
    core = context.core
    operations = _operations(context)  # first: they may be what finds out that the broker or the side-store is gone
    broker, store = _works(core.pool.bridge.ping), _works(core.pool.store.ping)
    works = broker["succeeded"] and store["succeeded"]
    pool = {
        "storage_reachable": works,
        "message_volume": message_volume(core.pool) if works else UNKNOWN,
        "operation_status": {"ping_broker": broker, "ping_side_store": store, **operations},
    }
    # There are no other pools: the one that there is stands at the top level too, as clients know it.
    return {"catalog_reachable": store["succeeded"], **pool, POOL: pool}


def _operations(context: Context) -> dict[str, Any]:
    """One of each operation, on a queue that is gone afterwards."""
    core, name = context.core, uuid4().hex
    claimed: list[Any] = []
    ids: list[str] = []

    def post() -> None:
        ids.extend(core.messages.post(HEALTH_PROJECT, name, context.client, [Post(b'"health"')], 0))

    def list_() -> None:
        core.messages.list(core.directory.ensure(HEALTH_PROJECT, name), None, 1, None, False, False)

    def claim() -> None:
        claimed.extend(core.claims.create(core.directory.ensure(HEALTH_PROJECT, name), None, None, 1))

    def delete() -> None:
        info = core.directory.ensure(HEALTH_PROJECT, name)
        core.messages.delete(info, ids[0], claimed[0].claim)

    operations = {
        "create_queue": lambda: core.queues.create(HEALTH_PROJECT, name, None),
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
        status["delete_queue"] = _works(lambda: core.queues.delete(HEALTH_PROJECT, name))
    return status


def _works(run: Any) -> dict[str, Any]:
    start = time.monotonic()
    try:
        run()
        succeeded = True
    except (BridgeError, StoreError, CoreError, IndexError):  # IndexError: nothing was posted or claimed
        succeeded = False
    return {"seconds": round(time.monotonic() - start, 6), "ref": uuid4().hex, "succeeded": succeeded}
