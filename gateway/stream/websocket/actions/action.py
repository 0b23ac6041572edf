"""An action: what a request over WebSocket can ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from gateway.api.v2.operations import OPERATIONS
from gateway.core.errors import InvalidInput
from gateway.stream.websocket.actions.fields import Field, check
from gateway.stream.websocket.session import Session
from gateway.web import body as bodies
from gateway.web.context import Context, Service
from gateway.web.operations import Operation

#: Status and body of an answer. The body is a JSON value.
Answer = tuple[int, Any]


@dataclass(slots=True)
class Asked(Context):
    """An admitted request: its body, its headers, the session of its connection, and whether its frame was binary."""

    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    session: Session = field(default_factory=Session)
    is_binary: bool = False

    @property
    def queue(self) -> str:
        """The queue that it is for."""
        name: str = self.body["queue_name"]
        return name

    def get(self, name: str, default: Any = None) -> Any:
        """A member of the body; ``default`` if it is missing or null."""
        value = self.body.get(name)
        return default if value is None else value

    def strings(self, name: str) -> list[str] | None:
        """A list of strings in the body, None if it is missing. Raises InvalidInput for other lists."""
        found = self.get(name)
        if found is not None and not all(isinstance(each, str) for each in found):
            raise InvalidInput(f"{name!r} must be a list of strings", bodies.TITLE)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """Plain data. ``name``: Zaqar's. ``operation``: the call of the API that it is like; it has the policy's rule.

    ``summary``: what the documentation says about it. ``fields``: what the body has. ``run`` does it, with the handlers
    of the API.
    """

    name: str
    operation: Operation
    summary: str
    fields: tuple[Field, ...]
    run: Callable[[Asked], Answer]
    #: May it be pre-signed?
    is_signable: bool = False

    def check(self, body: Mapping[str, Any]) -> None:
        """Raises Unusable for a body that it can't be done with."""
        check(body, self.fields, "body")

    def path(self, body: Mapping[str, Any]) -> str:
        """The path of the call that it is like, for signatures and the audit log."""
        values = {name: quote(str(body.get(name, "")), safe="") for name in _VARIABLES}
        return self.operation.path.format(**values)

    def is_allowed(self, service: Service, asked: Context) -> bool:
        """Does the policy allow it? Raises IdentityUnavailable."""
        return self.operation.rule is None or asked.allows(self.operation.rule)


def like(handler: Callable[..., Any]) -> Operation:
    """The operation of the API that has this handler."""
    return next(operation for operation in OPERATIONS if operation.handler == handler)


#: Variables of paths: members of the body have the same names.
_VARIABLES = ("queue_name", "message_id", "claim_id", "subscription_id")
