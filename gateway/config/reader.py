"""Reads the configuration from files, the environment and the command line."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg
from oslo_log import log

from gateway import __version__
from gateway.config.options import list_opts

#: Class of a section's values in oslo.config.
Section = cfg.ConfigOpts.GroupAttr

#: Where oslo.config's parse errors quote the line that is wrong: at their end.
_QUOTED_LINE = re.compile(r": (['\"]).*\1$", re.DOTALL)


class Configuration(cfg.ConfigOpts):
    """oslo.config's ConfigOpts, but ``$name`` in a secret option does not refer to another option.

    ``$``, ``$$`` and ``\\$`` each stand for one dollar sign there.
    """

    _reading = threading.local()

    def _do_get(self, name: str, group: Any = None, namespace: Any = None) -> Any:
        outer = getattr(self._reading, "secret", False)
        self._reading.secret = name not in self._groups and self._is_secret(name, group)
        try:
            return super()._do_get(name, group, namespace)
        finally:
            self._reading.secret = outer

    def _is_secret(self, name: str, group: Any) -> bool:
        return bool(self._get_opt_info(name, group)["opt"].secret)

    def _substitute(self, value: Any, group: Any = None, namespace: Any = None) -> Any:
        if isinstance(value, str) and getattr(self._reading, "secret", False):
            return value.replace("\\$", "$").replace("$$", "$")
        return super()._substitute(value, group, namespace)


def load(args: Sequence[str] = (), config_files: Sequence[str] | None = None) -> Configuration:
    """The configuration from files, environment (``OS_<SECTION>__<OPTION>``) and command line ``args``.

    ``config_files`` None: search oslo.config's usual places (~/.marconi, ~, /etc/marconi, /etc). Raises ValueError or
    oslo_config.cfg.Error, with a text for the operator, if a file or a value can't be read.
    """
    conf = Configuration()
    log.register_options(conf)
    for section, options in list_opts():
        conf.register_opts(options, group=section)
    files = None if config_files is None else list(config_files)
    try:
        conf(args=list(args), project="marconi", version=__version__, default_config_files=files)
    except cfg.ConfigFileParseError as error:  # its text quotes the line, which may hold a secret
        raise cfg.ConfigFileParseError(error.config_file, _QUOTED_LINE.sub("", str(error.msg))) from None
    except UnicodeDecodeError:
        raise ValueError(f"a configuration file is not UTF-8: {', '.join(files or ['the usual ones'])}") from None
    except OSError as error:
        raise ValueError(f"a configuration file can't be read: {error}") from error
    _read_all(conf)
    return conf


def _read_all(conf: Configuration) -> None:
    """Read each option once, so that a bad value stops the start. Raises ValueError or oslo_config.cfg.Error."""
    sections = [(name, conf[name]) for name in conf if isinstance(conf[name], Section)]
    for section, values in [("DEFAULT", conf), *sections]:
        for name in values:
            try:
                values[name]
            except cfg.NoSuchOptError as error:
                raise ValueError(
                    f"[{section}] {name}: a $ refers to another option, and there is none of that name: write $$ for a"
                    " dollar sign"
                ) from error
