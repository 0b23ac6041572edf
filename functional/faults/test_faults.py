"""The short form of the fault run, see docs/reliability.md for the long one: every promise is kept under faults."""

import pytest

from functional.faults.run import run
from functional.installed import require
from functional.services.mongodb import find_mongod
from functional.services.rabbitmq import find_scripts

#: Seconds of faults; a cluster's start, its last recovery and the look at what is left take twice as long together.
DURATION = 45.0

#: Draws the faults. Another one: `python -m functional.faults --seed N --duration 45`.
SEED = 4


@pytest.mark.timeout(300)
def test_no_promise_is_broken_under_faults(capsys):
    require(find_scripts)
    require(find_mongod)
    report, _ = run(SEED, DURATION, print)
    print("\n".join(report.lines()))
    assert report.good
    assert report.counts["acknowledged"] > 100
