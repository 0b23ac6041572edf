"""Looks at how much waits for the subscriptions of a process, for some of them at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from gateway.notify.intake import Intake
from gateway.notify.outlet import Outlet
from gateway.notify.pending import Counts, Pending
from gateway.notify.tasks import PASSING
from gateway.notify.works import Works
from gateway.observe.metrics import NOTIFICATIONS

LOG = logging.getLogger(__name__)

#: Subscriptions that are looked at at once.
COUNTED = 5


class Counting:
    """Keeps the counts of all of them, for the metrics."""

    def __init__(self, pending: Pending):
        self._pending = pending
        #: By the names of subscriptions, in the order in which they were looked at.
        self._counts: dict[str, Counts] = {}

    async def go_on(self, outlets: Mapping[str, tuple[Outlet, Intake]], works: Works) -> None:
        """Look at the next ones. ``outlets``: all that are served, by name."""
        self._counts = {name: counts for name, counts in self._counts.items() if name in outlets}
        new = [name for name in outlets if name not in self._counts]
        for name in (*new, *self._counts)[:COUNTED]:
            if (found := outlets.get(name)) is not None:
                await self._look(name, *found, works)
        for state in ("pending", "dead"):
            NOTIFICATIONS.labels(state).set(sum(getattr(counts, state) for counts in self._counts.values()))

    async def _look(self, name: str, outlet: Outlet, intake: Intake, works: Works) -> None:
        before = self._counts.pop(name, Counts(0, 0))
        outlet.is_counted = True
        try:
            counts = await works.run(
                self._pending.look, intake.pool, outlet.source.info, outlet.subscription, outlet.fates.retries
            )
        except PASSING as error:  # of one pool: the others' are counted all the same
            LOG.debug("subscription %s: what waits can't be counted: %s", name, error)
            counts = Counts(before.pending, before.dead)
        finally:
            outlet.is_counted = False
        self._counts[name] = counts
        outlet.fates.overflown(outlet.subscription, counts.overflown)
