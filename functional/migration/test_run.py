"""The short form of the migration run, see docs/reliability.md."""

import pytest

from functional.faults.checker import ORDER
from functional.installed import require
from functional.migration.pools import DEFAULT, STORED, Pools
from functional.migration.run import run_on
from functional.services.mongodb import find_mongod
from functional.services.rabbitmq import find_scripts

#: Pools of brokers: RabbitMQ as it is installed, and RabbitMQ 4.
NAMES = (DEFAULT, "rabbitmq-4")

#: Share of the messages that may be overtaken, as in the fault runs; queues that stay where they are have it too.
OVERTAKEN = 0.01


@pytest.mark.timeout(240)
def test_no_promise_is_broken_and_no_post_refused() -> None:
    require(find_scripts)
    require(find_mongod)
    with Pools(print, NAMES) as pools:
        result = run_on(pools, 1, 0.0, print, faults=False)
    print("\n".join(result.lines()))
    report = result.report
    assert {violation.rule for violation in report.violations} <= {ORDER}
    assert len(report.violations) <= OVERTAKEN * report.counts["delivered"]
    assert {hop.target for hop in result.journey.hops if hop.ended} >= {*NAMES, STORED}
    assert report.counts["acknowledged"] > 100
