"""Flask, with a shorter way from a request for one of our own operations to its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Protocol

import flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import RequestRedirect, Rule
from werkzeug.wrappers import Request

from gateway.environ import RESUMED, SUSPEND, base_of
from gateway.web.paths import is_plain, locate

#: How many paths we cache the route of, and the longest path worth caching, in characters.
CACHED_ROUTES = 4096
LONGEST_CACHED = 256

#: Status, body and headers as they are sent.
Response = tuple[int, bytes, list[tuple[str, str]]]

#: Gets the request, and the route's variables by name. None: the request has been suspended, and is answered later, or
#: it gets no answer, as its connection is handed over.
View = Callable[..., Response | None]

#: Status lines by status.
_LINES = {status: f"{status} {phrase.upper()}" for status, phrase in HTTP_STATUS_CODES.items()}

#: Statuses of answers that have no body, and so no length (RFC 9110, 8.6).
_BODILESS = frozenset({204, 304})


class Serving(Protocol):
    """Answers what has no view, and records what Flask answers."""

    def refuse(self, request: Request, error: HTTPException) -> Response:
        """The answer for an unknown path or method; ``error`` is what was raised for it."""

    def record(
        self, environ: dict[str, Any], start_response: Callable[..., Any], route: str,
        answer: Callable[..., Iterable[bytes]],
    ) -> Iterable[bytes]:
        """The answer of ``answer``, a WSGI application, to a request of that route."""


class _Rule(Rule):
    """A rule of werkzeug's, which adds HEAD to GET unless ``heads`` is false."""

    def __init__(self, *args: Any, heads: bool = True, **options: Any):
        super().__init__(*args, **options)
        if not heads and self.methods is not None:
            self.methods.discard("HEAD")


class App(flask.Flask):
    """A Flask application. Views that are added with ``add`` are called without what Flask does for each request:
    contexts, sessions, signals and hooks. Everything else that is registered on it, like blueprints, is served by
    Flask.

    Each path is checked first, for both (see paths.locate), and both are told where the service's own place is by
    SCRIPT_NAME. A path that neither knows is refused by ``serving``, which also records what Flask answers.

    ``monitor`` is what the listener of [metrics] serves.
    """

    monitor: App
    url_rule_class = _Rule

    def __init__(
        self, name: str, max_body: int, serving: Serving, prefix: str = "", fast: bool = True,
    ):
        """``max_body``: bytes of the largest body that is read. ``prefix``: see paths.locate.

        ``fast``: whether views that are added with ``add`` are called without Flask; if not, Flask's hooks and signals
        see their requests too.
        """
        super().__init__(name, static_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = max_body
        self.url_map.merge_slashes = False
        self._match = self.url_map.bind("").match
        self._match_cached = lru_cache(CACHED_ROUTES)(self._match)
        self._max_body = max_body
        self._serving = serving
        self._views: dict[str, View] = {}
        self._prefix = prefix.rstrip("/")
        self._exact: set[str] = set()
        self._fast = fast

    def add(
        self, route: str, methods: Iterable[str], view: View, exact: bool = False, heads: bool = True,
    ) -> None:
        """Have a view answer the requests of a route, in Flask's way to write it, with these methods.

        ``exact``: there is one path to it, without a slash at its end and without the prefix. ``heads``: HEAD comes
        with GET.
        """
        self._views[route] = view
        self.add_url_rule(
            route, route, _for_flask(view), methods=list(methods), provide_automatic_options=False,
            strict_slashes=exact, heads=heads,
        )
        if exact:
            self._exact.add(route)

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if RESUMED in environ:
            return _answered(environ.pop(RESUMED)(), environ["REQUEST_METHOD"], start_response)
        # Not populated: environ and request would refer to each other, which only the garbage collector ends.
        request = Request(environ, populate_request=False)
        request.max_content_length = self._max_body
        method = request.method
        path = environ.get("PATH_INFO", "")
        bare = True
        try:
            if self._prefix or not is_plain(environ, path):
                path, bare = locate(environ, self._prefix)
            # What comes below a queue's messages and claims has ids in it: others each time.
            cached = len(path) <= LONGEST_CACHED and path.count("/") < 5
            endpoint, names = (self._match_cached if cached else self._match)(path, method)
            if not bare and endpoint in self._exact:
                raise NotFound
        except HTTPException as error:
            route = self._route_at_flask(path, method, error)
            if route is not None:
                return self._serving.record(environ, start_response, route, self._through_flask)
            response: Response | None = self._serving.refuse(request, error)
        else:
            view = self._views.get(endpoint)
            if view is None:
                route = self._match(path, method, return_rule=True)[0].rule
                return self._serving.record(environ, start_response, route, self._through_flask)
            if not self._fast:
                return self._through_flask(environ, start_response)
            response = view(request, **names)
        return _answered(response, method, start_response)

    def _route_at_flask(self, path: str, method: str, error: HTTPException) -> str | None:
        """The route of a path that was not added with ``add``, if Flask has an answer to ``error`` there."""
        if isinstance(error, MethodNotAllowed):
            rule = self._match(path, next(iter(error.valid_methods or ())), return_rule=True)[0]
            return None if rule.endpoint in self._views else rule.rule
        if isinstance(error, RequestRedirect):
            try:
                return self._match(f"{path}/", method, return_rule=True)[0].rule
            except HTTPException:
                return ""  # Flask has a rule that redirects to somewhere else
        return None

    def _through_flask(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if base := base_of(environ):
            environ["SCRIPT_NAME"] = base
        return super().wsgi_app(environ, start_response)


def _answered(response: Response | None, method: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The answer as WSGI has it; nothing for a request that has been suspended."""
    if response is None:
        return ()
    status, data, headers = response
    if status not in _BODILESS:
        headers.append(("Content-Length", str(len(data))))
    start_response(_LINES[status], headers)
    return (data,) if data and method != "HEAD" else ()


def _for_flask(view: View) -> Callable[..., flask.Response]:
    """A view as Flask calls it."""

    def flask_view(**names: str) -> flask.Response:
        flask.request.environ.pop(SUSPEND, None)  # Flask wants an answer now
        # The server drops what Flask makes of a connection that is handed over.
        status, data, headers = view(flask.request, **names) or (200, b"", [])
        response = flask.Response(data, status)
        response.headers.clear()  # Flask's own Content-Type
        response.headers.extend(headers)
        return response

    return flask_view
