"""An application that survives a fork: servers may load it before they fork their workers (gunicorn --preload)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from gateway.server.application import WSGI


class PerProcess:
    """A WSGI application that is built by ``make`` in each process, at the first request.

    So a process that only forks has no connections and no threads. A forked process uses nothing that it inherited: its
    parent's threads don't exist there, locks may stay held, and connections still belong to the parent.
    """

    def __init__(self, make: Callable[[], WSGI]):
        self._make = make
        self._lock = threading.Lock()
        self._app: WSGI | None = None
        #: Inherited applications. They are kept, as this process must not close what they have open.
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
