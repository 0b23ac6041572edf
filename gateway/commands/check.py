"""``marconi check``: tries each part of a configuration, and says what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from bridges.errors import BridgeError
from gateway.access.audit import check_file
from gateway.access.auth import create_strategy
from gateway.access.exposure import check_exposure
from gateway.access.policy import Policy
from gateway.app import list_rules
from gateway.config.address import UNIX
from gateway.config.consistency import check_settings
from gateway.config.drivers import BRIDGES, SIDE_STORES, create_driver
from gateway.config.machine import check_address, check_trusted_proxy, unknown_options
from gateway.config.options import all_opts
from gateway.config.refused import REFUSALS
from gateway.core.foreign.access import AccessRules
from gateway.core.seal import read_seal
from gateway.observe.log_options import check_logging
from gateway.observe.logs import printable
from gateway.observe.masking import without_password
from gateway.server import monitor
from storage.errors import StoreError

#: What can be wrong with a configuration or with what it leads to.
FAULTS = (BridgeError, StoreError, *REFUSALS)


def check(conf: Any) -> bool:
    """Print a line for each part; True if all is well."""
    parts: tuple[tuple[str, Callable[[], str]], ...] = (
        ("configuration", lambda: _configuration(conf)),
        ("address", lambda: _address(conf)),
        ("authentication", lambda: _authentication(conf)),
        ("policy", lambda: Policy(conf, list_rules()).describe()),
        *([("metrics", lambda: monitor.check(conf))] if conf.metrics.bind else []),
        ("encryption", lambda: _encryption(conf)),
        ("bridging", lambda: _bridging(conf)),
        ("audit", lambda: _audit(conf.audit)),
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
    check_settings(conf)
    check_logging(conf)
    check_trusted_proxy(conf.wsgi.trusted_proxy)
    return ", ".join(conf.config_file or conf.default_config_files) or "no file"


def _address(conf: Any) -> str:
    """Where it would listen; it may be listening there right now."""
    check_exposure(conf)
    bind: str = conf.wsgi.bind
    if not bind.startswith(UNIX):
        check_address(bind)
        return f"[{bind}]:{conf.wsgi.port}" if ":" in bind else f"{bind}:{conf.wsgi.port}"
    folder = os.path.dirname(bind.removeprefix(UNIX))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"[wsgi] bind: {folder} " + ("is not writable" if os.path.isdir(folder) else "is no folder"))
    return f"{bind} (mode {conf.wsgi.socket_mode})"


def _audit(options: Any) -> str:
    if not options.file:
        return "no file: nothing is recorded"
    try:
        check_file(options.file)
    except OSError as error:
        raise ValueError(f"[audit] file: {error}") from error
    return str(options.file)


def _authentication(conf: Any) -> str:
    return f"{conf.auth_strategy} {create_strategy(conf).ping()}".strip()


def _encryption(conf: Any) -> str:
    seal = read_seal(conf.encryption.key, conf.encryption.other_keys)
    others = ", ".join(key for key in seal.ring.keys if key != seal.key)
    return (
        (f"key {seal.key} encrypts" if seal.key else "no key: queues can't be encrypted")
        + (f"; {others} only to decrypt" if others else "")
    )


def _bridging(conf: Any) -> str:
    AccessRules(conf.bridging.allow, conf.admin_mode)
    rules = len(conf.bridging.allow)
    return f"{rules} rules" if rules else "no rules: nothing of others can be bridged"


def _reach(group: str, options: Any) -> str:
    driver = create_driver(group, options.uri, options)
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
