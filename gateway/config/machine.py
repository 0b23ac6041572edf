"""Checks of a configuration that depend on this machine and on its files, at the start and in `marconi check`."""

from __future__ import annotations

import difflib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg

#: Sections of libraries that have more options than they list: their names are not checked.
NOT_OURS = frozenset({"keystone_authtoken", "service_auth", "trustee"})


def check_address(host: str) -> None:
    """Raises ValueError if this machine can't listen on the address. The port is not checked: we may be using it."""
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
    """Raises ValueError if the value can't equal a client's address: a network, a name, an unusual spelling."""
    if value in (None, "*", "localhost"):  # localhost: clients of a Unix socket
        return
    try:
        well = str(ipaddress.ip_address(str(value))) == value
    except ValueError:
        well = False
    if not well:
        raise ValueError("[wsgi] trusted_proxy is no address of one proxy, as 192.0.2.1 or 2001:db8::1, and not *")


def unknown_options(conf: Any, options: list[tuple[str | None, Any]]) -> Iterator[str]:
    """One sentence for each option in the configuration files or the environment that doesn't exist.

    Most likely it is misspelled. ``options``: all that exist, by section. Values may be secrets and are not shown.
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
