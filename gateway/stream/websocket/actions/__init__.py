"""The table of all actions, but for ``authenticate``. docs/websocket.md is generated from it."""

from __future__ import annotations

from gateway.stream.websocket.actions import claims, messages, queues, service, subscriptions
from gateway.stream.websocket.actions.action import Action

#: In the order of docs/websocket.md, by name.
ACTIONS: dict[str, Action] = {
    action.name: action
    for together in (queues, messages, claims, subscriptions, service)
    for action in together.ACTIONS
}
