"""How the deliveries of a subscription go, as its owner sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from gateway.config.notifications import Notifications
from gateway.core.subscriptions.live import LiveSubscriptions
from gateway.core.subscriptions.record import ACTIVE, Subscription
from gateway.core.subscriptions.retry import RetryPolicy, acting_policy, waits
from gateway.core.subscriptions.status import Attempt, DeliveryStatus, DeliveryStatuses
from gateway.core.subscriptions.waiting import Waiting, WaitingMessages

#: What an active subscription is shown as while all attempts fail.
FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Progress:
    """A subscription with what is known of its deliveries. ``policy`` None: ``retry_schedule`` acts.

    ``delays``: the seconds before each retry, without jitter.
    """

    subscription: Subscription
    status: DeliveryStatus
    waiting: Waiting
    policy: RetryPolicy | None
    delays: Sequence[int]
    now: int

    @property
    def state(self) -> str:
        """The state to show."""
        state = self.subscription.state
        return FAILING if state == ACTIVE and self.status.is_failing else state

    @property
    def next_attempt(self) -> int:
        """When the next retry that is known of is due (ms), 0 if there is none."""
        due = (attempt.next_attempt for attempt in self.status.attempts)
        return min((at for at in due if at > self.now), default=0)


class SubscriptionProgress:
    """Puts together what others know. ``metadata(project, queue)`` is that of a queue."""

    def __init__(
        self, live: LiveSubscriptions, statuses: DeliveryStatuses, waiting: WaitingMessages, options: Notifications,
        metadata: Callable[[str, str], Mapping[str, Any]],
    ):
        self._live = live
        self._statuses = statuses
        self._waiting = waiting
        self._options = options
        self._metadata = metadata

    def of(self, project: str, source: str, id_: str) -> Progress:
        """How it goes. Raises NotFound."""
        found = self._live.get(project, source, id_)
        policy = acting_policy(
            RetryPolicy.stored(self._metadata(project, source).get("_retry_policy")),
            RetryPolicy.stored(found.options.get("_retry_policy")),
        )
        return Progress(
            found, self._statuses.get(found.name), self._waiting.count(found), policy,
            waits(policy, self._options.retry_schedule), self._live.now(),
        )

    def attempts(
        self, project: str, source: str, id_: str, marker: str | None, limit: int, status: int | None
    ) -> list[Attempt]:
        """Up to ``limit`` of the last attempts, newest first, older than the one with the id ``marker``.

        ``status``: those with this status of HTTP alone. Raises NotFound.
        """
        kept = self._statuses.get(self._live.get(project, source, id_).name).attempts
        if marker is not None:
            ids = [attempt.id for attempt in kept]
            kept = kept[ids.index(marker) + 1:] if marker in ids else ()
        return list(islice((each for each in kept if status is None or each.status == status), limit))
