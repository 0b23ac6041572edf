"""Flask with a shorter way from a request to its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import flask
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.wrappers import Request

from gateway.web.paths import is_plain, locate

#: Paths of which it is remembered where they lead, and characters that one of them has at the most.
ROUTES_KNOWN = 4096
LONGEST_KNOWN = 256

#: Status, body and headers as they are sent.
Response = tuple[int, bytes, list[tuple[str, str]]]

#: Gets the request, and what its route has in angle brackets by name.
View = Callable[..., Response]

#: Status lines by status.
_LINES = {status: f"{status} {phrase.upper()}" for status, phrase in HTTP_STATUS_CODES.items()}

#: Answers that have no body, and so no length (RFC 9110, 8.6).
_BODILESS = frozenset({204, 304})


class App(flask.Flask):
    """Flask's routes, configuration and test client, without what it does for each request and nothing here uses:
    contexts, sessions, signals and hooks.

    ``refuse`` gets the request and what is raised for an unknown path or method. ``monitor`` is what the listener of
    [metrics] serves.
    """

    monitor: App

    def __init__(
        self, name: str, max_body: int, refuse: Callable[[Request, HTTPException], Response], prefix: str = ""
    ):
        """``max_body``: bytes of the largest body that is read. ``prefix``: see paths.locate."""
        super().__init__(name, static_folder=None)
        self.url_map.strict_slashes = False
        self.url_map.merge_slashes = False
        self._match = self.url_map.bind("").match
        self._match_again = lru_cache(ROUTES_KNOWN)(self._match)
        self._max_body = max_body
        self._refuse = refuse
        self._views: dict[str, View] = {}
        self._prefix = prefix.rstrip("/")
        self._exact: set[str] = set()

    def add(self, route: str, methods: Iterable[str], view: View, exact: bool = False) -> None:
        """Have a view answer the requests of a route, in Flask's way to write it, with these methods.

        ``exact``: there is one path to it, without a slash at its end and without the prefix.
        """
        self._views[route] = view
        self.add_url_rule(
            route, route, methods=list(methods), provide_automatic_options=False, strict_slashes=exact or None
        )
        if exact:
            self._exact.add(route)

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
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
            again = len(path) <= LONGEST_KNOWN and path.count("/") < 5
            endpoint, names = (self._match_again if again else self._match)(path, method)
            if not bare and endpoint in self._exact:
                raise NotFound
        except HTTPException as error:
            status, data, headers = self._refuse(request, error)
        else:
            status, data, headers = self._views[endpoint](request, **names)
        if status not in _BODILESS:
            headers.append(("Content-Length", str(len(data))))
        start_response(_LINES[status], headers)
        return (data,) if data and method != "HEAD" else ()
