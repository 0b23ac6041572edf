"""Composition: from a configuration to the core, and to the applications that answer clients and monitoring."""

from __future__ import annotations

from typing import Any

from oslo_policy.policy import RuleDefault

from gateway.access.audit import AuditLog
from gateway.access.auth import create_strategy
from gateway.access.policy import Policy, rules_for
from gateway.access.rate_limit import RateLimit
from gateway.api.v2.home import versions
from gateway.api.v2.operations import OPERATIONS
from gateway.config.consistency import check_settings
from gateway.config.drivers import BRIDGES, SIDE_STORES, create_driver, installed_blueprints
from gateway.config.limits import Limits
from gateway.config.machine import check_trusted_proxy
from gateway.config.refused import REFUSALS, CannotServe, reason
from gateway.core.core import Core
from gateway.core.foreign.access import AccessRules
from gateway.core.seal import read_seal
from gateway.environ import base_of
from gateway.observe import metrics
from gateway.web.browsers import allow_browsers
from gateway.web.context import Service
from gateway.web.errors import json_error
from gateway.web.healthcheck import Healthcheck
from gateway.web.operations import Answer
from gateway.web.router import App
from gateway.web.serving import Serving


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


def list_rules() -> list[RuleDefault]:
    """The policy's rules for the operations of all APIs, with their defaults; oslo.policy's tools ask for them too."""
    return rules_for(OPERATIONS)


def make_core(conf: Any) -> Core:
    """The core with the configured bridge and side-store. Raises what is wrong with the configuration."""
    check_settings(conf)
    check_trusted_proxy(conf.wsgi.trusted_proxy)
    bridge = create_driver(BRIDGES, conf.bridge.uri, conf.bridge)
    store = create_driver(SIDE_STORES, conf.side_store.uri, conf.side_store)
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
    """The WSGI application for a configuration (oslo.config) and a core. Raises what is wrong with the former."""
    serving = Serving(make_service(conf, core), AuditLog(conf.audit) if conf.audit.file else None)
    healthcheck = Healthcheck(core)

    def add_root(app: App) -> None:
        serving.add(app, "/", lambda request: versions(base_of(request.environ)))

    def add_healthcheck(app: App) -> None:
        serving.add(app, "/healthcheck", lambda request: healthcheck.answer(request.environ), exact=True)

    def add_metrics(app: App) -> None:
        serving.add(app, "/metrics", lambda request: _metrics(), exact=True)

    app = App("marconi", max_body(conf), serving.refuse, conf.wsgi.prefix, conf.wsgi.fast_dispatch)
    serving.add_operations(app)
    add_root(app)
    add_healthcheck(app)
    if conf.metrics.bind is None:
        add_metrics(app)
    for blueprint in installed_blueprints():
        app.register_blueprint(blueprint)
    allow_browsers(app, conf)
    app.monitor = App("marconi-metrics", 0, serving.refuse)
    for add in (add_root, add_healthcheck, add_metrics):
        add(app.monitor)
    return app


def make_service(conf: Any, core: Core) -> Service:
    """What the handlers work with. Raises what is wrong with the configuration."""
    return Service(
        core=core,
        operations=OPERATIONS,
        auth=create_strategy(conf),
        policy=Policy(conf, list_rules()),
        signing_key=conf.signed_url.secret_key or None,
        admin_mode=conf.admin_mode,
        enable_checksum=conf.enable_checksum,
        client_id_uuid_safe=conf.client_id_uuid_safe,
        client_id_length=(conf.min_length_client_id, conf.max_length_client_id),
        request_rate=_rate(conf.quota.requests_per_second, "requests"),
        byte_rate=_rate(conf.quota.bytes_per_second, "bytes"),
    )


def _rate(rate: int, unit: str) -> RateLimit | None:
    return RateLimit(rate, unit) if rate else None


def _metrics() -> Answer:
    data, content_type = metrics.render()
    return 200, data, {"Content-Type": content_type}


def max_body(conf: Any) -> int:
    """Bytes of the largest body that any call takes."""
    return max(conf.transport.max_messages_post_size, conf.transport.max_queue_metadata)
