"""An application that survives a fork: servers may load it before they fork their workers (gunicorn --preload)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from gateway.server.application import WSGI


class PerProcess:
    """A WSGI application that ``make`` makes for each process that is asked to serve, when it first is.

    So a process that only forks has no connections and no threads; and one that was forked uses nothing of its
    parent's: threads don't exist there, locks may be held by nobody, and connections are still the parent's.
    """

    def __init__(self, make: Callable[[], WSGI]):
        self._make = make
        self._lock = threading.Lock()
        self._app: WSGI | None = None
        #: What was inherited: kept, as what it has open must not be closed from here.
        self._parents: list[WSGI] = []
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        if self._app is not None:
            self._parents.append(self._app)
            self._app = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        app = self._app
        if app is None:
            with self._lock:
                if self._app is None:
                    self._app = self._make()
                app = self._app
        return app(environ, start_response)
