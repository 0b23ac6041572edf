"""What a client finds without knowing anything: versions, the home document, ping, health."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any
from uuid import uuid4

import orjson

from bridges.errors import BridgeError
from gateway.core.errors import CoreError, NotFound
from gateway.core.messages.post import Post
from gateway.core.queues.names import HEALTH_PROJECT
from gateway.core.volume import UNKNOWN, message_volume
from gateway.environ import base_of
from gateway.web.call import JSON_HOME, Call
from gateway.web.errors import Answer
from storage.errors import StoreError

#: Places of the service whose documents are remembered: one, unless it is mounted several times.
PLACES = 16

#: The one pool that there is.
POOL = "default"


@lru_cache(PLACES)
def _versions(base: str) -> bytes:
    return orjson.dumps({
        "versions": [{
            "id": "2",
            "status": "CURRENT",
            "updated": "2026-11-23T00:00:00Z",
            "media-types": [
                {"base": "application/json", "type": "application/vnd.openstack.messaging-v2+json"},
            ],
            "links": [{"href": f"{base}/v2/", "rel": "self"}],
        }],
    })


def versions(base: str) -> Answer:
    """``GET /``: the versions of the API; needs no headers."""
    return 300, _versions(base), {}


def _resource(template: str, allow: list[str], **query: str) -> dict[str, Any]:
    in_path = [name for name in ("queue_name", "message_id", "claim_id") if f"{{{name}}}" in template]
    variables = {name: f"param/{name}" for name in (*in_path, *query)}
    if query:
        template += "{?" + ",".join(query) + "}"
    hints: dict[str, Any] = {"allow": allow, "formats": {"application/json": {}}}
    return {"href-template": template, "href-vars": variables, "hints": hints}


_QUEUE = "/v2/queues/{queue_name}"

#: JSON home (draft-nottingham-json-home): relations to calls.
RESOURCES = {
    "rel/queues": _resource("/v2/queues", ["GET"], marker="", limit="", detailed="", name="", with_count=""),
    "rel/queue": _resource(_QUEUE, ["GET", "HEAD", "PUT", "PATCH", "DELETE"]),
    "rel/queue_stats": _resource(f"{_QUEUE}/stats", ["GET"]),
    "rel/queue_share": _resource(f"{_QUEUE}/share", ["POST"]),
    "rel/queue_purge": _resource(f"{_QUEUE}/purge", ["POST"]),
    "rel/messages": _resource(
        f"{_QUEUE}/messages", ["GET"], marker="", limit="", echo="", include_claimed="", include_delayed="", ids=""
    ),
    "rel/post_messages": _resource(f"{_QUEUE}/messages", ["POST"]),
    "rel/messages_delete": _resource(f"{_QUEUE}/messages", ["DELETE"], ids="", claim_ids="", pop=""),
    "rel/message": _resource(f"{_QUEUE}/messages/{{message_id}}", ["GET"]),
    "rel/message_delete": _resource(f"{_QUEUE}/messages/{{message_id}}", ["DELETE"], claim_id=""),
    "rel/claim": _resource(f"{_QUEUE}/claims/{{claim_id}}", ["GET"]),
    "rel/post_claim": _resource(f"{_QUEUE}/claims", ["POST"], limit=""),
    "rel/patch_claim": _resource(f"{_QUEUE}/claims/{{claim_id}}", ["PATCH"]),
    "rel/delete_claim": _resource(f"{_QUEUE}/claims/{{claim_id}}", ["DELETE"]),
    "rel/ping": _resource("/v2/ping", ["GET", "HEAD"]),
    "rel/health": _resource("/v2/health", ["GET"]),
}


@lru_cache(PLACES)
def _home(base: str) -> bytes:
    resources = {
        name: {**resource, "href-template": base + resource["href-template"]} for name, resource in RESOURCES.items()
    }
    return orjson.dumps({"resources": resources})


def home(call: Call) -> Answer:
    """``GET /v2/``: the home document."""
    return 200, _home(base_of(call.request.environ)), {"Content-Type": JSON_HOME}


def ping(call: Call) -> Answer:
    """``GET /v2/ping``: 204 when broker and side-store answer."""
    call.core.pool.bridge.ping()
    call.core.pool.store.ping()
    return 204, b"", {}


def health(call: Call) -> Answer:
    """``GET /v2/health``: does every kind of operation work, and how long does it take."""
    if not call.service.admin_mode:
        raise NotFound("There is nothing here")
    core = call.core
    operations = _operations(call)  # first: they may be what finds out that the broker or the side-store is gone
    broker, store = _works(core.pool.bridge.ping), _works(core.pool.store.ping)
    works = broker["succeeded"] and store["succeeded"]
    pool = {
        "storage_reachable": works,
        "message_volume": message_volume(core.pool) if works else UNKNOWN,
        "operation_status": {"ping_broker": broker, "ping_side_store": store, **operations},
    }
    # There are no other pools: the one that there is stands at the top level too, as clients know it.
    return 200, orjson.dumps({"catalog_reachable": store["succeeded"], **pool, POOL: pool}), {}


def _operations(call: Call) -> dict[str, Any]:
    """One of each operation, on a queue that is gone afterwards."""
    core, name = call.core, uuid4().hex
    claimed: list[Any] = []
    ids: list[str] = []

    def post() -> None:
        ids.extend(core.messages.post(HEALTH_PROJECT, name, call.client, [Post(b'"health"')], 0))

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
