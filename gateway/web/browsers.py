"""Pages of other origins (CORS)."""

from __future__ import annotations

from typing import Any

from gateway.web.router import App


def allow_browsers(app: App, conf: Any) -> None:
    """Answer pages of other origins as [cors] says; without an origin there, do nothing."""
    from oslo_middleware import cors

    cors.set_defaults(
        # Credentials of this API are in headers, which the page adds itself.
        allow_credentials=False,
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Client-ID", "X-Auth-Token", "X-Project-ID", "Authorization", "Content-Type", "URL-Signature", "URL-Paths",
            "URL-Methods", "URL-Expires", "Idempotency-Key",
        ],
        expose_headers=["X-Openstack-Request-Id", "Location", "Retry-After", "WWW-Authenticate"],
    )
    conf.register_opts(cors.OPTS, group="cors")
    if conf.cors.allowed_origin:
        app.wsgi_app = cors.CORS(app.wsgi_app, conf)  # type: ignore[method-assign]
