"""The scripts behind docs/performance.md run; what they measure here, in moments, says nothing."""

import contextlib
import io
import subprocess
import sys

import pytest

from functional.deployments import beside, through
from functional.peers import physical
from functional.services.gateway import Gateway, merge
from functional.services.mongodb import MongoDB
from functional.services.process import started
from functional.services.rabbitmq import RabbitMQ
from gateway.bench.progress import Progress
from gateway.bench.rounds import Server
from gateway.bench.settings import Settings

#: Seconds for a run of a few short turns on a machine that is busy with other things.
TIMEOUT = 100


def run(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=TIMEOUT)


def test_scaling_compares_with_the_first_case():
    done = run("functional.scaling", "--duration", "0.3", "--warm-up", "0.1", "--rounds", "1", "--backlog", "60",
               "--claimed", "40", "--queues", "3", "backlog", "claimed", "queues")

    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    labels = [(row[0], row[1], row[4]) for row in rows if row[0].startswith("cycle")]
    assert [label[1] for label in labels] == [
        "empty queue", "60 waiting", "empty queue", "60 waiting", "none", "40 claimed", "none", "40 claimed", "1 queue",
        "3 queues, 1 busy",
    ]
    assert all(ratio == "1.00×" for _, label, ratio in labels if label in ("empty queue", "none", "1 queue"))
    assert "errors" not in done.stdout


def test_growth_is_of_gateways_with_a_share_of_a_core():
    done = run("functional.growth", "--duration", "1", "--warm-up", "1", "--rounds", "1", "-w", "cycle-1",
               "--share", "0.5")

    if "control group" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    assert [row[1:3] for row in rows[2:]] == [
        [queues, str(number)] for queues in ("one each", "all on one") for number in (1, 2, 4, 8)
    ]
    assert all(int(row[3].replace(",", "")) > 0 for row in rows[2:])


def test_bare_publishers_and_writers_move_messages():
    with contextlib.ExitStack() as stack:
        rabbitmq, mongodb = started(stack, RabbitMQ(), print), started(stack, MongoDB(), print)
        gateway = started(stack, Gateway(merge(through(rabbitmq), beside(mongodb, "marconi"))), print)
        settings = Settings(duration=0.3, warm_up=0.1, rounds=1)
        rows = physical.measure(Server("gateway", gateway.url), rabbitmq, mongodb, settings, Progress(io.StringIO()))

    assert len(physical.rows_table(rows).splitlines()) == 2 + len(physical.BESIDE)
    assert all(rate > 0 for row in rows for rate in (*row.bare_rates, *row.gateway_rates))


def test_soak_counts_messages_and_memory():
    done = run("functional.soak", "--embedded", "--messages", "10000", "--step", "0.3")

    if "too few messages" not in done.stderr:
        assert "times that after 20% of the messages" in done.stdout, done.stderr
    assert " messages: " in done.stderr
