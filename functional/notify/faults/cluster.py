"""The cluster of the fault run, with notifiers beside gateways that deliver nothing themselves."""

from __future__ import annotations

from collections.abc import Callable

from functional.faults.cluster import Cluster, FaultyGateway
from functional.services.gateway import Options
from functional.services.notifier import Notifying
from functional.services.process import Service

#: Number of `marconi notify`, each with one process.
NOTIFIERS = 2

#: Seconds that an attempt may take.
REQUEST_TIMEOUT = 4.0

#: Seconds before each retry: soon, and often enough for all spells of receivers.
SCHEDULE = [1, 1, 2, 2, *[3] * 40]

#: Seconds of heartbeats: a broker gives back what a dead process had after two.
HEARTBEAT = 5

OPTIONS: Options = {
    "wsgi": {"workers": 1},
    "bridge": {"heartbeat": HEARTBEAT},
    "notification": {
        "deliver": False, "allowed_networks": ["127.0.0.1/32"], "retry_schedule": SCHEDULE,
        "request_timeout": REQUEST_TIMEOUT, "connect_timeout": REQUEST_TIMEOUT,
    },
}


class Notifier(Notifying, FaultyGateway):
    """`marconi notify` with one process."""


class NotifyCluster(Cluster):
    """``size`` brokers and mongods, two gateways and two notifiers. ``mutant``: a deliberate bug of all of them."""

    def __init__(self, say: Callable[[str], None], mutant: str | None = None, size: int = 1) -> None:
        super().__init__(say, mutant, size, OPTIONS)

    def _make_front(self) -> list[Service]:
        gateways = super()._make_front()
        self.notifiers = [Notifier(f"notifier-{n}", self._options(), self._mutant) for n in range(1, NOTIFIERS + 1)]
        return [*gateways, *self.notifiers]

    @property
    def services(self) -> list[Service]:
        return [*super().services, *self.notifiers]
