"""What handlers know of a request, however it came: who asks, for which project, and what the service works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gateway.access.auth.base import AuthStrategy, Identity
from gateway.access.policy import Policy
from gateway.access.rate_limit import RateLimit
from gateway.access.trusts import KeystoneTrusts
from gateway.core.core import Core
from gateway.core.queues.info import QueueInfo
from gateway.core.queues.names import TOPICS, client_project
from gateway.core.subscriptions.trusts import no_trust
from gateway.web.facts import Facts
from gateway.web.healthcheck import Healthcheck
from gateway.web.operations import Operation
from gateway.web.version import Version

if TYPE_CHECKING:  # a waiting call is a call, which has a context
    from gateway.web.waiting import Places

T = TypeVar("T")


class Feeds(Protocol):
    """Opens live feeds."""

    def open(
        self, call: Any, queue: str, head: list[tuple[str, str]], *, marker: str | None, limit: int, echo: bool,
        claimed: bool, delayed: bool,
    ) -> None:
        """Hand the connection of a Call over to a feed of a queue, whose answer has the headers ``head``.

        It begins after ``marker`` and reads pages of ``limit`` messages. If there is none it raises what to answer.
        """


@dataclass(frozen=True, slots=True)
class Service:
    """What the handlers work with; created once for a configuration.

    ``operations`` are those of the current version, ``older`` those of the older versions that are switched on, oldest
    first.
    """

    core: Core
    healthcheck: Healthcheck
    operations: tuple[Operation, ...]
    auth: AuthStrategy
    policy: Policy
    signing_key: str | None
    admin_mode: bool
    enable_checksum: bool
    client_id_uuid_safe: bool
    client_id_length: tuple[int, int]
    request_rate: RateLimit | None
    byte_rate: RateLimit | None
    trusts: KeystoneTrusts | None = None
    older: Mapping[Version, tuple[Operation, ...]] = field(default_factory=dict)
    facts: Facts = Facts()
    #: For those who wait for messages; None: nobody waits.
    places: Places | None = None
    feeds: Feeds | None = None


@dataclass(slots=True)
class Context:
    """One admitted request. ``project`` and ``client`` are empty for an operation that needs none."""

    service: Service
    project: str
    client: str
    identity: Identity

    @property
    def core(self) -> Core:
        """The core that answers."""
        return self.service.core

    def now(self) -> int:
        """The side-store's time, in milliseconds since 1970."""
        now: int = self.core.now()
        return now

    def allows(self, rule: str) -> bool:
        """Does the policy let the caller do what a rule is for? Raises IdentityUnavailable."""
        return self.service.policy.allows(rule, self.identity, self.project.removeprefix(TOPICS))

    def give_trust(self, expires: int) -> str:
        """The id of a new trust of the caller's, until ``expires`` (ms); see KeystoneTrusts.create."""
        trusts = self.service.trusts
        if trusts is None:
            return no_trust(expires)
        return trusts.create(self.identity, client_project(self.project), expires)

    def on_queue(self, name: str, work: Callable[[QueueInfo], T], *, sure: bool = False) -> T | None:
        """The result of ``work`` on a queue, None if there is no such queue; see Directory.on."""
        return self.core.directory.on(self.project, name, work, sure=sure)
