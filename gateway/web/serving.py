"""The one way that every request goes: admit, run the handler, render, turn any error into an answer, and record it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request
from werkzeug.wsgi import ClosingIterator

from gateway.access.audit import AuditLog
from gateway.environ import ADDED_HEADERS, HAND_OVER, HANDED_OVER, sent_path
from gateway.observe import metrics
from gateway.observe.beside import failed
from gateway.observe.logs import REQUEST_ID, new_request_id
from gateway.web.admission import admit, check_queue_name, check_topic_name
from gateway.web.call import JSON, Call
from gateway.web.context import Service
from gateway.web.errors import NotAcceptable, answer
from gateway.web.operations import Answer, Endpoint, Operation, by_route
from gateway.web.router import App, Response, View
from gateway.web.waiting import PREFER, WaitingCall, read_wait

LOG = logging.getLogger(__name__)

#: Methods that the metrics tell apart. All others count as one, or clients could fill the memory with names.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

REQUEST_ID_HEADER = "X-Openstack-Request-Id"

#: Headers of every answer but Flask's: no cache may keep an answer for another caller (caches don't know X-Auth-Token),
#: unless it is the same for all and says so itself, and no browser may take it for a page.
GUARDS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


class Serving:
    """Answers requests. An error becomes an answer here and nowhere else.

    Of each request it records metrics, a line of the log at the level DEBUG and, unless it is for an endpoint or an
    unknown path, one of the audit log. Its id is in these, in all other lines of the log, and in the answer.
    """

    def __init__(self, service: Service, audit: AuditLog | None):
        self._service = service
        self._audit = audit

    def add_operations(self, app: App) -> None:
        """Have an application answer the service's operations."""
        for version in (self._service.operations, *self._service.older.values()):
            for route, operations in by_route(version).items():
                heads = all(operation.heads for operation in operations.values())
                app.add(route, operations, self._view(route, operations), heads=heads)

    def add_endpoints(self, app: App, endpoints: Iterable[Endpoint]) -> None:
        """Have an application answer endpoints."""
        for endpoint in endpoints:
            app.add(endpoint.route, [endpoint.method], self._endpoint_view(endpoint), endpoint.exact)

    def refuse(self, request: Request, error: HTTPException) -> Response:
        """The answer for an unknown path or method."""

        def run() -> Answer:
            raise error

        answered = self._serve(request, "", run)
        assert answered is not None  # nosec B101  # for the type checker
        return answered

    def record(
        self, environ: dict[str, Any], start_response: Callable[..., Any], route: str,
        answer: Callable[..., Iterable[bytes]],
    ) -> Iterable[bytes]:
        """The answer of a WSGI application that is not ours, as Flask with a blueprint, recorded like our own.

        Raises what the application raises.
        """
        start = time.perf_counter()
        request_id = new_request_id()
        status = 500  # of an exception that the application lets through

        def start_ours(line: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, [*headers, (REQUEST_ID_HEADER, request_id)], *error)

        token = REQUEST_ID.set(request_id)
        try:
            body = answer(environ, start_ours)
        finally:
            method = environ["REQUEST_METHOD"]
            method = method if method in METHODS else "OTHER"
            self.note(environ, method, route, status, start, request_id, f"{method} {route}")
            REQUEST_ID.reset(token)
        # Anything else is not produced while it is sent, or is a file, which the server knows how to send.
        return _Streamed(body, request_id) if isinstance(body, ClosingIterator) else body

    def _endpoint_view(self, endpoint: Endpoint) -> View:
        return lambda request: self._serve(
            request, endpoint.route, lambda: endpoint.answer(self._service, request.environ)
        )

    def _view(self, route: str, operations: dict[str, Operation]) -> View:
        service = self._service

        def view(request: Request, **names: str) -> Response | None:
            start = time.perf_counter()
            # A HEAD request without an operation of its own is a GET whose body is not sent.
            operation = operations[request.method if request.method in operations else "GET"]

            def run() -> Answer | None:
                call = admit(service, request, operation)
                if "queue" in names:
                    check_queue_name(names["queue"])
                elif "topic" in names:
                    check_topic_name(names["topic"])
                if call.is_feed:
                    return self._open_feed(call, operation, names)
                if operation.parse is None:
                    value = operation.handler(call, **names)
                else:
                    values = operation.parse(call)
                    if operation.waits is not None and ("wait" in call.args or PREFER in request.environ):
                        wait = read_wait(call)
                        if wait is not None and service.places is not None:
                            return WaitingCall(
                                call, operation, names, values, wait, service.places, start, again
                            ).begin()
                    value = operation.handler(call, **names, **values)
                return operation.render(call, value, **names)

            def again(waiting: WaitingCall) -> Response | None:
                now = time.perf_counter()
                return self._serve(
                    request, route, lambda: waiting.again(now), operation, now - waiting.worked, waiting.request_id
                )

            response = self._serve(request, route, run, operation, start)
            return None if operation.feed is not None and HANDED_OVER in request.environ else response

        return view

    def _open_feed(self, call: Call, operation: Operation, names: dict[str, str]) -> Answer:
        """Open a feed; the answer is for the records alone then."""
        feeds, environ = self._service.feeds, call.request.environ
        if feeds is None or operation.feed is None or HAND_OVER not in environ:
            raise NotAcceptable(f"This server has no live feeds; only {JSON} is served")
        head = [*GUARDS, (REQUEST_ID_HEADER, REQUEST_ID.get()), *environ.get(ADDED_HEADERS, ())]
        feeds.open(call, names["queue"], head, **operation.feed(call))
        return 200, None, {}

    def _serve(
        self, request: Request, route: str, run: Callable[[], Answer | None], operation: Operation | None = None,
        start: float = 0.0, request_id: str = "",
    ) -> Response | None:
        """The answer; None if ``run`` has suspended the request. ``start``: when it began, 0 for now."""
        start = start or time.perf_counter()
        request_id = request_id or new_request_id()
        token = REQUEST_ID.set(request_id)
        try:
            failure = None
            try:
                ran = run()
                if ran is None:
                    return None
                status, document, headers = ran
                data = document if isinstance(document, bytes) else b"" if document is None else orjson.dumps(document)
            except Exception as error:
                failure = error
            if failure is not None:  # not inside the except: oslo.log would append the error to each line once more
                status, document, headers = answer(failure)
                data = orjson.dumps(document)
            method = request.method if request.method in METHODS else "OTHER"
            if operation is not None and operation.content_location is not None:
                place = operation.content_location(request.environ, status)
                headers = headers if place is None else {**headers, "Content-Location": place}
            action = None
            if operation is not None:
                action = (operation.rule if operation.method == method else None) or f"{method} {route}"
            self.note(request.environ, method, route, status, start, request_id, action)
        finally:
            REQUEST_ID.reset(token)
        guards = GUARDS if "Cache-Control" not in headers else GUARDS[1:]
        sent = [*guards, (REQUEST_ID_HEADER, request_id), *headers.items()]
        if data and "Content-Type" not in headers:
            sent.append(("Content-Type", JSON))
        return status, data, sent

    def note(
        self, environ: dict[str, Any], method: str, route: str, status: int, start: float, request_id: str,
        action: str | None,
    ) -> None:
        """Record a request in metrics, audit log and log.

        ``start``: when it began (time.perf_counter). ``action``: for the audit log, None for what it leaves out.
        """
        try:  # the request is answered, whatever comes of this
            if self._audit is not None and action is not None:
                self._audit.record(environ, action, status, request_id)
            metrics.REQUESTS.labels(route, method, status).observe(time.perf_counter() - start)
            if LOG.isEnabledFor(logging.DEBUG):
                LOG.debug("%s %s %d", method, sent_path(environ), status)
        except Exception as error:
            failed("metrics and audit", error)


class _Streamed:
    """A body that is produced while it is sent. The lines that its producer logs have the request's id, too."""

    def __init__(self, body: ClosingIterator, request_id: str):
        self._body = body
        self._request_id = request_id

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._with_id(self._body.__next__)

    def close(self) -> None:
        """Let the producer give back what it holds."""
        self._with_id(self._body.close)

    def _with_id(self, call: Callable[[], Any]) -> Any:
        token = REQUEST_ID.set(self._request_id)
        try:
            return call()
        finally:
            REQUEST_ID.reset(token)
