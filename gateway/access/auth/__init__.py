"""Who is calling: one strategy a module, chosen by ``auth_strategy``."""

from __future__ import annotations

from typing import Any

from gateway.access.auth.base import AuthStrategy
from gateway.access.auth.basic import BasicAuth
from gateway.access.auth.keystone import KeystoneAuth
from gateway.access.auth.noauth import NoAuth

#: Strategies by the name that ``auth_strategy`` has for them.
STRATEGIES: dict[str, type[AuthStrategy]] = {"noauth": NoAuth, "basic": BasicAuth, "keystone": KeystoneAuth}


class UnknownStrategy(ValueError):
    """``auth_strategy`` names none that there is."""


def create_strategy(conf: Any) -> AuthStrategy:
    """The configured strategy. Raises UnknownStrategy, or ValueError when its own options are wrong."""
    try:
        kind = STRATEGIES[conf.auth_strategy]
    except KeyError:
        raise UnknownStrategy(
            f"[DEFAULT] auth_strategy: {conf.auth_strategy!r} is not one of {', '.join(STRATEGIES)}"
        ) from None
    return kind(conf)
