"""Actions on the service itself."""

from __future__ import annotations

from gateway.api.v2 import health, home, root
from gateway.stream.websocket.actions.action import Action, Answer, Asked, like


def get_home(asked: Asked) -> Answer:
    """What can be done over HTTP."""
    return 200, {"resources": home.resources(asked.service.operations, asked.session.base)}


def ping(asked: Asked) -> Answer:
    """Does the service work?"""
    root.ping(asked)
    return 204, {}


def check_health(asked: Asked) -> Answer:
    """Does every kind of operation work in each pool?"""
    return 200, health.health(asked)


ACTIONS = (
    Action("get_home_doc", like(root.home), "the home document of the API over HTTP", (), get_home),
    Action("ping_node", like(root.ping), "204 when broker and side-store answer, else 503", (), ping),
    Action(
        "check_node_health", like(health.health),
        "tries each kind of operation in each pool; with `admin_mode` only, and for the role `admin`", (), check_health,
    ),
)
