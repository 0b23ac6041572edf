"""How many queues one project may have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.core.errors import QuotaExceeded
from gateway.core.queues.lock import locked
from gateway.core.queues.names import kind_of
from gateway.observe.metrics import OVER_QUOTA
from storage.base import SideStore


class QueueQuota:
    """At most ``most`` queues for each project, counted in the side-store, whatever number of gateways create them."""

    def __init__(self, most: int, store: SideStore):
        self._most = most
        self._store = store
        self._refused = OVER_QUOTA.labels("queues")

    @contextmanager
    def room(self, project: str, q: str) -> Iterator[None]:
        """Hold the right to create queue ``q``, alone in the project; one that exists needs none.

        Raises QuotaExceeded, and Busy after a while.
        """
        if self._store.catalogue.get_queue(q) is not None:
            yield
            return
        self._check_count(project, q)
        # The lock has a name that no queue can have.
        with locked(self._store, f"{project}/", f"other {kind_of(project)}s of this project are being made; try again"):
            self._check_count(project, q)
            yield

    def _check_count(self, project: str, q: str) -> None:
        # Counted first: if somebody else has just created this very queue it is there now.
        if self._store.catalogue.count_queues(project) >= self._most and self._store.catalogue.get_queue(q) is None:
            self._refused.inc()
            raise QuotaExceeded(
                f"This project may have {self._most} {kind_of(project)}s, and has them; delete one to make another"
            )
