"""What every side-store has to do: inherit SideStoreSuite and provide a `store` fixture.

The suite is installed with the package, so that authors of drivers can run it; it needs pytest, which nothing else here
imports.
"""

from storage.suite.appending import AppendingTests
from storage.suite.claiming import ClaimingTests
from storage.suite.claims import ClaimTests
from storage.suite.copies import CopyOrderTests, CopyTests
from storage.suite.group_claims import GroupClaimTests
from storage.suite.group_crowd import GroupCrowd, GroupCrowdTests
from storage.suite.grouping import GroupTests, add_groups
from storage.suite.keys import KeyTests
from storage.suite.landing import LandingTests
from storage.suite.leases import LeaseTests
from storage.suite.listing import ListingTests
from storage.suite.moving import MovingTests
from storage.suite.pools import PoolTests
from storage.suite.queues import QueueTests
from storage.suite.reading import ReadingTests
from storage.suite.ready import NotifyingTests, ReadyTests
from storage.suite.records import RecordTests
from storage.suite.remembering import RememberingTests
from storage.suite.reservations import ReservationTests
from storage.suite.support import (
    CROWD,
    HOUR,
    MINUTE,
    Clock,
    add,
    created,
    free_ids,
    ids_of,
    listed,
    new,
    new_claim,
    take,
    together,
)

__all__ = [
    "CROWD", "HOUR", "MINUTE", "Clock", "GroupCrowd", "SideStoreSuite", "add", "add_groups", "created", "free_ids",
    "ids_of", "listed", "new", "new_claim", "take", "together",
]


class SideStoreSuite(
    QueueTests, ListingTests, PoolTests, RecordTests, ReservationTests, KeyTests, LeaseTests, LandingTests,
    AppendingTests, ClaimingTests, ClaimTests, ReadingTests, MovingTests, CopyTests, CopyOrderTests, ReadyTests,
    NotifyingTests, GroupTests, GroupClaimTests, GroupCrowdTests, RememberingTests,
):
    """One test for each promise of storage/base.py, catalogue.py, landed.py, grouping.py and copying.py."""
