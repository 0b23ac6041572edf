"""Answers about pools, flavors and moves; see gateway.api.v2.render."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.api.v2.render import iso
from gateway.core.migration.admin import Evacuation, Place
from gateway.core.migration.move import Move
from gateway.core.pools.record import FlavorRecord, PoolRecord
from gateway.web import query
from gateway.web.call import Call
from gateway.web.operations import Answer


def _path(call: Call, kind: str, name: str) -> str:
    return f"{call.root}/{kind}/{name}"


def _links(call: Call, kind: str, page: Sequence[PoolRecord | FlavorRecord]) -> list[dict[str, str]]:
    return query.next_link(f"{call.root}/{kind}", call.args, page[-1].name) if page else []


def created(kind: str) -> Any:
    """Renders 201 and where the pool or flavor is, for a ``kind`` of ``pools`` or ``flavors``."""

    def render(call: Call, value: None, **names: str) -> Answer:
        (name,) = names.values()
        return 201, None, {"Location": _path(call, kind, name)}

    return render


# -- pools ----------------------------------------------------------------------------------------------------------


def _pool(call: Call, record: PoolRecord, detailed: bool) -> dict[str, Any]:
    """``uri`` and ``options`` as they were given, with passwords: clients expect that."""
    shown: dict[str, Any] = {
        "href": _path(call, "pools", record.name), "name": record.name, "weight": record.weight, "uri": record.uri,
        "flavor": record.flavor,
    }
    return {**shown, "options": record.options} if detailed else shown


def pool_list(call: Call, page: Sequence[PoolRecord]) -> Answer:
    """A page of pools and the link to the next one."""
    detailed = query.boolean(call.args, "detailed")
    return 200, {
        "pools": [_pool(call, record, detailed) for record in page], "links": _links(call, "pools", page),
    }, {}


def pool(call: Call, record: PoolRecord, pool_name: str) -> Answer:
    """One pool, with its options: `openstack messaging pool show` has a row for them."""
    return 200, _pool(call, record, True), {}


# -- flavors --------------------------------------------------------------------------------------------------------


def _flavor(call: Call, record: FlavorRecord) -> dict[str, Any]:
    return {
        "href": _path(call, "flavors", record.name), "name": record.name, "pool_list": list(record.pools),
        "capabilities": list(record.capabilities),
    }


def flavor_list(call: Call, page: Sequence[FlavorRecord]) -> Answer:
    """A page of flavors and the link to the next one."""
    return 200, {"flavors": [_flavor(call, record) for record in page], "links": _links(call, "flavors", page)}, {}


def flavor(call: Call, record: FlavorRecord, flavor_name: str) -> Answer:
    """One flavor."""
    return 200, _flavor(call, record), {}


# -- moves ----------------------------------------------------------------------------------------------------------


def migration_begun(call: Call, value: None, queue: str) -> Answer:
    """202 and where to watch it."""
    return 202, None, {"Location": f"{_path(call, 'queues', queue)}/migration"}


def migration(call: Call, place: Place, queue: str) -> Answer:
    """Where a queue is, and its move if it has one."""
    return 200, {
        "pool": place.pool, "migration": None if place.move is None else _move(place.move, place.waiting),
    }, {}


def _move(move: Move, waiting: int) -> dict[str, Any]:
    return {
        "from": move.source, "to": move.target, "phase": move.phase, "moved": move.moved, "waiting": waiting,
        "started": iso(move.started), "error": move.error or None,
    }


def evacuation_begun(call: Call, value: None, pool_name: str) -> Answer:
    """202 and where to watch it."""
    return 202, None, {"Location": f"{_path(call, 'pools', pool_name)}/evacuation"}


def evacuation(call: Call, found: Evacuation | None, pool_name: str) -> Answer:
    """How far a pool's evacuation is."""
    shown = None if found is None else {
        "to": found.target or None, "queues": found.queues, "moving": found.moving, "bridged": found.bridged,
    }
    return 200, {"pool": pool_name, "evacuation": shown}, {}
