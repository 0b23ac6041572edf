"""The query for free messages, which MongoDB answers from an index that others change meanwhile."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from storage.mongodb.documents import HIDDEN_UNTIL, LEASE_FREE, LEASE_HELD
from storage.mongodb.landed import MongoDBLanded


def test_lease_that_is_found_twice_is_not_taken_for_a_message() -> None:
    """It was given back while the index was read, first as held and then as free."""
    landed: Any = MongoDBLanded.__new__(MongoDBLanded)
    leases = [{HIDDEN_UNTIL: LEASE_HELD, "until": 2000, "last": 0}, {HIDDEN_UNTIL: LEASE_FREE, "until": 0, "last": 7}]
    landed._database = SimpleNamespace(find=lambda *args, **kwargs: list(leases))
    landed._calls, landed.clock, landed._last_seen = nullcontext, SimpleNamespace(now=lambda: 1000), {}
    assert landed.find_free("p/q", 5) == ([], True)
    leases.pop(0)
    assert landed.find_free("p/q", 5) == ([], False)
