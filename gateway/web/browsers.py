"""Pages of other origins (CORS)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from gateway.environ import ADDED_HEADERS
from gateway.web.router import App

#: Origins whose headers are remembered, and the longest one that is, in characters.
REMEMBERED = 1024
LONGEST_REMEMBERED = 256

ALLOWED = "access-control-allow-origin"

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Headers = list[tuple[str, str]]


def allow_browsers(app: App, conf: Any) -> None:
    """Answer pages of other origins as [cors] says; without an origin there, do nothing."""
    from oslo_middleware import cors

    cors.set_defaults(
        # Credentials of this API are in headers, which the page adds itself.
        allow_credentials=False,
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Client-ID", "X-Auth-Token", "X-Project-ID", "Authorization", "Content-Type", "URL-Signature", "URL-Paths",
            "URL-Methods", "URL-Expires", "Idempotency-Key", "Prefer", "Last-Event-ID",
        ],
        expose_headers=["X-Openstack-Request-Id", "Location", "Retry-After", "WWW-Authenticate", "Preference-Applied"],
    )
    conf.register_opts(cors.OPTS, group="cors")
    if conf.cors.allowed_origin:
        app.wsgi_app = ForBrowsers(  # type: ignore[method-assign]
            app.wsgi_app, cors.CORS(app.wsgi_app, conf), cors.CORS(_nothing, conf)
        )


class ForBrowsers:
    """Adds the headers of oslo.middleware's filter, which would take no application that leaves a request unanswered.

    Those are feeds, which send their headers themselves: they find them as ADDED_HEADERS in the environment.
    """

    def __init__(self, app: WSGI, filtered: WSGI, empty: WSGI):
        """``filtered``: the application behind the filter; ``empty``: one that answers nothing behind it."""
        self._app = app
        self._filtered = filtered
        self._empty = empty
        self._headers_cached = lru_cache(REMEMBERED)(self._headers)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")
        if origin is None:
            return self._app(environ, start_response)
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return self._filtered(environ, start_response)
        added = (self._headers_cached if len(origin) <= LONGEST_REMEMBERED else self._headers)(origin)
        environ[ADDED_HEADERS] = added

        def start(status: str, headers: Headers, *error: Any) -> Any:
            knows_better = any(name.lower() == ALLOWED for name, _ in headers)
            return start_response(status, headers if knows_better else [*headers, *added], *error)

        return self._app(environ, start)

    def _headers(self, origin: str) -> Headers:
        """What the filter adds to answers for pages of an origin."""
        found: Headers = []
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "", "SERVER_PORT": "", "wsgi.url_scheme": "http",
            "HTTP_ORIGIN": origin,
        }
        self._empty(environ, lambda status, headers, *error: found.extend(headers))
        return [(name, value) for name, value in found if name.lower().startswith(("access-control-", "vary"))]


def _nothing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """An empty answer."""
    start_response("204 No Content", [])
    return ()
