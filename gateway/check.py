"""``marconi check``: configuration, broker and side-store, each with what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oslo_config import cfg

from bridges.errors import BridgeError
from gateway.auth import UnknownStrategy, strategy
from gateway.conf import all_opts
from gateway.core.bridging import AccessRules
from gateway.core.core import read_key
from gateway.drivers import BRIDGES, SIDE_STORES, UnknownScheme, make
from gateway.logs import printable
from gateway.masking import without_password
from gateway.policy import Policy
from gateway.preflight import check_address, check_appendable, check_logging, check_trusted_proxy, unknown_options
from storage.errors import StoreError

#: What can be wrong with a configuration or with what it leads to.
FAULTS = (BridgeError, StoreError, UnknownStrategy, UnknownScheme, ValueError, cfg.Error)


def check(conf: Any) -> bool:
    """Print a line for each part; True if all is well."""
    parts: tuple[tuple[str, Callable[[], str]], ...] = (
        ("configuration", lambda: _configuration(conf)),
        ("authentication", lambda: _authentication(conf)),
        ("policy", lambda: Policy(conf).describe()),
        ("encryption", lambda: _encryption(conf)),
        ("bridging", lambda: _bridging(conf)),
        ("bridge", lambda: _reach(BRIDGES, conf.bridge)),
        ("side-store", lambda: _reach(SIDE_STORES, conf.side_store)),
    )
    well = True
    for name, run in parts:
        try:
            outcome, text = "ok", run()
        except FAULTS as error:
            outcome, text, well = "FAILED", printable(without_password(str(error))), False
        print(f"{name:<15} {outcome:<7} {text}")
    for text in unknown_options(conf, all_opts()):
        print(f"{'configuration':<15} {'WARNING':<7} {printable(text)}")
    return well


def _configuration(conf: Any) -> str:
    check_logging(conf)
    if conf.audit.file:
        check_appendable("[audit] file", conf.audit.file)
    check_address(conf.wsgi.bind)
    check_trusted_proxy(conf.wsgi.trusted_proxy)
    return ", ".join(conf.config_file or conf.default_config_files) or "no file"


def _authentication(conf: Any) -> str:
    return f"{conf.auth_strategy} {strategy(conf).ping()}".strip()


def _encryption(conf: Any) -> str:
    if not conf.encryption.key:
        return "no key: queues can't be encrypted"
    read_key(conf.encryption.key)
    return "key is set"


def _bridging(conf: Any) -> str:
    AccessRules(conf.bridging.allow, conf.admin_mode)
    rules = len(conf.bridging.allow)
    return f"{rules} rules" if rules else "no rules: nothing of others can be bridged"


def _reach(group: str, options: Any) -> str:
    driver = make(group, options.uri, options)
    where = driver.describe() or f"{options.uri.partition('://')[0]}://"
    try:
        if group == SIDE_STORES:
            driver.prepare()
        driver.ping()
    except FAULTS as error:
        raise ValueError(f"{where}: {error}") from error
    finally:
        driver.close()
    return where
