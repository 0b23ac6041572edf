"""The table of all endpoints: what the service answers without credentials, beside the operations of its API."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from gateway.api.openapi.document import encoded
from gateway.api.v2.schemas import service as schemas
from gateway.environ import base_of
from gateway.observe import metrics
from gateway.web.call import JSON, PLACES
from gateway.web.context import Service
from gateway.web.operations import Answer, Endpoint
from gateway.web.version import V2, Version


def versions(service: Service, environ: dict[str, Any]) -> Answer:
    """The versions of the API that are switched on, oldest first."""
    return 300, _versions((*service.older, V2), base_of(environ)), {}


@lru_cache(PLACES)
def _versions(versions: tuple[Version, ...], base: str) -> orjson.Fragment:
    """``base``: what comes before ``/v2`` in links."""
    return orjson.Fragment(orjson.dumps({
        "versions": [
            {
                "id": version.id,
                "status": version.status,
                "updated": version.updated,
                "media-types": [{"base": JSON, "type": version.media_type}],
                "links": [{"href": f"{base}{version.root}/", "rel": "self"}],
            }
            for version in versions
        ],
    }))


def openapi(service: Service, environ: dict[str, Any]) -> Answer:
    """The OpenAPI document of what this service has."""
    return 200, encoded(service.operations, CLIENTS_ENDPOINTS, service.facts, base_of(environ)), {}


def healthcheck(service: Service, environ: dict[str, Any]) -> Answer:
    """Can this gateway do its work? Raises Unready if not."""
    return service.healthcheck.answer(environ)


def show_metrics(service: Service, environ: dict[str, Any]) -> Answer:
    """The metrics of all worker processes."""
    data, content_type = metrics.render()
    return 200, data, {"Content-Type": content_type}


#: In the order of docs/api.md.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        route="/", id="get_versions", summary="List the versions of the API.", replies=schemas.VERSIONS,
        description="300: the versions of the API", answer=versions,
    ),
    Endpoint(
        route="/healthcheck", exact=True, id="check_health", summary="Ask whether this gateway can do its work.",
        replies=schemas.READY,
        description="200 `OK` when broker and side-store answer, else 503; see [operations.md](operations.md#health)",
        answer=healthcheck,
    ),
    Endpoint(
        route="/metrics", exact=True, private=True, id="get_metrics", summary="Read the metrics.", replies={},
        description="metrics for Prometheus, unless they have a listener of their own; see"
                    " [operations.md](operations.md#metrics)",
        answer=show_metrics,
    ),
    Endpoint(
        route="/v2/openapi.json", api_only=True, id="get_openapi", summary="Read this document.",
        replies=schemas.DOCUMENT,
        description="what this service has, as an OpenAPI 3.1 document; see [openapi.md](openapi.md)", answer=openapi,
    ),
)

#: Those that the OpenAPI document has.
CLIENTS_ENDPOINTS = tuple(endpoint for endpoint in ENDPOINTS if not endpoint.private)
