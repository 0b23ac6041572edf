"""A crowd whose receivers mostly hang or refuse, in short; `functional.notify.crowd` has the whole."""

import pytest

from functional.installed import require
from functional.notify.crowd import HEALTHY, MOST, run
from gateway.bench.stats import percentile

#: Seconds that 99 % may wait on a machine that is busy with other tests: a receiver hangs for fifteen.
LAG = 2.0


@pytest.mark.thorough
def test_healthy_receivers_wait_for_nobody():
    found = require(lambda: run(10, 20.0, 10.0, lambda text: None))
    print("\n".join(found.lines()))
    assert found.missing == 0 and len(found.lags) == found.posts * HEALTHY >= 150 * HEALTHY
    assert percentile(sorted(found.lags), 99) < LAG
    assert found.hanging == 50 and 1 <= found.most <= MOST
