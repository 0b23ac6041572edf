"""Addresses to listen on, as options have them."""

from __future__ import annotations

import os

from oslo_config import types

#: How a value of [wsgi] bind begins that is the path of a Unix socket.
UNIX = "unix:"

#: Longest path of a Unix socket, in bytes (unix(7)).
LONGEST_PATH = 107


class Address(types.HostAddress):
    """Type of [wsgi] bind: an address, a name, or ``unix:`` and an absolute path."""

    def __init__(self) -> None:
        super().__init__(type_name="address, name or unix:/path value")

    def __call__(self, value: str) -> str:
        if not value.startswith(UNIX):
            return str(super().__call__(value))
        path = value.removeprefix(UNIX)
        if not path.startswith("/") or path.endswith("/") or not path.isprintable():
            raise ValueError(f"{value!r}: unix: needs an absolute path, as in unix:/run/marconi/marconi.sock")
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise ValueError(f"{value!r}: the path of a Unix socket has {LONGEST_PATH} bytes at the most")
        return value
