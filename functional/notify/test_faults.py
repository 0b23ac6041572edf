"""The short form of the fault run of notifications, see docs/reliability.md: everybody is told, whatever goes wrong."""

import pytest

from functional.installed import require
from functional.notify.faults.run import run
from functional.services.mongodb import find_mongod
from functional.services.rabbitmq import find_scripts

#: Seconds in which faults begin.
DURATION = 10.0

#: Draws the faults: a notifier is killed, then the broker. Another one: `python -m functional.notify.faults --seed N`.
SEED = 27

#: Faults that every delivery must survive.
KINDS = ("notifier killed", "broker killed", "side-store killed")


@pytest.mark.timeout(300)
def test_everybody_is_told_under_faults():
    require(find_scripts)
    require(find_mongod)
    report, history = run(SEED, DURATION, print, KINDS)
    print("\n".join(report.lines()))
    assert report.good
    assert report.counts["delivered"] > 100
    assert history.faults
    assert any(subscription.changes for subscription in history.subscriptions.values())
