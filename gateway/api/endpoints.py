"""The table of all endpoints: what the service answers beside the versions of its API, without credentials."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from gateway.environ import base_of
from gateway.observe import metrics
from gateway.web.call import PLACES
from gateway.web.context import Service
from gateway.web.operations import Answer, Endpoint


def versions(service: Service, environ: dict[str, Any]) -> Answer:
    """The versions of the API."""
    return 300, _versions(base_of(environ)), {}


@lru_cache(PLACES)
def _versions(base: str) -> orjson.Fragment:
    """``base``: what comes before ``/v2`` in links."""
    return orjson.Fragment(orjson.dumps({
        "versions": [{
            "id": "2",
            "status": "CURRENT",
            "updated": "2026-11-23T00:00:00Z",
            "media-types": [
                {"base": "application/json", "type": "application/vnd.openstack.messaging-v2+json"},
            ],
            "links": [{"href": f"{base}/v2/", "rel": "self"}],
        }],
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
