"""Nobody is let in by accident."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from gateway.config.address import UNIX
from gateway.config.refused import CannotServe

ADVICE = (
    " Choose another auth_strategy, or set [wsgi] allow_unauthenticated_remote = true if that is what you want."
)


def is_local(bind: str) -> bool:
    """Can only this machine reach that address?"""
    return bind.startswith(UNIX) or bind == "localhost" or _is_loopback(bind)


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def check_exposure(conf: Any, bind: str | None = None) -> None:
    """Refuse to let everybody in. ``bind``: where it listens, if not where ``conf`` says. Raises CannotServe."""
    for section, address in (("wsgi", bind or conf.wsgi.bind), ("websocket", conf.websocket.bind)):
        if address is not None and lets_all_in(conf) and not is_local(address):
            raise CannotServe(
                f"[{section}] bind = {address} can be reached from other machines, and auth_strategy = noauth lets"
                f" everybody use every project.{ADVICE}"
            )


def lets_all_in(conf: Any) -> bool:
    """Must others than this machine be kept away?"""
    return bool(conf.auth_strategy == "noauth" and not conf.wsgi.allow_unauthenticated_remote)


class LocalOnly:
    """A WSGI application for this machine alone, where another server listens, who knows on what address."""

    BODY = orjson.dumps({
        "title": "Forbidden",
        "description": "auth_strategy = noauth lets everybody use every project, so only this machine may call."
                       + ADVICE,
    })

    def __init__(self, app: Callable[..., Iterable[bytes]]):
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        address = environ.get("REMOTE_ADDR") or ""
        # No address: a Unix socket.
        if address in ("", "localhost", UNIX) or _is_loopback(address):
            return self._app(environ, start_response)
        start_response("403 FORBIDDEN", [
            ("Content-Type", "application/json"), ("Content-Length", str(len(self.BODY))),
        ])
        return () if environ["REQUEST_METHOD"] == "HEAD" else (self.BODY,)
