"""A pool that does not answer does not touch the queues of others."""

from functional.pools.paused import compare


def test_calls_for_other_pools_take_as_long_as_before() -> None:
    """All of them succeed. The bound has room for a machine that others use; docs/performance.md has the figure."""
    assert compare(count=10, rounds=1, duration=3.0) < 2.0
