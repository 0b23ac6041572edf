"""Credentials: those of the strategy in force, and pre-signed requests."""

from __future__ import annotations

from typing import Any

from gateway.access.policy import ADMINISTRATOR
from gateway.api.v2.parse import SHARE_PATHS
from gateway.web.facts import Facts
from gateway.web.operations import Operation


def _header(name: str, description: str) -> dict[str, Any]:
    return {"type": "apiKey", "in": "header", "name": name, "description": description}


#: Schemes by ``auth_strategy``. With noauth administrators alone need theirs.
STRATEGIES: dict[str, dict[str, Any]] = {
    "noauth": {"roles": _header(
        "X-Roles", "Roles of the caller, with commas between them; `member` by default. This service believes them."
    )},
    "basic": {"basic": {
        "type": "http", "scheme": "basic", "description": "The user and password that the operator gave you."
    }},
    "keystone": {"token": _header("X-Auth-Token", "A token of the OpenStack Identity service (Keystone).")},
}

#: The headers of a pre-signed request, which it has all of.
SIGNED = {
    "signature": _header("URL-Signature", "What `share_queue` answered as `signature`."),
    "paths": _header("URL-Paths", "Its `paths`, with commas between them."),
    "methods": _header("URL-Methods", "Its `methods`, with commas between them."),
    "expires": _header("URL-Expires", "Its `expires`."),
}

#: Paths below a queue that signatures are made for.
_SHARED = tuple(f"/v2/queues/{{queue_name}}/{name}" for name in SHARE_PATHS)


def schemes(facts: Facts) -> dict[str, Any]:
    """The document's security schemes."""
    return STRATEGIES[facts.auth_strategy] | (SIGNED if facts.can_share else {})


def requirements(operation: Operation, facts: Facts) -> list[dict[str, list[str]]]:
    """The credentials that an operation takes, one way or the other; empty if it needs none."""
    usual: list[dict[str, list[str]]] = [{name: []} for name in STRATEGIES[facts.auth_strategy]]
    if facts.auth_strategy == "noauth" and operation.default_rule != ADMINISTRATOR:
        usual = []
    shared = operation.path.startswith(_SHARED) or operation.path.endswith("/confirm")
    if facts.can_share and operation.shareable and shared:
        usual = [*(usual or [{}]), {name: [] for name in SIGNED}]
    return usual
