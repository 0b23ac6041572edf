"""Composition: from a configuration to the core, and to the applications that answer clients and monitoring."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from oslo_policy.policy import RuleDefault

from gateway.access.audit import AuditLog
from gateway.access.auth import create_strategy
from gateway.access.policy import Policy, rules_for
from gateway.access.rate_limit import RateLimit
from gateway.access.signing import sign
from gateway.access.trusts import KeystoneTrusts, create_trusts
from gateway.api.endpoints import ENDPOINTS
from gateway.api.v2.operations import OPERATIONS
from gateway.api.versions import switched_on
from gateway.config.consistency import check_settings
from gateway.config.drivers import BRIDGES, SIDE_STORES, create_driver, installed_blueprints
from gateway.config.limits import Limits
from gateway.config.machine import check_trusted_proxy
from gateway.config.notifications import Notifications
from gateway.config.pool_drivers import create_pool_drivers
from gateway.config.refused import REFUSALS, CannotServe, reason
from gateway.core.core import Core
from gateway.core.foreign.access import AccessRules
from gateway.core.pools.record import PoolRecord
from gateway.core.seal import read_seal
from gateway.core.subscriptions.addresses import Rules
from gateway.notify.notifier import Notifier
from gateway.notify.own_addresses import own_addresses
from gateway.notify.settings import DeliverySettings
from gateway.notify.tester import Tester
from gateway.stream.feeds import Feeds, FeedSettings
from gateway.stream.loop import StreamLoop
from gateway.stream.waiting import Waiting
from gateway.stream.websocket.handshake import Door
from gateway.stream.websocket.hub import Hub
from gateway.stream.websocket.pushes import Pushes
from gateway.stream.websocket.requests import ROUTE, Requests
from gateway.stream.websocket.settings import WebSocketSettings
from gateway.web.browsers import allow_browsers
from gateway.web.confirm_page import ConfirmPage
from gateway.web.context import Service
from gateway.web.errors import json_error
from gateway.web.facts import Facts
from gateway.web.healthcheck import Healthcheck
from gateway.web.router import App
from gateway.web.serving import Serving


class Gateway:
    """All that a configuration decides: see gateway.server.application.Application.

    ``deliver``: does this process deliver notifications; None: as the configuration says.
    """

    def __init__(self, conf: Any, deliver: bool | None = None):
        trusts = create_trusts(conf)
        self._core = make_core(conf, trusts)
        self._notifier: Notifier | None = None
        self._streams = StreamLoop()
        self._waiting = Waiting(self._core, self._streams, conf.quota.waiting)
        self._feeds = Feeds(
            self._streams, self._waiting.watches, self._core, FeedSettings.from_options(conf), conf.enable_checksum
        )
        try:
            service = make_service(conf, self._core, trusts, self._waiting, self._feeds)
            serving = make_serving(conf, service)
            self.app = serve_app(conf, service, serving, self._waiting)
            self._hub = make_hub(conf, service, serving, self._streams)
            self.websocket = add_websocket(conf, self.app, self._hub, service, serving)
            tester = Tester(
                self._core, DeliverySettings.from_options(conf),
                partial(address_rules, conf, self._core.all_pools.records), trusts.token if trusts else None,
            )
            self._core.subscription_tests.send = tester.send
            if conf.notification.deliver if deliver is None else deliver:
                self._notifier = make_notifier(conf, self._core, trusts)
        except BaseException:
            self._core.close()
            raise
        self.monitor = self.app.monitor
        self.max_body = max_body(conf)

    def error_body(self, title: str, description: str) -> tuple[bytes, str]:
        """See gateway.server.application.ErrorBody."""
        return json_error(title, description)

    def drain(self) -> None:
        """See gateway.server.application.Application."""
        self._waiting.drain()
        self._feeds.drain()
        self._hub.drain()

    def close(self) -> None:
        """Close its connections to broker and side-store, once the deliveries under way have ended."""
        if self._notifier is not None:
            self._core.also_tend = None
            self._notifier.close()
        self._hub.close()
        self._waiting.close()
        self._feeds.close()
        self._streams.close()
        self._core.close()


def build(conf: Any, deliver: bool | None = None) -> Gateway:
    """See Gateway. Raises CannotServe if the configuration is refused."""
    try:
        return Gateway(conf, deliver)
    except REFUSALS as error:
        refusal = reason(error)
    # Not inside the except: a traceback would show what the reason leaves out.
    raise CannotServe(refusal)


def list_rules() -> list[RuleDefault]:
    """The policy's rules for the operations of all APIs, with their defaults; oslo.policy's tools ask for them too."""
    return rules_for(OPERATIONS)


def make_core(conf: Any, trusts: KeystoneTrusts | None = None) -> Core:
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
        create_pool_drivers,
        conf.wsgi.threads,
        Notifications.from_options(conf),
        partial(sign, conf.signed_url.secret_key) if conf.signed_url.secret_key else None,
        trusts.delete if trusts else None,
    )


def make_notifier(conf: Any, core: Core, trusts: KeystoneTrusts | None = None) -> Notifier:
    """What delivers notifications: it starts when there is a subscription. Raises what is wrong with the options."""
    notifier = Notifier(
        core, DeliverySettings.from_options(conf), partial(address_rules, conf, core.all_pools.records),
        trusts.token if trusts else None,
    )
    core.also_tend = notifier.tend
    core.subscription_records.told = notifier.start
    return notifier


def address_rules(conf: Any, read_pools: Callable[[], Iterable[PoolRecord]]) -> Rules:
    """Where deliveries may go, by the pools there are now. Raises ValueError, and what ``read_pools`` raises."""
    options = conf.notification
    uris = [conf.bridge.uri, conf.side_store.uri, *(record.uri for record in read_pools())]
    sockets = [(conf.wsgi.bind, conf.wsgi.port), (conf.metrics.bind or "localhost", conf.metrics.port)]
    return Rules(
        options.allowed_networks, options.trust_networks, options.denied_networks, options.allowed_ports,
        own_addresses(uris, sockets),
    )


def make_app(
    conf: Any, core: Core, trusts: KeystoneTrusts | None = None, waiting: Waiting | None = None,
    feeds: Feeds | None = None,
) -> App:
    """The WSGI application for a configuration (oslo.config) and a core. Raises what is wrong with the former.

    ``waiting``: for requests that wait for messages; without it they are answered at once. ``feeds``: for live feeds;
    without it they are refused.
    """
    service = make_service(conf, core, trusts, waiting, feeds)
    return serve_app(conf, service, make_serving(conf, service), waiting)


def make_serving(conf: Any, service: Service) -> Serving:
    """What answers requests and records them."""
    return Serving(service, AuditLog(conf.audit) if conf.audit.file else None)


def serve_app(conf: Any, service: Service, serving: Serving, waiting: Waiting | None) -> App:
    """The WSGI application in which ``serving`` answers; see make_app."""
    app = App("marconi", max_body(conf), serving, conf.wsgi.prefix, conf.wsgi.fast_dispatch)
    serving.add_operations(app)
    serving.add_endpoints(app, [shown for shown in ENDPOINTS if conf.metrics.bind is None or not shown.private])
    if service.signing_key is not None:
        app.register_blueprint(ConfirmPage(service).blueprint())
    for blueprint in installed_blueprints():
        app.register_blueprint(blueprint)
    allow_browsers(app, conf)
    if waiting is not None:
        waiting.application = app.wsgi_app
    app.monitor = App("marconi-metrics", 0, serving)
    serving.add_endpoints(app.monitor, [endpoint for endpoint in ENDPOINTS if not endpoint.api_only])
    return app


def make_hub(conf: Any, service: Service, serving: Serving, streams: StreamLoop) -> Hub:
    """What WebSocket connections work with. The application has been made, which registers [cors]."""
    return Hub(
        streams, WebSocketSettings.from_options(conf, max_body(conf)), Requests(service, serving),
        Pushes(service.core, streams),
    )


def add_websocket(conf: Any, app: App, hub: Hub, service: Service, serving: Serving) -> Door:
    """Serve WebSocket at a path of an application; the application for a listener of its own."""
    prefix = conf.wsgi.prefix.rstrip("/")
    paths = frozenset({ROUTE, prefix + ROUTE})
    app.wsgi_app = Door(hub, service.auth, serving, prefix, paths, app.wsgi_app)  # type: ignore[method-assign]
    return Door(hub, service.auth, serving, prefix)


def make_service(
    conf: Any, core: Core, trusts: KeystoneTrusts | None = None, waiting: Waiting | None = None,
    feeds: Feeds | None = None,
) -> Service:
    """What the handlers work with. Raises what is wrong with the configuration."""
    auth = create_strategy(conf)
    core.confirmations.find_public_url = auth.find_public_url
    return Service(
        core=core,
        healthcheck=Healthcheck(core),
        operations=tuple(call for call in OPERATIONS if conf.admin_mode or not call.admin_mode),
        auth=auth,
        policy=Policy(conf, list_rules()),
        signing_key=conf.signed_url.secret_key or None,
        admin_mode=conf.admin_mode,
        enable_checksum=conf.enable_checksum,
        client_id_uuid_safe=conf.client_id_uuid_safe,
        client_id_length=(conf.min_length_client_id, conf.max_length_client_id),
        request_rate=_rate(conf.quota.requests_per_second, "requests"),
        byte_rate=_rate(conf.quota.bytes_per_second, "bytes"),
        trusts=trusts,
        older=switched_on(conf.enable_deprecated_api_versions, conf.admin_mode),
        facts=Facts.from_options(conf),
        places=waiting,
        feeds=feeds,
    )


def _rate(rate: int, unit: str) -> RateLimit | None:
    return RateLimit(rate, unit) if rate else None


def max_body(conf: Any) -> int:
    """Bytes of the largest body that any call takes."""
    return max(conf.transport.max_messages_post_size, conf.transport.max_queue_metadata)
