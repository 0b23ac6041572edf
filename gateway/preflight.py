"""What a configuration needs of the machine: files, libraries, an address. For the start and `marconi check`."""

from __future__ import annotations

import configparser
import difflib
import errno
import importlib.util
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg

#: Where syslog listens.
SYSLOG = ("/dev/log", "/var/run/syslog")

#: Sections of libraries whose options depend on more than a list of them tells.
NOT_OURS = frozenset({"keystone_authtoken", "service_auth"})


def check_appendable(option: str, path: str) -> None:
    """Raises ValueError if no file can be written at a path; it makes none."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        complaint = "is a folder"
    elif not os.path.isdir(folder):
        complaint = f"there is no folder {folder}"
    elif os.path.exists(path) and not os.access(path, os.W_OK):
        complaint = "may not be written to by this user"
    elif not os.path.exists(path) and not os.access(folder, os.W_OK | os.X_OK):
        complaint = f"the folder {folder} may not be written to by this user"
    else:
        return
    raise ValueError(f"{option}: {path}: {complaint}")


def check_logging(conf: Any) -> None:
    """Raises ValueError if the log can't go where it should."""
    if conf.log_config_append:
        _check_log_config(conf.log_config_append)
        return  # the rest does not count
    for pair in conf.default_log_levels:
        level = pair.partition("=")[2]
        if not level.isdecimal() and level not in logging.getLevelNamesMapping():
            raise ValueError(f"default_log_levels: {pair!r} is not of the form logger=LEVEL")
    name = conf.log_file
    if name is None and conf.log_dir:
        name = "marconi.log"
    if name is not None:
        path = os.path.join(conf.log_dir or "", name)
        check_appendable("log_file" if conf.log_file else "log_dir", path)
    if conf.use_journal and importlib.util.find_spec("systemd") is None:
        raise ValueError("use_journal: the Python bindings of systemd are missing: install systemd-python")
    if conf.use_syslog and sys.platform == "linux" and not any(os.path.exists(path) for path in SYSLOG):
        raise ValueError("use_syslog: nothing listens: there is no /dev/log")
    if conf.publish_errors and importlib.util.find_spec("oslo_messaging") is None:
        raise ValueError("publish_errors: the library oslo.messaging is missing")


def _check_log_config(path: str) -> None:
    """Raises ValueError if it can't be what logging.config.fileConfig reads; its handlers are not made."""
    parser = configparser.RawConfigParser()
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"log_config_append: {error}") from error
    except configparser.Error as error:
        raise ValueError(f"log_config_append: {path} is no logging configuration: {type(error).__name__}") from error
    for section in ("loggers", "handlers", "formatters"):
        if not parser.has_option(section, "keys"):
            raise ValueError(f"log_config_append: {path} is no logging configuration: there are no keys in [{section}]")


def check_address(host: str) -> None:
    """Raises ValueError if this machine does not have the address to listen on. Its port may be in use: by us."""
    if host.startswith("unix:"):
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) != errno.EADDRINUSE:
            raise ValueError(f"[wsgi] bind = {host}: {getattr(error, 'strerror', None) or error}") from error


def check_trusted_proxy(value: str | None) -> None:
    """Raises ValueError for what no proxy's address is ever equal to: a network, a name, another way to write one."""
    if value in (None, "*", "localhost"):  # the last is what connects to a Unix socket
        return
    try:
        well = str(ipaddress.ip_address(str(value))) == value
    except ValueError:
        well = False
    if not well:
        raise ValueError("[wsgi] trusted_proxy is no address of one proxy, as 192.0.2.1 or 2001:db8::1, and not *")


def unknown_options(conf: Any, options: list[tuple[str | None, Any]]) -> Iterator[str]:
    """What is written in the configuration files or the environment and read by nobody: most likely misspelled.

    ``options``: all there are, by section; no values are shown, they may be secrets.
    """
    known: dict[str, set[str]] = {}
    for section, group in options:
        names = known.setdefault(section or "DEFAULT", set())
        for option in group:
            names |= {option.dest, option.name.replace("-", "_")}
            names |= {old.name.replace("-", "_") for old in option.deprecated_opts if old.name}
    for file in conf.config_file or conf.default_config_files:
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(file, sections).parse()
        for section, values in sections.items():
            if section in NOT_OURS:
                continue
            if section not in known:
                yield f"{file}: there is no section [{section}]{_near(section, known)}"
                continue
            for name in values:
                if name.replace("-", "_") not in known[section]:
                    yield f"{file}: there is no option [{section}] {name}{_near(name, known[section])}"
    by_capitals = {section.upper(): section for section in known}
    for variable in sorted(os.environ):
        capitals, separator, name = variable.removeprefix("OS_").partition("__")
        section = by_capitals.get(capitals, "")
        if not variable.startswith("OS_") or not separator or not section or section in NOT_OURS:
            continue
        if name.lower() not in known[section]:
            near = _near(name.lower(), known[section])
            yield f"environment: there is no option for {variable}: [{section}] {name.lower()}{near}"


def _near(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, sorted(names), n=1)
    return f"; is it {near[0]}?" if near else ""
