"""``marconi check``: configuration, broker and side-store, each with what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oslo_config import cfg

from bridges.errors import BridgeError
from gateway.auth import UnknownStrategy, strategy
from gateway.core.bridging import AccessRules
from gateway.core.core import read_key
from gateway.drivers import BRIDGES, SIDE_STORES, UnknownScheme, make
from gateway.masking import without_password
from gateway.policy import Policy
from storage.errors import StoreError

#: What can be wrong with a configuration or with what it leads to.
FAULTS = (BridgeError, StoreError, UnknownStrategy, UnknownScheme, ValueError, cfg.Error)


def check(conf: Any) -> bool:
    """Print a line for each part; True if all is well."""
    parts: tuple[tuple[str, Callable[[], str]], ...] = (
        ("authentication", lambda: _authentication(conf)),
        ("policy", lambda: Policy(conf).describe()),
        ("encryption", lambda: _encryption(conf)),
        ("bridging", lambda: _bridging(conf)),
        ("bridge", lambda: _reach(BRIDGES, conf.bridge)),
        ("side-store", lambda: _reach(SIDE_STORES, conf.side_store)),
    )
    well = True
    print(f"{'configuration':<15} ok      {', '.join(conf.config_file or conf.default_config_files) or 'no file'}")
    for name, run in parts:
        try:
            outcome, text = "ok", run()
        except FAULTS as error:
            outcome, text, well = "FAILED", without_password(str(error)), False
        print(f"{name:<15} {outcome:<7} {text}")
    return well


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
