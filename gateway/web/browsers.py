"""Pages of other origins (CORS)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gateway.web.router import App

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def allow_browsers(app: App, conf: Any) -> None:
    """Answer pages of other origins as [cors] says; without an origin there, do nothing."""
    from oslo_middleware import cors

    cors.set_defaults(
        # Credentials of this API are in headers, which the page adds itself.
        allow_credentials=False,
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Client-ID", "X-Auth-Token", "X-Project-ID", "Authorization", "Content-Type", "URL-Signature", "URL-Paths",
            "URL-Methods", "URL-Expires", "Idempotency-Key", "Prefer",
        ],
        expose_headers=["X-Openstack-Request-Id", "Location", "Retry-After", "WWW-Authenticate", "Preference-Applied"],
    )
    conf.register_opts(cors.OPTS, group="cors")
    if conf.cors.allowed_origin:
        app.wsgi_app = _left_open(cors.CORS, app.wsgi_app, conf)  # type: ignore[method-assign, assignment]


class LeftOpen(Exception):
    """A request is not answered now: the connection is handed over, or the answer comes later."""


def _left_open(middleware: Callable[..., WSGI], app: WSGI, conf: Any) -> WSGI:
    """The application within a middleware that takes it for granted that each request is answered."""

    def answered(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        has_started = False

        def start(*args: Any) -> Any:
            nonlocal has_started
            has_started = True
            return start_response(*args)

        body = app(environ, start)
        if not has_started:
            raise LeftOpen
        return body

    within = middleware(answered, conf)

    def outer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            return within(environ, start_response)
        except LeftOpen:
            return ()

    return outer
