"""The direct way to MongoDB: finds, inserts and deletes that are sent straight to the primary.

The driver takes four times as much CPU for a command (docs/performance.md), but knows all about elections, retries and
sessions. So it is asked who the primary is, and it repeats whatever fails here. ``[side_store] direct = false`` turns
the direct way off; URI options and mechanisms that it does not know do so too.
"""

from storage.mongodb.direct.commands import DUPLICATE_KEY, Direct
from storage.mongodb.direct.wire import DATES

__all__ = ["DATES", "DUPLICATE_KEY", "Direct"]
