"""All options, each declared once, by section. docs/generate.py writes the sample file and the reference from here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from oslo_config import cfg

from gateway.config.drivers import BRIDGES, SIDE_STORES, driver_classes
from gateway.config.options.access import AUDIT_OPTS, BASIC_OPTS, DEFAULT_OPTS, QUOTA_OPTS, SIGNED_URL_OPTS
from gateway.config.options.backends import BRIDGE_OPTS, SIDE_STORE_OPTS
from gateway.config.options.messaging import BRIDGING_OPTS, ENCRYPTION_OPTS, TRANSPORT_OPTS
from gateway.config.options.notification import NOTIFICATION_OPTS
from gateway.config.options.notification_mail import MAIL_OPTS
from gateway.config.options.server import METRICS_OPTS, WSGI_OPTS
from gateway.config.options.stream import STREAM_OPTS, WEBSOCKET_OPTS


def list_opts() -> list[tuple[str | None, Sequence[cfg.Opt]]]:
    """The gateway's and the drivers' options by section (None: [DEFAULT]); entry point of oslo.config's generator."""
    return [
        (None, DEFAULT_OPTS),
        ("wsgi", WSGI_OPTS),
        ("bridge", _with_driver_options(BRIDGE_OPTS, BRIDGES)),
        ("side_store", _with_driver_options(SIDE_STORE_OPTS, SIDE_STORES)),
        ("transport", TRANSPORT_OPTS),
        ("stream", STREAM_OPTS),
        ("signed_url", SIGNED_URL_OPTS),
        ("encryption", ENCRYPTION_OPTS),
        ("bridging", BRIDGING_OPTS),
        ("notification", (*NOTIFICATION_OPTS, *MAIL_OPTS)),
        ("websocket", WEBSOCKET_OPTS),
        ("quota", QUOTA_OPTS),
        ("metrics", METRICS_OPTS),
        ("audit", AUDIT_OPTS),
        ("basic", BASIC_OPTS),
    ]


def _with_driver_options(own: Sequence[cfg.Opt], group: str) -> list[cfg.Opt]:
    """Our options of a section, then those of all installed drivers. Drivers may share an option that is the same."""
    options: dict[str, cfg.Opt] = {}
    for option in itertools.chain(own, *(driver.OPTS for driver in driver_classes(group))):
        options.setdefault(option.name, option)
    return list(options.values())


def all_opts() -> list[tuple[str | None, Sequence[cfg.Opt]]]:
    """As list_opts, and the options of the libraries, as far as these list them before they are used."""
    from oslo_log import _options as of_log
    from oslo_middleware import opts as of_middleware
    from oslo_policy import opts as of_policy

    return [*list_opts(), *of_log.list_opts(), *of_middleware.list_opts(), *of_policy.list_opts()]
