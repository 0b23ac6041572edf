"""The Flask application: routes, and the one way that every request goes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request

from gateway.access.audit import Trail
from gateway.access.auth import strategy
from gateway.access.policy import BY_CALL, Policy
from gateway.access.rate_limit import RateLimit
from gateway.api.v2 import claims, messages, queues, root
from gateway.config.consistency import check_settings
from gateway.config.drivers import BRIDGES, SIDE_STORES, make
from gateway.config.limits import Limits
from gateway.config.machine import check_trusted_proxy
from gateway.config.refused import REFUSALS, CannotServe, reason
from gateway.core.core import Core
from gateway.core.foreign.access import AccessRules
from gateway.core.seal import read_seal
from gateway.environ import base_of
from gateway.observe import metrics
from gateway.observe.beside import failed
from gateway.observe.logs import REQUEST_ID, new_request_id
from gateway.web.call import JSON, Service, admit, check_queue_name
from gateway.web.errors import Answer, answer, json_error
from gateway.web.healthcheck import Healthcheck
from gateway.web.router import App, Response, View

LOG = logging.getLogger(__name__)

Handler = Callable[..., Answer]

_QUEUE = "/v2/queues/<queue>"

#: From Flask's way to write a path with variables to the policy's.
_BRACES = str.maketrans("<>", "{}")

#: Methods that the metrics tell apart; whatever a client invents is one more, or they would fill the memory.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

#: Headers of every answer: no cache may keep what was answered to somebody else (caches know nothing of X-Auth-Token),
#: and no browser may take it for a page.
GUARDS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))

#: Handlers by route and method. HEAD goes to GET's handler where it has none of its own.
ROUTES: dict[str, dict[str, Handler]] = {
    "/v2/": {"GET": root.home},
    "/v2/ping": {"GET": root.ping},
    "/v2/health": {"GET": root.health},
    "/v2/queues": {"GET": queues.list_},
    _QUEUE: {
        "PUT": queues.put,
        "GET": queues.get,
        "HEAD": queues.head,
        "PATCH": queues.patch,
        "DELETE": queues.delete,
    },
    f"{_QUEUE}/stats": {"GET": queues.stats},
    f"{_QUEUE}/purge": {"POST": queues.purge},
    f"{_QUEUE}/share": {"POST": queues.share},
    f"{_QUEUE}/messages": {"GET": messages.list_, "POST": messages.post, "DELETE": messages.delete_many},
    f"{_QUEUE}/messages/<message_id>": {"GET": messages.get, "DELETE": messages.delete},
    f"{_QUEUE}/claims": {"POST": claims.post},
    f"{_QUEUE}/claims/<claim_id>": {"GET": claims.get, "PATCH": claims.patch, "DELETE": claims.delete},
}


#: What the policy has no rule for: anybody who may call at all may read it.
WITHOUT_RULE = frozenset({"/v2/"})


def rule_of(method: str, route: str) -> str | None:
    """The policy's rule for a call of ROUTES."""
    if route in WITHOUT_RULE:
        return None
    return BY_CALL[method, route.replace("<queue>", "<queue_name>").translate(_BRACES)]


class Gateway:
    """All that a configuration decides: see gateway.server.application.Application."""

    def __init__(self, conf: Any):
        self._core = make_core(conf)
        try:
            self.app = make_app(conf, self._core)
        except BaseException:
            self._core.close()
            raise
        self.monitor = self.app.monitor
        self.max_body = max_body(conf)

    def error_body(self, title: str, description: str) -> tuple[bytes, str]:
        """See gateway.server.application.ErrorBody."""
        return json_error(title, description)

    def close(self) -> None:
        """Close its connections to broker and side-store."""
        self._core.close()


def build(conf: Any) -> Gateway:
    """Raises CannotServe if the configuration is refused."""
    try:
        return Gateway(conf)
    except REFUSALS as error:
        refusal = reason(error)
    # Not inside the except: a traceback would show what the reason leaves out.
    raise CannotServe(refusal)


def make_core(conf: Any) -> Core:
    """The core with the configured bridge and side-store. Raises what is wrong with the configuration."""
    check_settings(conf)
    check_trusted_proxy(conf.wsgi.trusted_proxy)
    bridge = make(BRIDGES, conf.bridge.uri, conf.bridge)
    store = make(SIDE_STORES, conf.side_store.uri, conf.side_store)
    store.prepare()
    return Core(
        bridge,
        store,
        Limits.from_options(conf.transport),
        read_seal(conf.encryption.key, conf.encryption.other_keys),
        AccessRules(conf.bridging.allow, conf.admin_mode),
        conf.bridging.max_body,
        conf.quota.queues,
    )


def make_app(conf: Any, core: Core) -> App:
    """The WSGI application for a configuration (oslo.config) and a core."""
    service = Service(
        core=core,
        auth=strategy(conf),
        policy=Policy(conf),
        signing_key=conf.signed_url.secret_key or None,
        admin_mode=conf.admin_mode,
        enable_checksum=conf.enable_checksum,
        client_id_uuid_safe=conf.client_id_uuid_safe,
        client_id_length=(conf.min_length_client_id, conf.max_length_client_id),
        request_rate=_rate(conf.quota.requests_per_second, "requests"),
        byte_rate=_rate(conf.quota.bytes_per_second, "bytes"),
    )
    trail = Trail(conf.audit) if conf.audit.file else None
    rules = {(method, route): rule_of(method, route) for route, handlers in ROUTES.items() for method in handlers}

    def serve(request: Request, route: str, handler: Callable[[], Answer]) -> Response:
        """Run a handler; whatever it raises becomes an answer here and nowhere else."""
        start = time.perf_counter()
        request_id = new_request_id()
        token = REQUEST_ID.set(request_id)
        try:
            failure = None
            try:
                status, data, headers = handler()
            except Exception as error:
                failure = error
            if failure is not None:  # not inside the except: oslo.log would append the error to each line once more
                status, data, headers = answer(failure)
            method = request.method if request.method in METHODS else "OTHER"
            try:  # what was done is done, whatever comes of the rest
                if trail is not None and route in ROUTES:
                    action = rules.get((method, route)) or f"{method} {route}"
                    trail.record(request.environ, action, status, request_id)
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

    def refuse(request: Request, error: HTTPException) -> Response:
        """Unknown paths and methods."""

        def run() -> Answer:
            raise error

        return serve(request, "", run)

    def add_root(app: App) -> None:
        app.add("/", ["GET"], lambda request: serve(request, "/", partial(root.versions, base_of(request.environ))))

    def add_metrics(app: App) -> None:
        app.add("/metrics", ["GET"], lambda request: serve(request, "/metrics", _metrics), exact=True)

    def add_healthcheck(app: App) -> None:
        app.add(
            "/healthcheck", ["GET"],
            lambda request: serve(request, "/healthcheck", partial(healthcheck.answer, request.environ)), exact=True,
        )

    healthcheck = Healthcheck(core)
    app = App("marconi", max_body(conf), refuse, conf.wsgi.prefix)

    def view_of(route: str, handlers: dict[str, Handler]) -> View:
        def view(request: Request, **names: str) -> Response:
            method = request.method if request.method in handlers else "GET"

            def run() -> Answer:
                call = admit(service, request, rules[method, route])
                if "queue" in names:
                    check_queue_name(names["queue"])
                return handlers[method](call, **names)

            return serve(request, route, run)

        return view

    for route, handlers in ROUTES.items():
        app.add(route, handlers, view_of(route, handlers))
    add_root(app)
    add_healthcheck(app)
    if conf.metrics.bind is None:
        add_metrics(app)
    allow_browsers(app, conf)
    app.monitor = App("marconi-metrics", 0, refuse)
    for add in (add_root, add_healthcheck, add_metrics):
        add(app.monitor)
    return app


def allow_browsers(app: App, conf: Any) -> None:
    """Answer pages of other origins (CORS) as [cors] says; nothing is done unless it names one."""
    from oslo_middleware import cors

    cors.set_defaults(
        # Credentials of this API are in headers, which the page adds itself.
        allow_credentials=False,
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Client-ID", "X-Auth-Token", "X-Project-ID", "Authorization", "Content-Type", "URL-Signature", "URL-Paths",
            "URL-Methods", "URL-Expires",
        ],
        expose_headers=["X-Openstack-Request-Id", "Location", "Retry-After", "WWW-Authenticate"],
    )
    conf.register_opts(cors.OPTS, group="cors")
    if conf.cors.allowed_origin:
        app.wsgi_app = cors.CORS(app.wsgi_app, conf)  # type: ignore[method-assign]


def _rate(rate: int, unit: str) -> RateLimit | None:
    return RateLimit(rate, unit) if rate else None


def _metrics() -> Answer:
    data, content_type = metrics.render()
    return 200, data, {"Content-Type": content_type}


def max_body(conf: Any) -> int:
    """Bytes of the largest body that any call takes."""
    return max(conf.transport.max_messages_post_size, conf.transport.max_queue_metadata)
