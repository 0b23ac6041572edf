"""Options of the log that can't work on this machine, for the start and `marconi check`."""

from __future__ import annotations

import configparser
import importlib.util
import logging
import os
import sys
from typing import Any

#: Where syslog listens.
SYSLOG = ("/dev/log", "/var/run/syslog")


def check_appendable(option: str, path: str) -> None:
    """Raises ValueError if no file can be written at a path; it creates none."""
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
    """Raises ValueError if it can't be what logging.config.fileConfig reads; its handlers are not created."""
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
