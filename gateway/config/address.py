"""Type of the option [wsgi] bind."""

from __future__ import annotations

import os

from oslo_config import types

#: Prefix of a [wsgi] bind value that is the path of a Unix socket.
UNIX = "unix:"

#: Maximum length of the path of a Unix socket, in bytes (unix(7)).
LONGEST_PATH = 107


class Address(types.HostAddress):
    """An IP address, a host name, or ``unix:`` and an absolute path. Raises ValueError for anything else."""

    def __init__(self) -> None:
        super().__init__(type_name="address, name or unix:/path value")

    def __call__(self, value: str) -> str:
        if not value.startswith(UNIX):
            return str(super().__call__(value))
        path = value.removeprefix(UNIX)
        if not path.startswith("/") or path.endswith("/") or not path.isprintable():
            raise ValueError(f"{value!r}: unix: needs an absolute path, as in unix:/run/marconi/marconi.sock")
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise ValueError(f"{value!r}: the path of a Unix socket must not be longer than {LONGEST_PATH} bytes")
        return value
