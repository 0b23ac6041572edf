"""The service itself: versions, home document, health."""

from __future__ import annotations

from gateway.api.openapi.schema import anything, boolean, constant, dictionary, list_of, number, or_null, record, text
from gateway.api.v2.schemas.common import COUNT
from gateway.web.operations import Reply

_VOLUME = record("MessageVolume", "How many messages a pool has; null if that can't be found out.", {
    "free": or_null(COUNT), "claimed": or_null(COUNT), "total": or_null(COUNT),
})

_OPERATIONS = dictionary(
    record("OperationStatus", "What came of trying one kind of operation.", {
        "seconds": number("How long it took.", at_least=0),
        "ref": text("Names this try."),
        "succeeded": boolean(),
    }),
    "By kind of operation.",
)

_POOL = {
    "storage_reachable": boolean("Do its broker and its side-store answer?"),
    "message_volume": _VOLUME,
    "operation_status": _OPERATIONS,
}

HEALTH = {200: Reply("What works, by the name of the pool.", record(
    "Health", "Health by the name of the pool. As long as there is one pool, its keys are at the top, too.", {
        "catalog_reachable": boolean("Does the side-store answer that has the catalogue?"),
        **{f"{key}?": value for key, value in _POOL.items()},
    },
    more=record("PoolHealth", "The health of one pool.", _POOL),
))}

PING = {204: Reply("The broker and the side-store of the default pool answer.")}

HOME = {200: Reply("The home document.", headers=("Link",), others={"application/json-home": record(
    "Home", "Calls by relation, in the form of draft-nottingham-json-home.", {
        "resources": dictionary(record("HomeResource", "The calls of one relation.", {
            "href-template": text("Path and query, as a URI template (RFC 6570)."),
            "href-vars": dictionary(text(), "Variables of the template."),
            "hints": record("HomeHints", "How to call it.", {
                "allow": list_of(text(), "HTTP methods."),
                "formats": dictionary(anything(), "Media types."),
            }),
        }), "By relation."),
    },
)})}

VERSIONS = {300: Reply("The versions.", record("Versions", "The versions of the API.", {
    "versions": list_of(record("Version", "A version of the API.", {
        "id": text(),
        "status": text(),
        "updated": text("When it was changed, in ISO 8601."),
        "media-types": list_of(record("VersionMediaType", "A media type of the version.", {
            "base": text(), "type": text(),
        })),
        "links": list_of(record("VersionLink", "Where the version is.", {"href": text(), "rel": constant("self")})),
    })),
}))}

READY = {200: Reply("Broker and side-store answer.", others={"text/plain": text("OK")})}

DOCUMENT = {200: Reply("This document.", dictionary(description="An OpenAPI document."))}
