"""The table of all endpoints: what the service answers beside the versions of its API, without credentials."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

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


def healthcheck(service: Service, environ: dict[str, Any]) -> Answer:
    """Can this gateway do its work? Raises Unready if not."""
    return service.healthcheck.answer(environ)


def show_metrics(service: Service, environ: dict[str, Any]) -> Answer:
    """The metrics of all worker processes."""
    data, content_type = metrics.render()
    return 200, data, {"Content-Type": content_type}


#: In the order of docs/api.md.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(route="/", description="300: the versions of the API", answer=versions),
    Endpoint(
        route="/healthcheck", exact=True,
        description="200 `OK` when broker and side-store answer, else 503; see [operations.md](operations.md#health)",
        answer=healthcheck,
    ),
    Endpoint(
        route="/metrics", exact=True, private=True,
        description="metrics for Prometheus, unless they have a listener of their own; see"
                    " [operations.md](operations.md#metrics)",
        answer=show_metrics,
    ),
)
