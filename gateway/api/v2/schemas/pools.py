"""Pools, flavors, and moves from one pool to another."""

from __future__ import annotations

from gateway.api.openapi.schema import Schema, dictionary, integer, list_of, one_of, or_null, record, text, time
from gateway.api.v2 import parse_pools as parse
from gateway.api.v2.schemas.common import COUNT, LOCATION, page
from gateway.core.migration.move import DRAINING, LANDED, SETTLING, SWITCHING, WAITING
from gateway.web.operations import Body, Reply

_WEIGHT = integer("How many of the new queues it gets.", at_least=0, at_most=parse.MAX_WEIGHT)
_URI = text("A broker or a side-store.", at_least=1, at_most=parse.MAX_URI, example="amqp://broker2/")
_FLAVOR = or_null(text("Name of the flavor that it belongs to; empty for none."))
_OPTIONS = or_null(dictionary(description="Options of its drivers."))

POOL = Body(record("NewPool", "A pool to create or replace.", {
    "weight": _WEIGHT, "uri": _URI, "flavor?": _FLAVOR, "options?": _OPTIONS,
}), required=True)

POOL_CHANGES = Body(record("PoolChanges", "What to change.", {
    "weight?": _WEIGHT, "uri?": _URI, "flavor?": _FLAVOR, "options?": _OPTIONS,
}, more=True, at_least=1), required=True)

_POOL: dict[str, Schema] = {
    "href": text("Its path."), "name": text(), "weight": COUNT, "uri": text("As it was given, with its password."),
    "flavor": text("Name of the flavor that it belongs to; empty for none."),
}

GOT_POOL = {200: Reply("The pool.", record("Pool", "A pool.", {**_POOL, "options": dictionary()}))}

LISTED_POOLS = {200: Reply("A page of pools.", page(
    "PoolPage", "A page of pools by name.", "pools",
    record("ListedPool", "A pool in a list.", {**_POOL, "options?": dictionary(description="With `detailed`.")}),
))}

CREATED = {201: Reply("It is there.", headers=(LOCATION,))}

IN_USE = {403: "Your roles don't allow it; or a flavor, a queue or a subscription uses the pool."}

_POOL_LIST = list_of(text(), "Names of its pools.", at_least=1)
_NAME = text(at_least=1, at_most=parse.MAX_CAPABILITY)
_CAPABILITIES = or_null(one_of(
    list_of(_NAME, at_most=parse.MAX_CAPABILITIES),
    dictionary(description="Its keys, unless they are false."),
    description="What it is for, in your own words.",
))

FLAVOR = Body(record("NewFlavor", "A flavor to create or replace.", {
    "pool_list": _POOL_LIST, "capabilities?": _CAPABILITIES,
}), required=True)

FLAVOR_CHANGES = Body(record("FlavorChanges", "What to change.", {
    "pool_list?": _POOL_LIST, "capabilities?": _CAPABILITIES,
}, more=True, at_least=1), required=True)

_SHOWN_FLAVOR = record("Flavor", "A flavor.", {
    "href": text("Its path."), "name": text(), "pool_list": list_of(text(), "Names of its pools."),
    "capabilities": list_of(text()),
})

GOT_FLAVOR = {200: Reply("The flavor.", _SHOWN_FLAVOR)}

LISTED_FLAVORS = {200: Reply("A page of flavors.", page(
    "FlavorPage", "A page of flavors by name.", "flavors", _SHOWN_FLAVOR,
))}

# -- moves ----------------------------------------------------------------------------------------------------------

MIGRATE = Body(record("Migrate", "Where to.", {"pool": text("Name of the pool.", at_least=1)}), required=True)

BEGUN = {202: Reply("It has begun; `Location` is where to watch it.", headers=(LOCATION,))}

MIGRATION = {200: Reply("Where it is.", record("Migration", "Which pool a queue is in.", {
    "pool": text("Name of the pool."),
    "migration": or_null(record("Move", "A move that is under way.", {
        "from": text("Name of a pool."),
        "to": text("Name of a pool."),
        "phase": text(choices=[WAITING, LANDED, DRAINING, SWITCHING, SETTLING]),
        "moved": {**COUNT, "description": "Messages that have moved."},
        "waiting": {**COUNT, "description": "Messages that have to move."},
        "started": time(),
        "error": or_null(text("What keeps it from going on.")),
    })),
}))}

EVACUATE = Body(record("Evacuate", "Where to.", {
    "pool?": text("Name of the pool; if it is empty or missing, each queue goes to where a new one would."),
}))

EVACUATION = {200: Reply("How far it is.", record("Evacuation", "How far the evacuation of a pool is.", {
    "pool": text("Name of the pool."),
    "evacuation": or_null(record("EvacuationProgress", "An evacuation that is under way.", {
        "to": or_null(text("Name of the pool that the queues go to, if that is one.")),
        "queues": {**COUNT, "description": "Queues that are still there."},
        "moving": COUNT,
        "bridged": {**COUNT, "description": "Queues that can't be moved as they are bridged."},
    })),
}))}
