"""Tells those who move queues that this process has nothing more of a subscription which is to move.

So nothing is under way when the mover takes what waits to the new pool; see gateway.core.migration.subscriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from gateway.core.subscriptions.record import Subscription
from gateway.core.subscriptions.records import SubscriptionRecords
from gateway.core.subscriptions.slots import slot_of
from gateway.notify.shares import Shares

#: Subscriptions that are let go of in one look: meanwhile the next look waits, without which no attempt begins.
AT_ONCE = 40


def let_go(
    subscriptions: Iterable[Subscription], records: SubscriptionRecords, shares: Shares,
    is_served: Callable[[str], bool],
) -> None:
    """Record it of those that are in this process' parts: nobody else serves them, nor begins to. Blocks.

    ``subscriptions``: those that are to be let go of.
    ``is_served``: has this process, of the subscription of this name, anything still? Raises StoreError, Busy.
    """
    ours = (found for found in subscriptions if shares.holds(slot_of(found.id)) and not is_served(found.name))
    for found in islice(ours, AT_ONCE):
        records.let_go(found)
