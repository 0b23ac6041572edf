"""The one way that every request of ours goes: admit, run the handler, render, and turn any error into an answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import orjson
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request

from gateway.access.audit import AuditLog
from gateway.observe import metrics
from gateway.observe.beside import failed
from gateway.observe.logs import REQUEST_ID, new_request_id
from gateway.web.admission import admit, check_queue_name
from gateway.web.call import JSON
from gateway.web.context import Service
from gateway.web.errors import answer
from gateway.web.operations import Answer, Operation, by_route
from gateway.web.router import App, Response, View

LOG = logging.getLogger(__name__)

#: Methods that the metrics tell apart. All others count as one, or clients could fill the memory with names.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

#: Headers of every answer: no cache may keep an answer for another caller (caches don't know X-Auth-Token), and no
#: browser may take it for a page.
GUARDS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


class Serving:
    """Answers requests. Raises nothing: an error becomes an answer here and nowhere else."""

    def __init__(self, service: Service, audit: AuditLog | None):
        self._service = service
        self._audit = audit

    def add_operations(self, app: App) -> None:
        """Have an application answer the service's operations."""
        for route, operations in by_route(self._service.operations).items():
            app.add(route, operations, self._view(route, operations))

    def add(self, app: App, route: str, run: Callable[[Request], Answer], exact: bool = False) -> None:
        """Have an application answer GET requests that are no operation of an API: they need no credentials.

        ``exact``: see App.add.
        """
        app.add(route, ["GET"], lambda request: self._serve(request, route, lambda: run(request)), exact)

    def refuse(self, request: Request, error: HTTPException) -> Response:
        """The answer for an unknown path or method."""

        def run() -> Answer:
            raise error

        return self._serve(request, "", run)

    def _view(self, route: str, operations: dict[str, Operation]) -> View:
        service = self._service

        def view(request: Request, **names: str) -> Response:
            # A HEAD request without an operation of its own is a GET whose body is not sent.
            operation = operations[request.method if request.method in operations else "GET"]

            def run() -> Answer:
                call = admit(service, request, operation)
                if "queue" in names:
                    check_queue_name(names["queue"])
                if operation.parse is None:
                    value = operation.handler(call, **names)
                else:
                    value = operation.handler(call, **names, **operation.parse(call))
                return operation.render(call, value, **names)

            return self._serve(request, route, run, operation)

        return view

    def _serve(
        self, request: Request, route: str, run: Callable[[], Answer], operation: Operation | None = None
    ) -> Response:
        start = time.perf_counter()
        request_id = new_request_id()
        token = REQUEST_ID.set(request_id)
        try:
            failure = None
            try:
                status, document, headers = run()
                data = document if isinstance(document, bytes) else b"" if document is None else orjson.dumps(document)
            except Exception as error:
                failure = error
            if failure is not None:  # not inside the except: oslo.log would append the error to each line once more
                status, document, headers = answer(failure)
                data = orjson.dumps(document)
            method = request.method if request.method in METHODS else "OTHER"
            try:  # the operation is done, whatever comes of the rest
                if self._audit is not None and operation is not None:
                    action = operation.rule if operation.method == method else None
                    self._audit.record(request.environ, action or f"{method} {route}", status, request_id)
                metrics.REQUESTS.labels(route, method, status).observe(time.perf_counter() - start)
                LOG.debug("%s %s %d", method, request.path, status)
            except Exception as error:
                failed("metrics and audit", error)
        finally:
            REQUEST_ID.reset(token)
        sent = [*GUARDS, ("X-Openstack-Request-Id", request_id), *headers.items()]
        if data and "Content-Type" not in headers:
            sent.append(("Content-Type", JSON))
        return status, data, sent
