"""``marconi check``: tries each part of a configuration, and says what is wrong with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

from bridges.errors import BridgeError
from gateway.access.audit import check_file
from gateway.access.auth import create_strategy
from gateway.access.exposure import check_exposure
from gateway.access.policy import Policy
from gateway.access.trusts import create_trusts
from gateway.app import list_rules
from gateway.config.address import UNIX
from gateway.config.consistency import check_settings
from gateway.config.drivers import BRIDGES, SIDE_STORES, create_driver
from gateway.config.machine import check_address, check_trusted_proxy, unknown_options
from gateway.config.mail import THIRD_PART, MailSettings
from gateway.config.options import all_opts
from gateway.config.pool_drivers import create_pool_drivers
from gateway.config.refused import REFUSALS
from gateway.core.errors import CoreError
from gateway.core.foreign.access import AccessRules
from gateway.core.pools.record import PoolRecord, PoolRecords
from gateway.core.seal import read_seal
from gateway.notify.smtp import Unreachable, connect
from gateway.observe.log_options import check_logging
from gateway.observe.logs import printable
from gateway.observe.masking import without_password
from gateway.server import monitor, websocket_port
from storage.errors import StoreError

#: What can be wrong with a configuration or with what it leads to.
FAULTS = (BridgeError, StoreError, CoreError, *REFUSALS)


def check(conf: Any) -> bool:
    """Print a line for each part; True if all is well."""
    mail = MailSettings.from_options(conf)
    parts: tuple[tuple[str, Callable[[], str]], ...] = (
        ("configuration", lambda: _configuration(conf)),
        ("address", lambda: _address(conf)),
        ("authentication", lambda: _authentication(conf)),
        *([("trustee", lambda: _trustee(conf))] if conf.auth_strategy == "keystone" else []),
        ("policy", lambda: Policy(conf, list_rules()).describe()),
        *([("metrics", lambda: monitor.check(conf))] if conf.metrics.bind else []),
        *([("websocket", lambda: websocket_port.check(conf))] if conf.websocket.bind else []),
        ("encryption", lambda: _encryption(conf)),
        ("bridging", lambda: _bridging(conf)),
        ("audit", lambda: _audit(conf.audit)),
        ("bridge", lambda: _reach(BRIDGES, conf.bridge)),
        ("side-store", lambda: _reach(SIDE_STORES, conf.side_store)),
        *([("mail", lambda: _mail(mail))] if mail.is_configured else []),
    )
    well = {name: _tried(name, run) for name, run in parts}
    pools: list[PoolRecord] = []
    if well["side-store"] and well["encryption"]:  # which it takes to know the pools
        well["pools"] = _tried("pools", lambda: _read_pools(conf, pools))
    for pool in pools:
        well[f"pool {pool.name}"] = _tried(f"pool {pool.name}", partial(_reach_pool, pool))
    for text in unknown_options(conf, all_opts()):
        print(f"{'configuration':<15} {'WARNING':<7} {printable(text)}")
    return all(well.values())


def _tried(name: str, run: Callable[[], str]) -> bool:
    """Print the line of one part; True if it is well."""
    well = True
    try:
        outcome, text = "ok", run()
    except FAULTS as error:
        outcome, text, well = "FAILED", printable(without_password(str(error))), False
    print(f"{name:<15} {outcome:<7} {text}")
    return well


def _read_pools(conf: Any, pools: list[PoolRecord]) -> str:
    """Add the pools of the catalogue to the list."""
    store = create_driver(SIDE_STORES, conf.side_store.uri, conf.side_store)
    try:
        pools += PoolRecords(store, read_seal(conf.encryption.key, conf.encryption.other_keys)).all()
    finally:
        store.close()
    return f"{len(pools)} besides the default one" if pools else "none but the default one"


def _reach_pool(record: PoolRecord) -> str:
    """Where a pool's messages wait, and where they land if that is not the service's side-store."""
    drivers = [driver for driver in create_pool_drivers(record.uri, record.options) if driver is not None]
    where = " and ".join(driver.describe() for driver in drivers if driver.describe()) or "loopback://"
    try:
        for driver in drivers:
            driver.ping()
    except FAULTS as error:
        raise ValueError(f"{where}: {error}") from error
    finally:
        for driver in drivers:
            driver.close()
    return where


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


def _trustee(conf: Any) -> str:
    """The user that callers give trusts to, after a login."""
    trusts = create_trusts(conf)
    return trusts.ping() if trusts else "none: subscribers of type trust+http and trust+https are refused"


def _mail(settings: MailSettings) -> str:
    """The command that sends mail, or the server, after a login."""
    if settings.mode == THIRD_PART:
        command = settings.command.split()[:1]
        if not command or shutil.which(command[0]) is None:
            raise ValueError("[notification] smtp_command: there is no such command")
        return command[0]
    if not settings.host:
        raise ValueError("[notification] smtp_host is unset")
    try:
        connect(settings).goodbye()
    except Unreachable as error:
        raise ValueError(f"{settings.server}: {error}") from error
    return f"{settings.server}, {f'as {settings.user}' if settings.user else 'without a login'}"


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
